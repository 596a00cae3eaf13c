// Real microVMs of the real image under the real driver.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import {
  KERNELS_DIR,
  NATIVE_DIR,
  openVmmFixture,
  type VmmFixture,
} from "../../../tests/harness/vmm-fixture.ts";
import { waitFor } from "../../../tests/harness/wait-for.ts";
import { isAlive } from "../../keeper/process-identity.ts";
import { findGuestKernel } from "../../rootfs/guest-kernel.ts";
import type { GuestKernel, Vmm, VmmSpec } from "../../vmm/vmm.ts";
import { chooseVmm, openVmm } from "../open-vmm.ts";

const SHAPE = { vcpus: 1, memoryMib: 512 };
const BOOT_TIMEOUT_MS = 120_000;
/** What envd prints once it serves. */
const READY = '"listening"';
const BOOTS = process.env.WRENN_SOAK ? 20 : 3;

let place: VmmFixture;
let vmm: Vmm;
let kernel: GuestKernel;
let count = 0;

beforeAll(async () => {
  place = await openVmmFixture("tqv0", 219_803);
  const tscKhz = await place.kernel.tscKhz();
  const choice = await chooseVmm({
    ...{
      vmm: "qemu",
      firecrackerBin: null,
      cloudHypervisorBin: null,
      cpu: null,
      hasHugePages: false,
    },
    ...{ nativeDir: NATIVE_DIR, cacheDir: place.dir },
  });
  vmm = openVmm(choice, { nativeDir: NATIVE_DIR, tscKhz, landlockVersion: 0 });
  kernel = await findGuestKernel(KERNELS_DIR);
});
afterAll(() => place[Symbol.asyncDispose]());

async function specOf(cmdlineExtra: string[]): Promise<VmmSpec> {
  const capsuleId = `cl-vm-${count++}`;
  return {
    ...SHAPE,
    ...{ capsuleId, kernel, netns: place.netns, tap: place.tap, uid: place.uid },
    cmdlineExtra: [`wrenn.capsule=${capsuleId}`, ...cmdlineExtra],
    runDir: await place.makeRunDir(capsuleId),
    rootDisk: await place.makeRootDisk(capsuleId),
    consoleLog: join(place.dir, `${capsuleId}.console.log`),
    cgroup: await place.makeCgroup(capsuleId, vmm.limits(SHAPE)),
  };
}

async function untilConsoleShows(spec: VmmSpec, text: string): Promise<void> {
  await waitFor(`${text} on the console`, () => readFile(spec.consoleLog, "utf8"), {
    holds: (shown) => shown.includes(text),
    timeoutMs: BOOT_TIMEOUT_MS,
  });
}

test(
  "a guest boots to envd, is found again, and is ended without a trace",
  async () => {
    const spec = await specOf([]);

    const booted = await vmm.boot(spec);
    await untilConsoleShows(spec, READY);
    const found = await vmm.adopt(spec.runDir);
    expect(found?.pid).toBe(booted.pid);
    const exit = await booted.kill();

    expect(exit).toMatchObject({ reason: "exited", status: 0 });
    expect(await found?.exited).toEqual(exit);
    expect(isAlive(booted)).toBe(false);
    expect(await vmm.adopt(spec.runDir)).toBeNull();
    await place.cgroups.remove(spec.capsuleId);
  },
  BOOT_TIMEOUT_MS,
);

test(
  `${BOOTS} boots in a row all come up`,
  async () => {
    for (let i = 0; i < BOOTS; i++) {
      const spec = await specOf([]);
      const booted = await vmm.boot(spec);
      await untilConsoleShows(spec, READY);
      await booted.kill();
    }
  },
  BOOTS * BOOT_TIMEOUT_MS,
);

test(
  "a guest's memory is charged to its group, and the VMM is confined",
  async () => {
    const spec = await specOf([]);
    const booted = await vmm.boot(spec);
    await untilConsoleShows(spec, READY);

    const status = readFileSync(`/proc/${booted.pid}/status`, "latin1");
    const groups = readFileSync(`/proc/${booted.pid}/cgroup`, "latin1");
    const memory = await memoryUsed(spec);
    const ram = await stat(join(spec.runDir, "ram"));
    await booted.kill();

    expect(status).toMatch(/^Uid:\t219803\t219803\t219803\t219803$/m);
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(groups).toContain(`/wrenn-tqv0/${spec.capsuleId}`);
    expect(memory).toBeGreaterThan(ram.blocks * 512 * 0.9);
    expect(memory).toBeLessThan(vmm.limits(SHAPE).memoryBytes);
  },
  BOOT_TIMEOUT_MS,
);

// Counting ticks instead, an idle guest would wake the host 250 times a second.
test(
  "an emulated guest keeps time by the host's TSC",
  async () => {
    const spec = await specOf(["loglevel=7"]);
    const booted = await vmm.boot(spec);
    await untilConsoleShows(spec, READY);
    await booted.kill();

    const sources = readFileSync(spec.consoleLog, "latin1").match(/Switched to clocksource \S+/g);
    expect(sources?.at(-1)).toBe(
      `Switched to clocksource ${vmm.accel === "tcg" ? "tsc" : "kvm-clock"}`,
    );
  },
  BOOT_TIMEOUT_MS,
);

for (const [what, word] of [
  ["panics", "init=/no/such/init"],
  ["whose init ends", "init=/usr/bin/true"],
] as const) {
  test(
    `a guest that ${what} ends its VMM`,
    async () => {
      const booted = await vmm.boot(await specOf([word]));

      expect(await booted.exited).toMatchObject({ reason: "exited", status: 0 });
    },
    BOOT_TIMEOUT_MS,
  );
}

test(
  "a VMM whose keeper is killed does not live on",
  async () => {
    const booted = await vmm.boot(await specOf([]));

    process.kill(booted.keeperPid, "SIGKILL");

    expect((await booted.exited).reason).toBe("unknown");
    expect(isAlive(booted)).toBe(false);
  },
  BOOT_TIMEOUT_MS,
);

test("a boot that cannot be says why", async () => {
  const spec = await specOf([]);
  const broken = { ...kernel, vmlinux: join(place.dir, "no-kernel") };

  await expect(vmm.boot({ ...spec, kernel: broken })).rejects.toThrow("no-kernel: No such file");
});

test("a VMM that gives up at once says its last words", async () => {
  const spec = await specOf([]);
  const broken = { ...kernel, vmlinux: spec.rootDisk };

  await expect(vmm.boot({ ...spec, kernel: broken })).rejects.toThrow(/kernel|vm.kernel/i);
});

async function memoryUsed(spec: VmmSpec): Promise<number> {
  for (const procs of spec.cgroup.procsFiles) {
    for (const name of ["memory.current", "memory.usage_in_bytes"]) {
      const text = await readFile(join(dirname(procs), name), "utf8").catch(() => null);
      if (text !== null) return Number(text);
    }
  }
  throw new Error("no group counts memory");
}
