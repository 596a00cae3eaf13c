// JSON of clients. A mebibyte of it can be half a million values, or as many levels: reading and checking
// that takes everybody's time, up to seconds, and deep recursion ends in an error of ours.

/** Arguments and variables of a command are some 6,000 together. */
const VALUES_MAX = 16_384;
/** Of what any schema of ours has, twice. */
const DEPTH_MAX = 32;

const QUOTE = 34;
const COMMA = 44;
const OPEN_ARRAY = 91;
const BACKSLASH = 92;
const CLOSE_ARRAY = 93;
const OPEN_OBJECT = 123;
const CLOSE_OBJECT = 125;

/** What the text says is larger than its bounds; the message is one sentence for the client. */
export class BoundlessJson extends Error {
  override readonly name = "BoundlessJson";
}

/** What the text says. Throws BoundlessJson, and SyntaxError for what is no JSON. */
export function parseBoundedJson(text: string): unknown {
  requireBounds(text);
  return JSON.parse(text);
}

/** Looks at marks only: whether they are where they may be is for the parser. */
function requireBounds(text: string): void {
  let depth = 0;
  let values = 1;
  for (let i = 0; i < text.length; i++) {
    switch (text.charCodeAt(i)) {
      case QUOTE:
        i = endOfString(text, i);
        break;
      case OPEN_ARRAY:
      case OPEN_OBJECT:
        if (++depth > DEPTH_MAX) throw new BoundlessJson(`it has more than ${DEPTH_MAX} levels`);
        break;
      case CLOSE_ARRAY:
      case CLOSE_OBJECT:
        depth -= 1;
        break;
      case COMMA:
        if (++values > VALUES_MAX) throw new BoundlessJson(`it has more than ${VALUES_MAX} values`);
    }
  }
}

/** Where the closing quote is, or the end of the text. */
function endOfString(text: string, start: number): number {
  let at = start + 1;
  for (; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === BACKSLASH) at += 1;
    else if (code === QUOTE) break;
  }
  return at;
}
