// Files of any size through a real listener.

import { beforeAll, expect, test } from "bun:test";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform, toAnswer } from "../../tests/harness/simulated-agent-platform.ts";

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
