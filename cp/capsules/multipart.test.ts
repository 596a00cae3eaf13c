import { expect, test } from "bun:test";
import { readMultipart } from "./multipart.ts";

const TYPE = "multipart/form-data; boundary=XX";

/** Parses the body fed in blocks of that many bytes. */
async function parse(body: string | Uint8Array, blockBytes = 7, contentType = TYPE) {
  const bytes = typeof body === "string" ? Buffer.from(body, "latin1") : body;
  async function* blocks() {
    for (let start = 0; start < bytes.byteLength; start += blockBytes) {
      yield bytes.subarray(start, start + blockBytes);
    }
  }
  const parts: [string, string][] = [];
  for await (const { name, content } of readMultipart(blocks(), contentType)) {
    const chunks: Uint8Array[] = [];
    for await (const chunk of content) chunks.push(chunk.slice());
    parts.push([name, Buffer.concat(chunks).toString("latin1")]);
  }
  return parts;
}

const BODY = [
  "--XX",
  'Content-Disposition: form-data; name="path"',
  "",
  "/tmp/a",
  "--XX",
  'Content-Disposition: form-data; name="file"; filename="upload"',
  "Content-Type: application/octet-stream",
  "",
  "one\r\n--X not a boundary\r\n\r\ntwo",
  "--XX--",
  "",
].join("\r\n");

const PARTS: [string, string][] = [
  ["path", "/tmp/a"],
  ["file", "one\r\n--X not a boundary\r\n\r\ntwo"],
];

test("parts come back whole however the body is cut", async () => {
  for (let blockBytes = 1; blockBytes <= BODY.length; blockBytes++) {
    expect(await parse(BODY, blockBytes)).toEqual(PARTS);
  }
});

test("what the platform's own encoder writes is read back", async () => {
  const form = new FormData();
  form.append("path", "/tmp/ü");
  form.append("file", new Blob([new Uint8Array([0, 13, 10, 45, 45, 255])]), 'odd "name".bin');
  const request = new Request("http://localhost", { method: "POST", body: form });
  const type = request.headers.get("content-type") ?? "";

  const parts = await parse(await request.bytes(), 5, type);

  expect(parts.map(([name]) => name)).toEqual(["path", "file"]);
  expect(parts[1]?.[1]).toBe("\x00\r\n--\xff");
});

test("an empty part, a quoted boundary and a preamble are fine", async () => {
  const body = "ignored\r\n--a b\r\nContent-Disposition: form-data; name=file\r\n\r\n\r\n--a b--";

  expect(await parse(body, 3, 'multipart/form-data; boundary="a b"')).toEqual([["file", ""]]);
});

test("a part that is not read is skipped", async () => {
  const names: string[] = [];
  async function* whole() {
    yield Buffer.from(BODY, "latin1");
  }
  for await (const { name } of readMultipart(whole(), TYPE)) names.push(name);

  expect(names).toEqual(["path", "file"]);
});

test("a part without a name has an empty one", async () => {
  expect(await parse("--XX\r\n\r\nx\r\n--XX--")).toEqual([["", "x"]]);
});

test.each([
  ["no boundary", BODY, "multipart/form-data"],
  ["another type", BODY, "application/json; boundary=XX"],
  ["a boundary that is too long", BODY, `multipart/form-data; boundary=${"x".repeat(71)}`],
  ["a body that ends in a part", BODY.slice(0, -20), TYPE],
  ["a body that ends in headers", BODY.slice(0, 30), TYPE],
  ["no multipart at all", "hello", TYPE],
  ["an empty body", "", TYPE],
  ["junk after a boundary", BODY.replace("--XX\r\n", "--XXjunk\r\n"), TYPE],
  ["endless headers", `--XX\r\nX: ${"y".repeat(10_000)}\r\n\r\n`, TYPE],
])("%s is refused", async (_what, body, type) => {
  expect(parse(body, 512, type)).rejects.toMatchObject({ code: "invalid_request" });
});
