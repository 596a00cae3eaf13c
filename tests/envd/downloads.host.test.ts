// GET and HEAD of /files, for every kind of file and with every wish about encoding and range.
import { afterAll, beforeAll, describe, expect, setDefaultTimeout, test } from "bun:test";
import { readdir } from "node:fs/promises";
import { connect } from "node:net";
import { waitFor } from "../harness/wait-for.ts";
import { runShell } from "./command.ts";
import { type Envd, openEnvd, processClient } from "./fixture.ts";

// The machine may be busy with virtual machines.
setDefaultTimeout(60_000);

const LARGE_BYTES = 3_000_000;

let envd: Envd;
let dir: string;
let files: Record<string, string>;
beforeAll(async () => {
  envd = await openEnvd();
  dir = `/tmp/envd-downloads-${crypto.randomUUID()}`;
  await shell(`mkdir ${dir}; cd ${dir}; : > empty; printf 0123456789 > small
    head -c ${LARGE_BYTES} /dev/zero > large`);
  files = {
    ...{ empty: `${dir}/empty`, small: `${dir}/small`, large: `${dir}/large` },
    ...{ proc: "/proc/version", sys: "/sys/kernel/mm/transparent_hugepage/enabled" },
  };
});
afterAll(async () => {
  await shell(`rm -rf ${dir}`);
  await envd[Symbol.asyncDispose]();
});

/** What the kinds say that they have, where that is not what they have. */
const SIZES: Readonly<Record<string, number>> = { proc: 0, sys: 4096 };
const ENCODINGS = ["identity", "gzip", "gzip;q=0", "identity;q=0, gzip", "*;q=0, gzip;q=0.1"];
const RANGES = ["none", "bytes=2-3", "bytes=0-", "bytes=9999999-", "nonsense"];

describe.each(["empty", "small", "large", "proc", "sys"])("%s", (kind) => {
  test("has the same head by GET and HEAD, and the content that the head says", async () => {
    for (const encoding of ENCODINGS) {
      const got = await ask("GET", kind, { "accept-encoding": encoding });
      const head = await ask("HEAD", kind, { "accept-encoding": encoding });
      const content = await shell(`wc -c < ${files[kind]}`);

      const isGzip = encoding.includes("gzip") && encoding !== "gzip;q=0";
      expect([kind, encoding, got.status, got.encoding]).toEqual([
        ...[kind, encoding, 200],
        isGzip ? "gzip" : null,
      ]);
      expect(got.bodyBytes).toBe(Number(content));
      // How long a compressed answer is shows at its end, and what a file of /sys says is its page.
      if (isGzip || kind === "proc") expect(head.length).toBeNull();
      else expect(head.length).toBe(kind === "sys" ? "4096" : content.trim());
      expect({ ...head, ...body }).toEqual({ ...got, ...body });
    }
  });

  test("is given in ranges by GET, of its plain content, and whole by HEAD", async () => {
    for (const range of RANGES) {
      const options = { range, "accept-encoding": "gzip, identity;q=0.5" };
      const got = await ask("GET", kind, range === "none" ? {} : options);
      const head = await ask("HEAD", kind, options);
      const bytes = Number(await shell(`wc -c < ${files[kind]}`));

      const size = SIZES[kind] ?? bytes;
      const isRange = size > 0 && range.startsWith("bytes");
      const [start, end] = range === "bytes=2-3" ? [2, 4] : [0, size];
      if (range === "bytes=9999999-" && isRange) expect(got.status).toBe(416);
      else if (!isRange) expect([got.status, got.bodyBytes]).toEqual([200, bytes]);
      else if (kind !== "sys") {
        expect([got.status, got.range, got.bodyBytes]).toEqual([
          206,
          `bytes ${start}-${end - 1}/${size}`,
          end - start,
        ]);
      }
      expect([head.status, head.range, head.encoding]).toEqual([200, null, "gzip"]);
    }
  });

  test("is not sent again to who has it, whatever its encoding", async () => {
    for (const encoding of ["identity", "gzip"]) {
      const { etag } = await ask("HEAD", kind, { "accept-encoding": encoding });
      for (const method of ["GET", "HEAD"]) {
        const again = await ask(method, kind, { "if-none-match": etag ?? "" });
        expect([again.status, again.length, again.bodyBytes]).toEqual([304, null, 0]);
      }
      const range = { range: "bytes=0-1", "if-range": etag ?? "" };
      const part = await ask("GET", kind, range);
      // A range of what the client has compressed is none of the plain content.
      if (kind === "small" || kind === "large") {
        expect(part.status).toBe(encoding === "gzip" ? 200 : 206);
      }
    }
  });
});

test("a time that HTTP does not know is not told", async () => {
  await shell(`mkdir ${dir}/t; mount -t tmpfs none ${dir}/t; touch -d @999999999999 ${dir}/t/late`);
  files.late = `${dir}/t/late`;
  const late = await ask("GET", "late", {});
  await shell(`umount ${dir}/t`);

  expect([late.status, late.lastModified]).toEqual([200, null]);
  expect((await ask("GET", "small", {})).lastModified).toEndWith(" GMT");
});

test("what cannot be read says so, however it is asked for", async () => {
  files.memory = `/proc/${envd.pid}/mem`;
  for (const method of ["GET", "HEAD"]) {
    for (const encoding of ["identity", "gzip"]) {
      const answer = await fetch(url("memory"), {
        method,
        headers: { "x-access-token": envd.token, "accept-encoding": encoding },
      });
      expect(answer.status).toBe(400);
      if (method === "GET") {
        expect(await answer.json()).toEqual({
          code: 400,
          message: `path '${files.memory}': the system refuses to read or write it (EIO)`,
        });
      }
    }
  }
});

test("no answer keeps a file open, nor does one that nobody reads to its end", async () => {
  const open = async () => (await readdir(`/proc/${envd.pid}/fd`)).length;
  await ask("GET", "small", {});
  const before = await open();
  for (const kind of ["empty", "small", "large", "proc", "sys"]) {
    for (const method of ["GET", "HEAD"]) {
      for (const encoding of ["identity", "gzip"]) {
        await ask(method, kind, { "accept-encoding": encoding });
        await leave(method, kind, encoding);
      }
    }
  }
  await waitFor("the files to be closed", open, {
    holds: (count) => count <= before,
    timeoutMs: 20_000,
  });
});

const body = { bodyBytes: 0, length: null };

async function ask(method: string, kind: string, headers: Record<string, string>) {
  const response = await fetch(url(kind), {
    method,
    headers: { "x-access-token": envd.token, "accept-encoding": "identity", ...headers },
  });
  const get = (name: string) => response.headers.get(name);
  return {
    status: response.status,
    encoding: get("content-encoding"),
    length: get("content-length"),
    range: get("content-range"),
    etag: get("etag"),
    lastModified: get("last-modified"),
    bodyBytes: (await response.bytes()).length,
  };
}

/** Asks, and hangs up when the head of the answer is there. */
async function leave(method: string, kind: string, encoding: string): Promise<void> {
  const { hostname, port } = new URL(envd.baseUrl);
  const socket = connect({ host: hostname, port: Number(port) });
  const { pathname, search } = new URL(url(kind));
  socket.write(
    `${method} ${pathname}${search} HTTP/1.1\r\nHost: x\r\nX-Access-Token: ${envd.token}\r\n` +
      `Accept-Encoding: ${encoding}\r\n\r\n`,
  );
  await new Promise((resolve) => socket.once("data", resolve));
  socket.destroy();
}

function url(kind: string): string {
  return `${envd.baseUrl}/files?${new URLSearchParams({ path: files[kind] ?? "" })}`;
}

async function shell(script: string): Promise<string> {
  const { stdout } = await runShell(processClient(envd, "binary"), script);
  return stdout.toString();
}
