import { beforeAll, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { FILE_WRITE_BYTES_MAX } from "../../proto/hostagent/bounds.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform, toAnswer } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";

const platform = await forThisFile(TestPlatform.start());
let id: string;

beforeAll(async () => {
  id = await platform.create();
});

function files() {
  const capsule = platform.agent.capsules.get(id);
  if (capsule === undefined) throw new Error("the capsule is gone");
  return capsule.files;
}

function post(route: string, body: unknown) {
  return platform.call("POST", `/v1/capsules/${id}/files/${route}`, { body });
}

function form(...fields: [string, string | Uint8Array<ArrayBuffer>][]): FormData {
  const data = new FormData();
  for (const [name, value] of fields) {
    if (typeof value === "string") data.append(name, value);
    else data.append(name, new Blob([value]), "upload");
  }
  return data;
}

/** The answer to a read as it is, not as text. */
async function read(path: string): Promise<Response> {
  return await platform.controlPlane.handle(
    new Request(`http://localhost/v1/capsules/${id}/files/read`, {
      method: "POST",
      headers: { "x-api-key": platform.team.apiKey },
      body: JSON.stringify({ path }),
    }),
  );
}

function streamOf(chunks: AsyncGenerator<Uint8Array>): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      const next = await chunks.next();
      if (next.done === true) controller.close();
      else controller.enqueue(next.value);
    },
  });
}

const BINARY = new Uint8Array(700_000).map((_, index) => (index * 7) % 256);

test("a file comes back byte by byte as it was written", async () => {
  const written = await post("write", form(["path", "/data/ü n.bin"], ["file", BINARY]));
  const answer = await read("/data/ü n.bin");

  expect<unknown>(written).toEqual({ status: 204, body: "" });
  expect(answer.headers.get("content-type")).toBe("application/octet-stream");
  expect(Bun.deepEquals(await answer.bytes(), BINARY)).toBe(true);
});

test("an empty file is written and read", async () => {
  await post("write", form(["path", "/empty"], ["file", new Uint8Array()]));
  const answer = await read("/empty");

  expect([answer.status, (await answer.bytes()).byteLength]).toEqual([200, 0]);
});

test("the path may come after the file", async () => {
  const answer = await post("write", form(["file", BINARY], ["path", "/late"]));

  expect(answer.status).toBe(204);
  expect(Bun.deepEquals(files().read("/late"), BINARY)).toBe(true);
});

test("other parts are ignored", async () => {
  const answer = await post("write", form(["x", "y"], ["path", "/a"], ["file", BINARY], ["z", ""]));

  expect(answer.status).toBe(204);
});

test.each([
  ["no path", form(["file", BINARY]), "path"],
  ["no file", form(["path", "/a"]), "file"],
  ["an empty path", form(["path", ""], ["file", BINARY]), "path"],
  ["a NUL in the path", form(["path", "/a\0b"], ["file", BINARY]), "path"],
  ["a path that is no UTF-8", form(["path", Uint8Array.of(47, 255)], ["file", BINARY]), "path"],
  ["a path that is too long", form(["path", `/${"a".repeat(4095)}`], ["file", BINARY]), "path"],
  ["two paths", form(["path", "/a"], ["path", "/b"], ["file", BINARY]), "path"],
  ["two files", form(["path", "/a"], ["file", BINARY], ["file", BINARY]), "file"],
])("a write with %s is refused by name", async (_what, body, part) => {
  const answer = await post("write", body);

  expect([answer.status, answer.body.error.code]).toEqual([400, "invalid_request"]);
  expect(answer.body.error.message).toStartWith(`${part}: `);
});

test("a write that is no multipart is refused", async () => {
  expect(await post("write", { path: "/a" })).toMatchObject({ status: 400 });
  expect(await post("write", undefined)).toMatchObject({ status: 400 });
});

test("a write of too many declared bytes is refused before it is read", async () => {
  const answer = await platform.call("POST", `/v1/capsules/${id}/files/write`, {
    body: form(["path", "/big"], ["file", BINARY]),
    headers: { "content-length": String(FILE_WRITE_BYTES_MAX * 2) },
  });

  expect([answer.status, answer.body.error.code]).toEqual([413, "too_large"]);
});

test("a write of too many bytes without a length is cut off, and leaves no file", async () => {
  const block = new Uint8Array(1024 * 1024);
  async function* body() {
    yield Buffer.from('--X\r\nContent-Disposition: form-data; name="path"\r\n\r\n/huge\r\n');
    yield Buffer.from('--X\r\nContent-Disposition: form-data; name="file"\r\n\r\n');
    for (let blocks = 0; blocks < 110; blocks++) yield block;
    yield Buffer.from("\r\n--X--\r\n");
  }
  const response = await platform.controlPlane.handle(
    new Request(`http://localhost/v1/capsules/${id}/files/write`, {
      method: "POST",
      headers: {
        "x-api-key": platform.team.apiKey,
        "content-type": "multipart/form-data; boundary=X",
      },
      body: streamOf(body()),
    }),
  );

  const answer = await toAnswer(response);
  expect([answer.status, answer.body.error.code]).toEqual([413, "too_large"]);
  expect(() => files().read("/huge")).toThrow();
});

test.each([
  ["more parts than a form has", 'Content-Disposition: form-data; name="x"\r\n\r\n', 30_000, 400],
  ["more than a file's bytes in parts that nobody reads", "y".repeat(2 ** 20), 110, 413],
])("a write of %s is refused without a declared length", async (_what, block, count, status) => {
  const isParts = count > 1000;
  async function* body() {
    if (!isParts) yield Buffer.from('--X\r\nContent-Disposition: form-data; name="z"\r\n\r\n');
    const piece = Buffer.from(isParts ? `--X\r\n${block}\r\n` : block);
    if (isParts) yield Buffer.concat(Array.from({ length: count }, () => piece));
    else for (let blocks = 0; blocks < count; blocks++) yield piece;
    yield Buffer.from("\r\n--X--\r\n");
  }
  const headers = {
    "x-api-key": platform.team.apiKey,
    "content-type": "multipart/form-data; boundary=X",
  };
  const url = `http://localhost/v1/capsules/${id}/files/write`;
  const request = new Request(url, { method: "POST", headers, body: streamOf(body()) });
  const answer = await toAnswer(await platform.controlPlane.handle(request));

  expect(answer.status).toBe(status);
  expect(answer.body.error.message).toMatch(/more than 64 parts|larger than/);
});

test("100 MiB go through a real connection, to the byte", async () => {
  using server = platform.controlPlane.listen();
  const content = new Uint8Array(FILE_WRITE_BYTES_MAX);
  content.set(BINARY, content.byteLength - BINARY.byteLength);

  const response = await fetch(new URL(`/v1/capsules/${id}/files/write`, server.url), {
    method: "POST",
    headers: { "x-api-key": platform.team.apiKey },
    body: form(["path", "/large"], ["file", content]),
  });

  expect(response.status).toBe(204);
  expect(Bun.deepEquals(files().read("/large"), content)).toBe(true);
  const back = await fetch(new URL(`/v1/capsules/${id}/files/read`, server.url), {
    method: "POST",
    headers: { "x-api-key": platform.team.apiKey },
    body: JSON.stringify({ path: "/large" }),
  });
  expect(Bun.deepEquals(await back.bytes(), content)).toBe(true);
});

// The agent answers while most of the file is still to be sent.
test("a refusal in the middle of a large write reaches the client", async () => {
  using server = platform.controlPlane.listen();
  platform.agent.faultBefore("writeFileStream", () => {
    throw new ConnectError("not enough disk space available", Code.ResourceExhausted, {
      "wrenn-reason": "disk",
    });
  });

  const response = await fetch(new URL(`/v1/capsules/${id}/files/write`, server.url), {
    method: "POST",
    headers: { "x-api-key": platform.team.apiKey },
    body: form(["path", "/full"], ["file", new Uint8Array(50 * 1024 * 1024)]),
  });

  const answer = await toAnswer(response);
  expect<unknown>(answer).toMatchObject({
    status: 507,
    body: { error: { code: "insufficient_storage", message: "not enough disk space available" } },
  });
});

test("a client that goes away in the middle of a write leaves no file", async () => {
  using server = platform.controlPlane.listen();
  const client = new AbortController();
  const calls = platform.agent.calls.length;
  async function* body() {
    yield Buffer.from('--X\r\nContent-Disposition: form-data; name="path"\r\n\r\n/partial\r\n');
    yield Buffer.from('--X\r\nContent-Disposition: form-data; name="file"\r\n\r\n');
    for (;;) {
      yield new Uint8Array(65_536);
      await Bun.sleep(5);
    }
  }
  const request = fetch(new URL(`/v1/capsules/${id}/files/write`, server.url), {
    method: "POST",
    headers: {
      "x-api-key": platform.team.apiKey,
      "content-type": "multipart/form-data; boundary=X",
    },
    body: streamOf(body()),
    signal: client.signal,
  }).catch(() => "gone");
  await waitFor("a call of writeFileStream", () => platform.agent.calls.slice(calls), {
    holds: (all) => all.includes("writeFileStream"),
  });

  client.abort();

  expect(await request).toBe("gone");
  await waitFor("the end of all calls at the agent", () => platform.agent.underWay, {
    holds: (calls) => calls === 0,
  });
  expect(() => files().read("/partial")).toThrow();
});

test("a read that breaks off is no complete answer", async () => {
  using server = platform.controlPlane.listen();
  files().write("/breaks", BINARY);
  platform.agent.breakReadAfterBytes = 200_000;

  const outcome = await fetch(new URL(`/v1/capsules/${id}/files/read`, server.url), {
    method: "POST",
    headers: { "x-api-key": platform.team.apiKey },
    body: JSON.stringify({ path: "/breaks" }),
  })
    .then((response) => response.bytes())
    .catch(() => "broken");

  expect(outcome).toBe("broken");
  platform.agent.breakReadAfterBytes = undefined;
});

test("a missing file is not found, by every route", async () => {
  const answers = await Promise.all(
    ["read", "list", "remove"].map((route) => post(route, { path: "/nowhere" })),
  );

  expect<unknown>(answers).toMatchObject(
    answers.map(() => ({
      status: 404,
      body: { error: { code: "not_found", message: "path '/nowhere' does not exist" } },
    })),
  );
});

test("a directory is made with its parents, once, listed and removed", async () => {
  const made = await post("mkdir", { path: "/one/two" });
  const again = await post("mkdir", { path: "/one/two" });
  await post("write", form(["path", "/one/two/three"], ["file", BINARY]));
  const shallow = await post("list", { path: "/one" });
  const deep = await post("list", { path: "/one", depth: 2 });
  const removed = await post("remove", { path: "/one" });

  const entry = {
    name: "two",
    path: "/one/two",
    type: "directory",
    size: 0,
    mode: 0o755,
    permissions: "drwxr-xr-x",
    owner: "root",
    group: "root",
    modified_at: expect.any(Number),
  };
  expect<unknown>(made).toEqual({ status: 200, body: { entry } });
  expect([again.status, again.body.error.code]).toEqual([409, "conflict"]);
  expect<unknown>(shallow.body.entries).toEqual([entry]);
  expect(deep.body.entries).toMatchObject([{ path: "/one/two" }, { path: "/one/two/three" }]);
  expect<unknown>(removed).toEqual({ status: 204, body: "" });
  expect((await post("list", { path: "/one" })).status).toBe(404);
});

test("a directory where a file is needed is the client's mistake", async () => {
  const answer = await read("/tmp");

  expect(await toAnswer(answer)).toMatchObject({
    status: 400,
    body: { error: { code: "invalid_request", message: "path '/tmp' is a directory" } },
  });
});

test.each([
  ["read", {}, "path"],
  ["read", { path: "" }, "path"],
  ["read", { path: "/a\0" }, "path"],
  ["read", { path: "/".repeat(4096) }, "path"],
  ["list", { path: "/", depth: -1 }, "depth"],
  ["list", { path: "/", depth: 33 }, "depth"],
  ["mkdir", { path: 1 }, "path"],
  ["remove", [], "body"],
])("%s of a bad body is refused by name (%#)", async (route, body, field) => {
  const answer = await post(route, body);

  expect([answer.status, answer.body.error.code]).toEqual([400, "invalid_request"]);
  expect(answer.body.error.message).toStartWith(field);
});
