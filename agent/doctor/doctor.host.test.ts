// The doctor as it is called, on this machine.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { installGuestFiles } from "../../scripts/dev/guest-files.ts";
import type { Finding } from "./finding.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const TIMEOUT_MS = 60_000;

let base: string;

beforeAll(async () => {
  base = await mkdtemp("/var/tmp/wrenn-doctor-");
});
afterAll(() => rm(base, { recursive: true }));

async function ask(args: string[], env: Record<string, string>) {
  const child = Bun.spawn([process.execPath, join(ROOT, "agent/main.ts"), "doctor", ...args], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { stdout, stderr, status };
}

function find(stdout: string): Map<string, Finding> {
  const { findings }: { findings: Finding[] } = JSON.parse(stdout);
  return new Map(findings.map((finding) => [finding.check, finding]));
}

/** What of the doctor's the kernel has. */
async function leftovers(): Promise<string[]> {
  const namespaces = existsSync("/run/netns") ? await readdir("/run/netns") : [];
  return namespaces.filter((name) => name.startsWith("wrenn-doctor-"));
}

test("a host on which no agent ever ran is examined, and left as it was", async () => {
  const dir = join(base, "new");
  const before = await readdir(base);

  const { stdout, stderr, status } = await ask(["--json"], { WRENN_DIR: join(dir, "wrenn") });

  const findings = find(stdout);
  expect(stderr).toBe("");
  expect(status).toBe(1);
  expect(JSON.parse(stdout).status).toBe("failed");
  expect(findings.get("guest kernel")).toMatchObject({
    status: "failed",
    found: `There is no vmlinux in ${dir}/wrenn/kernels`,
  });
  expect(findings.get("images")?.status).toBe("failed");
  for (const check of ["root", "vmm", "nftables", "tap devices", "native library"]) {
    expect(findings.get(check)).toMatchObject({ status: "ok", remedy: null });
  }
  expect(await readdir(base)).toEqual(before);
  expect(await leftovers()).toEqual([]);
});

test(
  "the kernel and the image that were installed are whole, and a byte that changed is found",
  async () => {
    const dir = join(base, "installed");
    await installGuestFiles(ROOT, dir);
    const env = { WRENN_DIR: dir };

    const whole = find((await ask(["--json"], env)).stdout);
    const kernels = (await readdir(join(dir, "kernels"))).filter((n) =>
      /^vmlinux-[\d.]+\d$/.test(n),
    );
    await writeFile(join(dir, "kernels", kernels[0] ?? ""), "\x7fELF");
    const damaged = find((await ask(["--json"], env)).stdout);

    expect(whole.get("guest kernel")?.status).toBe("ok");
    expect(whole.get("images")?.status).toBe("ok");
    expect(damaged.get("guest kernel")?.status).toBe("failed");
    expect(await readdir(dir)).toEqual(["images", "kernels"]);
  },
  TIMEOUT_MS,
);

test("what a killed doctor left and nobody can remove is a failure of namespaces alone", async () => {
  await mkdir("/run/netns", { recursive: true });
  // No process has that id: it is above what the kernel gives.
  const stuck = "/run/netns/wrenn-doctor-4194305";
  await mkdir(stuck);
  await using _ = { [Symbol.asyncDispose]: () => rm(stuck, { recursive: true }) };

  const findings = find((await ask(["--json"], { WRENN_DIR: base })).stdout);

  expect(findings.get("network namespaces")).toMatchObject({
    status: "failed",
    found: expect.stringContaining("delete netns wrenn-doctor-4194305"),
  });
  for (const check of ["nftables", "tap devices", "native library"]) {
    expect(findings.get(check)?.status).toBe("ok");
  }
  expect(await leftovers()).toEqual(["wrenn-doctor-4194305"]);
});

test("a library that is missing is one failure among the other findings", async () => {
  const empty = join(base, "empty");
  await mkdir(empty);

  const { stdout, status } = await ask([], { WRENN_DIR: base, WRENN_NATIVE_DIR: empty });

  expect(status).toBe(1);
  expect(stdout).toContain(`FAILED   native library: Cannot load the native library ${empty}/`);
  expect(stdout).toContain(`FAILED   vmm: keeper is not in ${empty}`);
  expect(stdout).toMatch(/ok {7}root: runs as root/);
});

test("what it does not know is a sentence", async () => {
  const { stderr, status } = await ask(["--yaml"], {});

  expect([status, stderr]).toEqual([1, 'Cannot go on: doctor knows no "--yaml", only --json\n']);
});
