// What a client sends to the API, at its worst: nobody else waits for it.

import { beforeAll, expect, test } from "bun:test";
import { forThisFile } from "../tests/harness/for-this-file.ts";
import { longestPauseMs, PAUSE_MS_MAX } from "../tests/harness/longest-pause.ts";
import { RawWebSocket } from "../tests/harness/raw-websocket.ts";
import { TestPlatform } from "../tests/harness/simulated-agent-platform.ts";
import { COMMAND_BODY_BYTES_MAX } from "./request-body.ts";

const BODY_BYTES = 2 ** 20;
/** Of a query: Bun takes heads of 16 KiB. */
const QUERY_BYTES = 15_000;

const platform = await forThisFile(TestPlatform.start());
let base: URL;
let id: string;

beforeAll(async () => {
  base = platform.controlPlane.listen().url;
  id = await platform.create();
});

const key = () => ({ "x-api-key": platform.team.apiKey });
const fill = (text: string, bytes = BODY_BYTES) =>
  text.repeat(Math.floor((bytes - 100) / text.length));
const each = (toText: (index: number) => string) => {
  const texts: string[] = [];
  for (let size = 100; size < BODY_BYTES; size += (texts.at(-1)?.length ?? 0) + 1) {
    texts.push(toText(texts.length));
  }
  return texts.slice(0, -1).join();
};

const VALUES: [string, string][] = [
  ["arrays in arrays", `{"cmd":"x","args":${"[".repeat(500_000)}${"]".repeat(500_000)}}`],
  ["objects in objects", `{"cmd":"x","envs":${'{"a":'.repeat(170_000)}1${"}".repeat(170_000)}}`],
  ["arrays without end", fill("[")],
  ["empty strings", `{"cmd":"x","args":[${fill('"",')}""]}`],
  ["numbers", `{"cmd":"x","args":[${fill("1,")}1]}`],
  ["objects", `{"cmd":"x","args":[${fill("{},")}1]}`],
  ["variables", `{"cmd":"x","envs":{${each((index) => `"${index}=":1`)}}}`],
  ["unknown fields", `{"cmd":"x",${each((index) => `"a${index}":1`)}}`],
  ["one field", `{${fill('"cmd":1,')}"cmd":"x"}`],
  ["escapes", `{"cmd":"${fill("\\u0000")}"}`],
  ["digits", `{"cmd":${fill("1")}}`],
  ["blanks", fill(" ")],
];

test.each(VALUES)("a body of %s holds nobody up, and is no fault of ours", async (_, body) => {
  const request = () =>
    new Request(`http://localhost/v1/capsules/${id}/exec`, {
      method: "POST",
      headers: key(),
      body,
    });
  let status = 0;

  const pauseMs = await longestPauseMs(async () => {
    const response = await platform.controlPlane.handle(request());
    status = response.status;
    await response.text();
  });

  expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
  expect(status).toBe(400);
});

/** The largest commands. `\\u0041` is a letter as six characters. */
const LARGE: [string, string][] = [
  ["letters", "a"],
  ["letters of two bytes", "é"],
  ["letters of three bytes", "€"],
  ["quotes", '\\"'],
  ["escapes", "\\u0041"],
  ["arguments", '","'],
];

test.each(LARGE)(
  "four mebibytes of %s leave a third of what may be for slower machines",
  async (_, text) => {
    const room = COMMAND_BODY_BYTES_MAX - 100;
    const bytes = Buffer.byteLength(text);
    const count = text.includes(",") ? 4000 : Math.floor(room / bytes);
    const body = `{"cmd":"x","args":["${text.repeat(count)}"${" ".repeat(room - bytes * count)}]}`;
    const request = () =>
      new Request(`http://localhost/v1/capsules/${id}/exec`, {
        method: "POST",
        headers: key(),
        body,
      });

    const pauseMs = await longestPauseMs(async () => {
      await (await platform.controlPlane.handle(request())).text();
    });

    expect(pauseMs).toBeLessThan(0.7 * PAUSE_MS_MAX);
  },
);

test.each(["a&", "a=b&", "%", "%41", "+", "range=1h&"])(
  "a query of %p holds nobody up",
  async (text) => {
    const query = fill(text, QUERY_BYTES);
    const url = `http://localhost/v1/capsules/${id}/metrics?${query}`;

    const pauseMs = await longestPauseMs(async () => {
      await platform.controlPlane.handle(new Request(url, { headers: key() }));
    });

    expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
  },
);

/** A frame of a client whose mask is zeros. */
function frame(first: number, text: string): Buffer {
  const { length } = text;
  const head = Buffer.alloc(length < 126 ? 2 : 10);
  head[0] = first;
  head[1] = 0x80 | (length < 126 ? length : 127);
  if (length >= 126) head.writeBigUInt64BE(BigInt(length), 2);
  return Buffer.concat([head, Buffer.alloc(4), Buffer.from(text)]);
}

const frames = (first: number, text: string) => {
  const one = frame(first, text);
  return Buffer.concat(Array(Math.floor(BODY_BYTES / one.length)).fill(one));
};

test.each<[string, Buffer]>([
  ["input", frames(0x81, '{"type":"input","data":"eA=="}')],
  ["what is no JSON", frames(0x81, "{")],
  ["bytes", frames(0x82, "{")],
  ["empty messages", frames(0x81, "")],
  ["pings", frames(0x89, "")],
  ["pongs", frames(0x8a, "")],
  ["fragments", Buffer.concat([frame(0x01, "{"), frames(0x00, "")])],
  [
    "arrays in arrays",
    frame(0x81, `{"type":"x","a":${"[".repeat(500_000)}${"]".repeat(500_000)}}`),
  ],
])("a terminal's client that sends a mebibyte of %s holds nobody up", async (_, bytes) => {
  const pauseMs = await longestPauseMs(async () => {
    await using socket = await RawWebSocket.open(base, `/v1/capsules/${id}/pty`, key());
    socket.send({ type: "start", cmd: "/bin/cat" });
    socket.write(bytes);
    // A message is taken behind all others; a client that sends nonsense is sent away instead.
    socket.write(frame(0x88, ""));
    await socket.ended;
  });

  expect(pauseMs).toBeLessThan(PAUSE_MS_MAX);
});
