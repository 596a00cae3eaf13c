// A VMM that its guest has taken over may send anything: each case must end in a VmmError, in bounded
// memory, and never in a frame that means something else.
import { describe, expect, test } from "bun:test";
import { setImmediate } from "node:timers/promises";
import { longestPauseMs, PAUSE_MS_MAX } from "../../../tests/harness/longest-pause.ts";
import { VmmError } from "../../vmm/vmm.ts";
import { parseFrame, QmpFrames } from "./qmp-frames.ts";

/** What Bun reads of a socket at once. */
const SOCKET_BYTES = 512 * 1024;

/** What the bytes complete. */
const push = (frames: QmpFrames, some: Uint8Array) => [...frames.push(some)];
const bytes = (text: string) => new TextEncoder().encode(text);

describe("QmpFrames", () => {
  test("finds frames however they are cut", () => {
    const text = '{"QMP":{"version":{}}}\r\n{"return":{"a":"ü"},"id":1}\r\n\r\n{"event":"STOP"}\n';
    const whole = push(new QmpFrames(), bytes(text));

    const frames = new QmpFrames();
    const single = [...bytes(text)].flatMap((byte) => push(frames, Uint8Array.of(byte)));

    expect(single).toEqual(whole);
    expect(whole).toEqual([
      { kind: "greeting" },
      { kind: "result", id: 1, value: { a: "ü" } },
      { kind: "event", name: "STOP" },
    ]);
  });

  test("keeps its own copy of what the socket may overwrite", () => {
    const frames = new QmpFrames();
    const shared = bytes('{"return":');
    push(frames, shared);
    shared.fill(0x20);

    expect(push(frames, bytes('7,"id":1}\n'))).toEqual([{ kind: "result", id: 1, value: 7 }]);
  });

  test("refuses a message that does not end", () => {
    const frames = new QmpFrames();
    const chunk = new Uint8Array(64 * 1024).fill(0x20);

    expect(() => {
      for (let i = 0; i < 5; i++) push(frames, chunk);
    }).toThrow("longer than 262144 bytes");
  });

  test("holds many small parts in bounded time", () => {
    const frames = new QmpFrames();
    for (let i = 0; i < 200_000; i++) push(frames, bytes(" "));

    expect(push(frames, bytes('{"return":1,"id":1}\n'))).toHaveLength(1);
  });
});

describe("a mebibyte of", () => {
  const fill = (text: string) => bytes(text.repeat(Math.floor(2 ** 20 / text.length)));

  test.each([
    ["empty lines", fill("\n")],
    ["events", fill('{"event":""}\n')],
    ["answers", fill('{"return":1,"id":1}\n')],
    ["answers of many values", fill(`{"return":[${"{},".repeat(50_000)}1],"id":1}\n`)],
    ["arrays in arrays", fill(`{"return":${"[".repeat(130_000)}${"]".repeat(130_000)},"id":1}\n`)],
    ["one message", fill(" ")],
  ])("%s holds nobody up", async (_, flood) => {
    const pauseMs = await longestPauseMs(async () => {
      const frames = new QmpFrames();
      for (let at = 0; at < flood.length; at += SOCKET_BYTES) {
        try {
          // An answer that nobody asked for ends the connection.
          for (const { kind } of frames.push(flood.subarray(at, at + SOCKET_BYTES))) {
            if (kind !== "event") return;
          }
        } catch (error) {
          expect(error).toBeInstanceOf(VmmError);
          return;
        }
        await setImmediate();
      }
    });

    expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
  });
});

describe("parseFrame", () => {
  const hostile = {
    "no JSON": "hello",
    "half of JSON": '{"return": {',
    "an array": '[{"return":1,"id":1}]',
    null: "null",
    "a string": '"return"',
    "an answer without id": '{"return":{}}',
    "an id of text": '{"return":{},"id":"1"}',
    "an id beyond integers": '{"return":{},"id":1e300}',
    "an id that is a fraction": '{"return":{},"id":1.5}',
    "an error that is no object": '{"error":"no","id":1}',
    "nothing known": '{"id":1}',
    "nesting without end": '{"return":'.repeat(100_000),
    "brackets without end": "[".repeat(200_000),
  };
  for (const [name, line] of Object.entries(hostile)) {
    test(`refuses ${name}`, () => {
      expect(() => parseFrame(line)).toThrow(VmmError);
    });
  }

  test("cuts what goes into messages", () => {
    const frame = parseFrame(`{"error":{"desc":"${"x".repeat(10_000)}"},"id":3}`);

    expect(frame).toEqual({ kind: "error", id: 3, message: "x".repeat(500) });
  });

  test("does not take over a prototype", () => {
    expect(parseFrame('{"__proto__":{"return":1},"id":1,"return":2}')).toEqual({
      kind: "result",
      id: 1,
      value: 2,
    });
  });
});
