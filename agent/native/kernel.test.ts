import { afterAll, beforeAll, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { mkdtemp, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Kernel } from "./kernel.ts";
import { parseIpv4 } from "./network-calls.ts";
import { check, hasCode, SyscallError } from "./syscall-error.ts";

const NATIVE_DIR = join(import.meta.dirname, "../../build/native");

let kernel: Kernel;
let dir: string;

beforeAll(async () => {
  kernel = await Kernel.open(NATIVE_DIR);
  dir = await mkdtemp(join(tmpdir(), "wrenn-kernel-"));
});

afterAll(async () => {
  await kernel.close();
  await rm(dir, { recursive: true });
});

async function failureOf(promise: Promise<unknown>): Promise<unknown> {
  return promise.then(
    () => "no failure",
    (error) => error,
  );
}

test("a failed call names the operation and the errno", async () => {
  const failure = await failureOf(kernel.storage.copySparse(join(dir, "none"), join(dir, "to")));

  expect(failure).toBeInstanceOf(SyscallError);
  expect(hasCode(failure, "EPERM", "ENOENT")).toBe(true);
  expect(String(failure)).toBe(`SyscallError: copy ${dir}/none to ${dir}/to: ENOENT`);
});

test("calls that run and wait are told by lane, until they are over", async () => {
  const calls = Promise.all([1, 2, 3].map(() => kernel.tscKhz().catch(() => 0)));

  const during = kernel.calls;
  await calls;

  // Two Workers for storage, and the clock is measured for a tenth of a second.
  expect(during).toEqual({
    network: { waiting: 0, running: 0 },
    storage: { waiting: 1, running: 2 },
  });
  expect(kernel.calls.storage).toEqual({ waiting: 0, running: 0 });
});

test("a result that is not negative passes, a negative one throws", () => {
  expect(check("count", 3)).toBe(3);
  expect(() => check('create memfd "guest"', -9)).toThrow('create memfd "guest": EBADF');
  expect(hasCode("EBADF", "EBADF")).toBe(false);
});

test("a missing library is named", async () => {
  const failure = await failureOf(Kernel.open(join(dir, "nowhere")));

  expect(String(failure)).toContain(`Cannot load the native library ${dir}/nowhere/libwrenn.so`);
});

test("text with a NUL never reaches the kernel", async () => {
  const failure = await failureOf(kernel.storage.copySparse(join(dir, "a\0b"), join(dir, "to")));

  expect(String(failure)).toContain("NUL");
});

test("the main loop goes on while a call waits", async () => {
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  const khz = await kernel.tscKhz();
  clearInterval(timer);

  expect(khz).toBeGreaterThan(100_000);
  // None, if the loop had waited, too; how many is the machine's business.
  expect(ticks).toBeGreaterThan(0);
});

test("many calls at once are all answered", async () => {
  const lists = await Promise.all(
    Array.from({ length: 200 }, () => kernel.network.listLinks("lo")),
  );

  expect(lists.filter((links) => links.includes("lo"))).toHaveLength(200);
});

test("a lock is held until its descriptor is closed", () => {
  const path = join(dir, "lock");
  const first = kernel.tryLockFile(path);
  expect(first).not.toBeNull();
  expect(kernel.tryLockFile(path)).toBeNull();

  closeSync(first ?? -1);
  const second = kernel.tryLockFile(path);
  expect(second).not.toBeNull();
  closeSync(second ?? -1);
});

test("a hash covers the holes of a file", async () => {
  const path = join(dir, "sparse");
  await writeFile(path, "capsule");
  await truncate(path, 3_000_000);

  const expected = new Bun.CryptoHasher("sha256");
  expected.update("capsule").update(Buffer.alloc(3_000_000 - 7));

  expect(await kernel.storage.sha256(path)).toBe(expected.digest("hex"));
  expect((await stat(path)).blocks * 512).toBeLessThan(100_000);
});

test("the status line of a snapshot is read", () => {
  expect(kernel.classifySnapshot("16/2048 8")).toEqual({
    state: "active",
    usedSectors: 16,
    totalSectors: 2048,
  });
  expect(kernel.classifySnapshot("Invalid")).toEqual({ state: "invalid" });
  expect(kernel.classifySnapshot("Overflow")).toEqual({ state: "overflow" });
  expect(() => kernel.classifySnapshot("nonsense")).toThrow("EBADMSG");
});

test("close waits for calls under way and refuses later ones", async () => {
  const own = await Kernel.open(NATIVE_DIR);
  const measuring = own.tscKhz();

  await own.close();

  expect(await measuring).toBeGreaterThan(100_000);
  expect(String(await failureOf(own.tscKhz()))).toContain("The native library is closed");
});

test.each(["1.2.3", "1.2.3.256", "1.2.3.x", "1.2.3.4.5"])("%p is no IPv4 address", (text) => {
  expect(() => parseIpv4(text)).toThrow("Cannot parse IPv4 address");
});

test("the first byte of an IPv4 address is the highest", () => {
  expect([parseIpv4("10.0.0.1"), parseIpv4("255.255.255.255")]).toEqual([0x0a000001, 0xffffffff]);
});
