// Names of files as clients see them. To Linux they are bytes, on the wire they are text.
//
// A byte that is no part of UTF-8 is shown as a character of its own: U+EF80 to U+EFFF stand for the
// bytes 0x80 to 0xFF. These are private characters of Unicode, which no font or keyboard has; where one
// of them really is in a name, its three bytes are shown in that way, too. So every name has one text,
// every text one name, and what a list shows can be asked for.

const BYTE_SHOWN_FIRST = 0xef80;
const BYTE_SHOWN = /[\uef80-\uefff]/;
const BYTES_SHOWN = /[\uef80-\uefff]+/g;
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** The text of a name or path. */
export function shownName(bytes: Uint8Array): string {
  const text = utf8Of(bytes);
  if (text !== null && !BYTE_SHOWN.test(text)) return text;
  let shown = "";
  for (let at = 0; at < bytes.length; ) {
    const character = characterAt(bytes, at);
    shown += character?.text ?? String.fromCharCode(BYTE_SHOWN_FIRST - 0x80 + (bytes[at] ?? 0));
    at += character?.length ?? 1;
  }
  return shown;
}

/** What to give to system calls for a text: itself, unless it stands for bytes that are no text. */
export function systemName(shown: string): string | Buffer {
  return BYTE_SHOWN.test(shown) ? systemBytes(shown) : shown;
}

/** The bytes that a text stands for. */
export function systemBytes(shown: string): Buffer {
  const pieces: Buffer[] = [];
  let at = 0;
  for (const { 0: run, index } of shown.matchAll(BYTES_SHOWN)) {
    pieces.push(Buffer.from(shown.slice(at, index)));
    pieces.push(Buffer.from(Array.from(run, (c) => c.charCodeAt(0) - BYTE_SHOWN_FIRST + 0x80)));
    at = index + run.length;
  }
  pieces.push(Buffer.from(shown.slice(at)));
  return Buffer.concat(pieces);
}

/** The character of UTF-8 that begins there; null for a byte that is to be shown by itself. */
function characterAt(bytes: Uint8Array, at: number): { text: string; length: number } | null {
  for (let length = 1; length <= 4 && at + length <= bytes.length; length++) {
    const text = utf8Of(bytes.subarray(at, at + length));
    if (text !== null) return BYTE_SHOWN.test(text) ? null : { text, length };
  }
  return null;
}

function utf8Of(bytes: Uint8Array): string | null {
  try {
    return UTF8.decode(bytes);
  } catch {
    // The decoder has no other way to say that it is none.
    return null;
  }
}
