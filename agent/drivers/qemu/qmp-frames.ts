// Cuts what QEMU sends into QMP messages and says what kind each is. What arrives here may come from
// a VMM that its guest has taken over.

import { VmmError } from "../../vmm/vmm.ts";

// The longest honest answer to what we ask is some hundred bytes.
const FRAME_BYTES_MAX = 256 * 1024;
const ERROR_TEXT_MAX = 500;
/** Lines that come at once; QEMU sends some for each command, and more only from a guest that has it. */
const LINES_AT_ONCE_MAX = 1_000;

export type QmpFrame =
  | { readonly kind: "greeting" }
  | { readonly kind: "event"; readonly name: string }
  | { readonly kind: "result"; readonly id: number; readonly value: unknown }
  | { readonly kind: "error"; readonly id: number; readonly message: string };

export class QmpFrames {
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;

  /**
   * The frames that these bytes complete, one after the other: nothing is read behind one that ends the
   * connection. Throws VmmError on anything that is not QMP.
   */
  *push(bytes: Uint8Array): Generator<QmpFrame> {
    let rest = bytes;
    let lines = 0;
    for (let end = rest.indexOf(0x0a); end >= 0; end = rest.indexOf(0x0a)) {
      if (++lines > LINES_AT_ONCE_MAX) throw new VmmError("QMP: too many messages at once");
      this.#append(rest.subarray(0, end));
      const line = Buffer.concat(this.#pending).toString("utf8").trim();
      this.#pending = [];
      this.#pendingBytes = 0;
      if (line !== "") yield parseFrame(line);
      rest = rest.subarray(end + 1);
    }
    this.#append(rest);
  }

  #append(bytes: Uint8Array): void {
    this.#pendingBytes += bytes.length;
    if (this.#pendingBytes > FRAME_BYTES_MAX) {
      throw new VmmError(`QMP: a message is longer than ${FRAME_BYTES_MAX} bytes`);
    }
    // A copy: the socket may use its buffer again.
    if (bytes.length > 0) this.#pending.push(bytes.slice());
  }
}

/** Exported for its test. */
export function parseFrame(line: string): QmpFrame {
  const frame = parseObject(line);
  if ("QMP" in frame) return { kind: "greeting" };
  if (typeof frame.event === "string") {
    return { kind: "event", name: frame.event.slice(0, ERROR_TEXT_MAX) };
  }
  const { id } = frame;
  if (typeof id !== "number" || !Number.isSafeInteger(id)) {
    throw new VmmError(`QMP: an answer without a usable id: ${excerpt(line)}`);
  }
  if ("return" in frame) return { kind: "result", id, value: frame.return };
  if (isRecord(frame.error)) {
    return { kind: "error", id, message: excerpt(String(frame.error.desc)) };
  }
  throw new VmmError(`QMP: neither an answer nor an event: ${excerpt(line)}`);
}

function parseObject(line: string): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new VmmError(`QMP: not JSON: ${excerpt(line)}`, { cause });
  }
  if (!isRecord(value)) throw new VmmError(`QMP: not an object: ${excerpt(line)}`);
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function excerpt(text: string): string {
  return text.slice(0, ERROR_TEXT_MAX);
}
