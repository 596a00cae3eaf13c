// Files of any size through a real listener.

import { beforeAll, describe, expect, test } from "bun:test";
import { connect } from "node:net";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform, toAnswer } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";

const BINARY = new Uint8Array(3_000_000).map((_, index) => (index * 7) % 251);
const BOUNDARY = "----a-boundary";

const platform = await forThisFile(TestPlatform.start());
let base: string;
let id: string;
beforeAll(async () => {
  base = platform.controlPlane.listen().url.origin;
  id = await platform.create();
});

const url = (route: string) => `${base}/v1/capsules/${id}/files/stream/${route}`;
const key = () => ({ "x-api-key": platform.team.apiKey });
const part = (name: string, more = "") =>
  `--${BOUNDARY}\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n`;

/** As the Python SDK writes it: by hand, chunked, the path first. */
function upload(pieces: (string | Uint8Array)[]): Promise<Response> {
  const rest = [...pieces];
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const next = rest.shift();
      if (next === undefined) return controller.close();
      controller.enqueue(typeof next === "string" ? Buffer.from(next) : next);
    },
  });
  const type = `multipart/form-data; boundary=${BOUNDARY}`;
  return fetch(url("write"), { method: "POST", body, headers: { ...key(), "content-type": type } });
}

const download = (path: string) =>
  fetch(url("read"), { method: "POST", headers: key(), body: JSON.stringify({ path }) });

const file = part("file", '; filename="upload.bin"\r\nContent-Type: application/octet-stream');

test("a file comes back byte by byte as it was streamed", async () => {
  const pieces = [BINARY.subarray(0, 10), BINARY.subarray(10, 1_000_000), BINARY.subarray(1e6)];
  const path = `${part("path")}/root/big\r\n`;
  const written = await upload([path, file, ...pieces, `\r\n--${BOUNDARY}--\r\n`]);
  const read = await download("/root/big");

  expect([written.status, read.status]).toEqual([204, 200]);
  expect(read.headers.get("content-type")).toBe("application/octet-stream");
  expect(Buffer.compare(await read.bytes(), BINARY)).toBe(0);
});

test.each([
  ["path: must come before file", [file, "x", `\r\n${part("path")}/root/x\r\n--${BOUNDARY}--\r\n`]],
  ["file: is required", [`${part("path")}/root/x\r\n--${BOUNDARY}--\r\n`]],
  ["path: is empty", [`${part("path")}\r\n${file}x\r\n--${BOUNDARY}--\r\n`]],
  [
    "multipart body: the body ends before its last delimiter",
    [`${part("path")}/root/x\r\n${file}half of it`],
  ],
])("a body is refused with: %s", async (message, pieces) => {
  const answer = await toAnswer(await upload(pieces));

  expect<unknown>(answer).toMatchObject({
    status: 400,
    body: { error: { code: "invalid_request", message } },
  });
});

const whole = (path: string, content: string) =>
  `${part("path")}${path}\r\n${file}${content}\r\n--${BOUNDARY}--\r\n`;

/** Sends a request as it is; the connection stays until the server, or the test, ends it. */
function send(route: string, head: string, body: string) {
  const { promise: answer, resolve } = Promise.withResolvers<string>();
  let text = "";
  const socket = connect(Number(new URL(base).port), new URL(base).hostname);
  socket.on("data", (bytes) => {
    text += bytes;
  });
  socket.on("error", () => {});
  socket.on("close", () => resolve(text));
  const lines = [
    `POST /v1/capsules/${id}/files/${route} HTTP/1.1`,
    ...["Host: localhost", "Connection: close", `X-API-Key: ${platform.team.apiKey}`],
    `Content-Type: multipart/form-data; boundary=${BOUNDARY}`,
  ];
  socket.write(`${[...lines, head].join("\r\n")}\r\n\r\n${body}`);
  return { answer, hangUp: () => socket.end() };
}

/** Sends what looks like all of it to the agent, and hangs up. */
async function sendCut(route: string, head: string, body: string): Promise<void> {
  const calls = platform.agent.calls.length;
  const { answer, hangUp } = send(route, head, body);
  await waitFor("a call of the agent", () => platform.agent.calls.length, {
    holds: (length) => length > calls,
  });
  hangUp();
  await answer;
  await waitFor("the end of all calls at the agent", () => platform.agent.underWay, {
    holds: (underWay) => underWay === 0,
  });
}

const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

// The file itself is whole in all of them.
describe.each(["write", "stream/write"])("files/%s", (route) => {
  const path = `/root/kept-${route.replace("/", "-")}`;
  const kept = () => String(platform.agent.capsules.get(id)?.files.read(path));
  beforeAll(() => platform.agent.capsules.get(id)?.files.write(path, Buffer.from("old")));

  test.each([
    ["ends behind the file", (body: string) => body.slice(0, -4)],
    ["ends with half of the last delimiter", (body: string) => body.slice(0, -3)],
    ["goes on with half of a part", (body: string) => `${body.slice(0, -4)}\r\nContent-`],
    ["has a second file", (body: string) => `${body.slice(0, -4)}\r\n${body.split("\r\n", 3)}`],
  ])("leaves the old file when the body %s", async (_, cut) => {
    const body = cut(whole(path, "new"));
    const declared = await send(route, `Content-Length: ${body.length}`, body).answer;
    const chunks = `${chunk(body)}0\r\n\r\n`;
    const chunked = await send(route, "Transfer-Encoding: chunked", chunks).answer;

    expect([declared.slice(9, 12), chunked.slice(9, 12)]).toEqual(["400", "400"]);
    expect(kept()).toBe("old");
  });

  test("leaves the old file when the connection is cut before the body's end", async () => {
    const body = whole(path, "new");
    await sendCut(route, `Content-Length: ${body.length + 10}`, body);
    await sendCut(route, "Transfer-Encoding: chunked", chunk(body));
    await sendCut(route, "Transfer-Encoding: chunked", chunk(body).slice(0, -8));

    expect(kept()).toBe("old");
  });

  test("replaces the file when all of the body came", async () => {
    const body = `${whole(path, "new")}epilogue`;
    const answer = await send(route, `Content-Length: ${body.length}`, body).answer;

    expect([answer.slice(9, 12), kept()]).toEqual(["204", "new"]);
  });
});

test("a file that is not there is not found before anything is sent", async () => {
  const { status, body } = await toAnswer(await download("/root/nothing"));

  expect([status, body.error.code]).toEqual([404, "not_found"]);
});

// The first Wrenn cut such a download short without a word.
test("a download that fails halfway breaks the connection", async () => {
  const path = `${part("path")}/root/broken\r\n`;
  await upload([path, file, BINARY, `\r\n--${BOUNDARY}--\r\n`]);
  platform.agent.breakReadAfterBytes = 500_000;
  const response = await download("/root/broken");
  const outcome = await response.bytes().then(
    () => "complete",
    () => "broken",
  );
  platform.agent.breakReadAfterBytes = undefined;

  expect([response.status, outcome]).toEqual([200, "broken"]);
});
