// QMP from a generator: what a monitor sends is read the same however it is cut, and what a VMM sends that its
// guest has taken over is a VmmError or frames of the known kinds, in bounded memory and time.

import { expect, test } from "bun:test";
import { byteWork } from "../../../tests/harness/byte-work.ts";
import { FUZZ_TIMEOUT_MS, fuzz, type Random } from "../../../tests/harness/random.ts";
import { VmmError } from "../../vmm/vmm.ts";
import { type QmpFrame, QmpFrames } from "./qmp-frames.ts";

const TEXT = 'ab"\\{}[]:,\n\r\t\0 ü日\u2028\u{1f600}';
const DAMAGE = '{}[]:,"\\\n\r\0 0123456789.eE-+nulltruefalse\x80\xff';
const FRAME_BYTES_MAX = 256 * 1024;

function anyValue(random: Random, depth = 0): unknown {
  const kind = random.below(depth > 4 ? 4 : 6);
  if (kind === 0) return null;
  if (kind === 1) return random.oneIn(2);
  if (kind === 2) return random.size(2 ** 31) / (1 + random.size(100));
  if (kind === 3) return random.text(TEXT, random.size(40));
  if (kind === 4) return random.list(5, () => anyValue(random, depth + 1));
  return Object.fromEntries(
    random.list(5, (index) => [`k${index}${random.text("ab-_", 3)}`, anyValue(random, depth + 1)]),
  );
}

/** A message and the frame that it is. */
function messageOf(random: Random): { message: unknown; frame: QmpFrame } {
  const id = random.size(2 ** 31);
  const text = random.text(TEXT, random.size(700));
  return random.pick([
    () => ({ message: { QMP: anyValue(random) }, frame: { kind: "greeting" } as const }),
    () => ({
      message: { event: text, data: anyValue(random) },
      frame: { kind: "event", name: text.slice(0, 500) } as const,
    }),
    () => {
      const value = anyValue(random);
      return { message: { return: value, id }, frame: { kind: "result", id, value } as const };
    },
    () => ({
      message: { error: { class: "GenericError", desc: text }, id },
      frame: { kind: "error", id, message: text.slice(0, 500) } as const,
    }),
  ])();
}

function streamOf(random: Random): { bytes: Buffer; frames: QmpFrame[] } {
  const messages = random.list(6, () => messageOf(random));
  const end = random.pick(["\n", "\r\n", "\r\n\r\n"]);
  const lines = messages.map(({ message }) => `${JSON.stringify(message)}${end}`);
  return { bytes: Buffer.from(lines.join("")), frames: messages.map(({ frame }) => frame) };
}

/** The frames, or null when something was no QMP. */
function read(pieces: readonly Buffer[]): QmpFrame[] | null {
  const reader = new QmpFrames();
  try {
    return pieces.flatMap((piece) => [...reader.push(piece)]);
  } catch (error) {
    if (error instanceof VmmError) return null;
    throw error;
  }
}

test(
  "messages are read as they were written, however they are cut, and cost time in proportion",
  () =>
    fuzz(async (random) => {
      const { bytes, frames } = streamOf(random);
      const pieces = random.pieces(bytes);

      const found: unknown[] = [];
      const work = await byteWork(() => void found.push(read(pieces)));

      expect(found).toEqual([frames]);
      expect(work).toBeLessThan(16 * bytes.length + 4 * pieces.length + 1);
    }),
  FUZZ_TIMEOUT_MS,
);

test(
  "damaged messages are the same frames, or none, however they are cut",
  () =>
    fuzz((random) => {
      const bytes = random.damaged(streamOf(random).bytes, DAMAGE);
      const whole = read([bytes]);

      expect(read(random.pieces(bytes))).toEqual(whole);
      for (const frame of whole ?? []) {
        if ("id" in frame) expect(Number.isSafeInteger(frame.id)).toBeTrue();
        if (frame.kind === "error") expect(frame.message.length).toBeLessThanOrEqual(500);
      }
    }),
  FUZZ_TIMEOUT_MS,
);

test(
  "what does not end is refused at its bound, however it is cut",
  () =>
    fuzz((random) => {
      const reader = new QmpFrames();
      const byte = random.text('{[" \x80', 1);
      let held = 0;
      const push = () => {
        const piece = Buffer.alloc(1 + random.size(FRAME_BYTES_MAX), byte);
        Array.from(reader.push(piece));
        held += piece.length;
      };

      expect(() => {
        for (;;) push();
      }).toThrow(VmmError);
      expect(held).toBeLessThanOrEqual(FRAME_BYTES_MAX);
    }),
  FUZZ_TIMEOUT_MS,
);
