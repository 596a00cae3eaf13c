// Releases come from a server on this machine: small archives under the names of the real ones.

import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { arch, tmpdir } from "node:os";
import { join, resolve } from "node:path";

const REPOSITORY = resolve(import.meta.dirname, "..");
const MACHINE = arch() === "x64" ? "x86_64" : "aarch64";
const PROGRAM = `#!/bin/sh\necho "Firecracker v1.0.0" ${"#".repeat(100_000)}\n`;

let base: string;
let from: string;
let to: string;
let archive: Uint8Array;
let server: ReturnType<typeof Bun.serve>;
let runs = 0;
/** How the server treats the next requests. */
let serves: "well" | "no ranges" | "another file" = "well";
let ranges: (string | null)[] = [];

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "wrenn-fetch-"));
  from = join(base, "repository");
  await mkdir(join(from, "scripts"), { recursive: true });
  await mkdir(join(from, "deploy"));
  await cp(join(REPOSITORY, "scripts/fetch-vmm.sh"), join(from, "scripts/fetch-vmm.sh"));
  await mkdir(join(base, "release"));
  await writeFile(join(base, "release/firecracker-v1"), PROGRAM);
  // Not compressed well, so that a half of it is some bytes.
  await writeFile(join(base, "release/NOTICE"), crypto.getRandomValues(new Uint8Array(50_000)));
  await Bun.$`tar -C ${base} -czf ${join(base, "release.tgz")} release`.quiet();
  archive = await Bun.file(join(base, "release.tgz")).bytes();
  server = Bun.serve({ hostname: "127.0.0.1", port: 0, fetch: answer });
});
beforeEach(async () => {
  to = join(base, `bin-${runs++}`);
  await mkdir(to);
  serves = "well";
  ranges = [];
  await pin({});
});
afterAll(async () => {
  await server.stop(true);
  await rm(base, { recursive: true });
});

function answer(request: Request): Response {
  const range = request.headers.get("range");
  ranges.push(range);
  const body = serves === "another file" ? archive.slice().reverse() : archive;
  const start = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  if (start === 0 || serves === "no ranges") return new Response(body);
  if (start >= body.length) return new Response(null, { status: 416 });
  return new Response(body.slice(start), {
    status: 206,
    headers: { "content-range": `bytes ${start}-${body.length - 1}/${body.length}` },
  });
}

const sha256 = (data: string | Uint8Array) =>
  new Bun.CryptoHasher("sha256").update(data).digest("hex");

/** The list of releases: one of Firecracker. */
async function pin(o: { download?: string; program?: string; port?: number }): Promise<void> {
  const { download = sha256(archive), program = sha256(PROGRAM), port = server.port } = o;
  const url = `http://127.0.0.1:${port}/firecracker.tgz`;
  const line = ["firecracker", "1.0.0", MACHINE, download, program, url, "release/firecracker-v1"];
  await writeFile(join(from, "deploy/vmm-releases.txt"), `# comment\n${line.join(" ")}\n`);
}

async function fetchVmm(...names: string[]) {
  const script = join(from, "scripts/fetch-vmm.sh");
  const { exitCode, stderr } = await Bun.$`${script} --to ${to} ${names}`.nothrow().quiet();
  return { status: exitCode, error: stderr.toString() };
}

const part = () => join(to, ".firecracker-1.0.0.part");

test("a release is installed, and not downloaded again", async () => {
  const first = await fetchVmm("firecracker");
  const second = await fetchVmm("firecracker");

  expect([first, second]).toEqual([
    { status: 0, error: "" },
    { status: 0, error: "" },
  ]);
  expect(ranges).toHaveLength(1);
  expect(await readdir(to)).toEqual(["firecracker"]);
  expect((await stat(join(to, "firecracker"))).mode & 0o777).toBe(0o755);
  expect(await readFile(join(to, "firecracker"), "utf8")).toBe(PROGRAM);
});

test("what is not the release is refused and thrown away, and the old program stays", async () => {
  await writeFile(join(to, "firecracker"), "an older one");
  serves = "another file";

  const { status, error } = await fetchVmm("firecracker");

  expect(status).toBe(1);
  expect(error).toContain(`not ${sha256(archive)}: it is not the release, and was thrown away.`);
  expect(await readdir(to)).toEqual(["firecracker"]);
  expect(await readFile(join(to, "firecracker"), "utf8")).toBe("an older one");
});

test("a program that is not the release's is refused within the right archive, too", async () => {
  await pin({ program: "0".repeat(64) });

  const { status, error } = await fetchVmm("firecracker");

  expect(status).toBe(1);
  expect(error).toContain("is not the one of the release");
  expect(await readdir(to)).toEqual([]);
});

test("a download that was cut off is gone on with", async () => {
  const half = archive.slice(0, archive.length / 2);
  const head = `HTTP/1.1 200 OK\r\ncontent-length: ${archive.length}\r\n\r\n`;
  using cutting = Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket) {
        socket.write(head);
        socket.end(half);
      },
    },
  });
  await pin({ port: cutting.port });
  const cut = await fetchVmm("firecracker");
  const { size } = await stat(part());
  await pin({});
  const { status } = await fetchVmm("firecracker");

  expect(cut.status).toBe(1);
  expect(cut.error).toContain("the next run goes on where it stopped");
  expect(size).toBe(half.length);
  expect([status, ranges.at(-1)]).toEqual([0, `bytes=${size}-`]);
  expect(await readdir(to)).toEqual(["firecracker"]);
});

test("a half download is begun anew where the server knows no ranges", async () => {
  await writeFile(part(), archive.slice(0, 1000));
  serves = "no ranges";

  expect((await fetchVmm("firecracker")).status).toBe(0);
  expect(await readdir(to)).toEqual(["firecracker"]);
});

test.each([1000, 1_000_000])(
  "%i bytes of another file are thrown away, and the next run gets it right",
  async (n) => {
    await writeFile(part(), new Uint8Array(n));

    expect((await fetchVmm("firecracker")).status).toBe(1);
    expect(await readdir(to)).toEqual([]);
    expect((await fetchVmm("firecracker")).status).toBe(0);
  },
);

test("without a hash, or for a machine without a release, nothing is downloaded", async () => {
  await pin({ download: "-" });

  const unpinned = await fetchVmm("firecracker");
  const unknown = await fetchVmm("cloud-hypervisor");

  expect([unpinned.status, unpinned.error]).toEqual([
    1,
    expect.stringContaining("has no SHA-256 of firecracker 1.0.0"),
  ]);
  expect([unknown.status, unknown.error]).toEqual([
    1,
    expect.stringContaining(`has no release of cloud-hypervisor for ${MACHINE}`),
  ]);
  expect(ranges).toEqual([]);
});

test("the releases of the list are whole lines", async () => {
  const text = await readFile(join(REPOSITORY, "deploy/vmm-releases.txt"), "utf8");
  const lines = text.split("\n").filter((line) => /^[a-z]/.test(line));

  expect(lines.map((line) => line.split(" ")[0])).toEqual(["firecracker", "cloud-hypervisor"]);
  const line = /^[a-z-]+ [\d.]+ (x86_64|aarch64) [0-9a-f]{64} [0-9a-f]{64} https:\S+ \S+$/;
  expect(lines.filter((text) => !line.test(text))).toEqual([]);
});
