import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NATIVE_DIR } from "../../../tests/harness/vmm-fixture.ts";
import { chooseBy, probeAccel, runProbe } from "./probe-accel.ts";

const program = "/usr/bin/qemu-system-x86_64";
const TIMEOUT_MS = 5000;
let dir = "";

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-probe-"));
});
afterEach(async () => {
  await rm(dir, { recursive: true });
});

describe("the probe's guest", () => {
  test("runs through to its marker where a processor works, emulated here", async () => {
    const { outcome } = await runProbe(
      { program, cpu: null, nativeDir: NATIVE_DIR },
      "tcg",
      TIMEOUT_MS,
    );

    expect(outcome).toBe("works");
  });

  test("is told from one that ends without the marker", async () => {
    // At the reset vector: lidt [0], which is empty, and int3. A triple fault.
    const image = new Uint8Array(64 * 1024);
    image.set([0x0f, 0x01, 0x1e, 0x00, 0x00, 0xcc], 0xfff0);
    await writeFile(join(dir, "accel-probe.bin"), image);

    const { outcome } = await runProbe({ program, cpu: null, nativeDir: dir }, "tcg", TIMEOUT_MS);

    expect(outcome).toBe("fails");
  });

  test("is told from one that hangs, within the bound", async () => {
    const image = new Uint8Array(64 * 1024);
    // At the reset vector: jmp to itself.
    image.set([0xeb, 0xfe], 0xfff0);
    await writeFile(join(dir, "accel-probe.bin"), image);

    const { outcome, elapsedMs } = await runProbe(
      { program, cpu: null, nativeDir: dir },
      "tcg",
      500,
    );

    expect(outcome).toBe("timeout");
    expect(elapsedMs).toBeLessThan(TIMEOUT_MS);
  });
});

describe("the choice", () => {
  const options = () => ({
    program,
    version: "7.2",
    cpu: null,
    nativeDir: NATIVE_DIR,
    cacheDir: dir,
  });

  test("is one of the two, and is kept for this boot and this QEMU", async () => {
    const { accel, because } = await probeAccel(options());

    expect(["kvm", "tcg"]).toContain(accel);
    expect(because).toMatch(
      accel === "kvm" ? /^KVM ran a guest in \d+ ms$/ : /no \/dev\/kvm|did not run/,
    );
    if (!existsSync("/dev/kvm")) return;
    const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
    expect(JSON.parse(await readFile(join(dir, "accel.json"), "utf8"))).toEqual({
      bootId,
      version: "7.2",
      cpu: "host",
      accel,
      because,
    });
  });

  test("is made anew after another boot, another QEMU, or a file that is damaged", async () => {
    const { accel } = await probeAccel(options());
    const wrong = accel === "kvm" ? "tcg" : "kvm";
    const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
    const because = "of an earlier probe";
    const stale = [
      JSON.stringify({ bootId: "another", version: "7.2", accel: wrong, because }),
      JSON.stringify({ bootId, version: "6.0", accel: wrong, because }),
      JSON.stringify({ bootId, version: "7.2", accel: "xen", because }),
      JSON.stringify({ bootId, version: "7.2", accel: wrong }),
      "{",
    ];

    for (const text of stale) {
      await writeFile(join(dir, "accel.json"), text);
      expect((await probeAccel(options())).accel).toBe(accel);
    }
  });

  test("is not kept where nothing may be written", async () => {
    const { accel } = await probeAccel({ ...options(), cacheDir: null });

    expect(["kvm", "tcg"]).toContain(accel);
    expect(await readdir(dir)).toEqual([]);
  });

  test("tells what was seen, and QEMU's own words where it has some", () => {
    const run = { elapsedMs: 53.7, said: "" };

    expect(chooseBy({ ...run, outcome: "works" })).toEqual({
      accel: "kvm",
      because: "KVM ran a guest in 54 ms",
    });
    expect(chooseBy({ ...run, outcome: "timeout" })).toEqual({
      accel: "tcg",
      because: "KVM did not run a guest to its end within 54 ms",
    });
    expect(chooseBy({ ...run, outcome: "fails", said: "Permission denied" })).toEqual({
      accel: "tcg",
      because: "KVM did not run a guest: Permission denied",
    });
  });
});
