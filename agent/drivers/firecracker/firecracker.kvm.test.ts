// Real guests under a real Firecracker: what is the driver's own. What guests find the same under every
// VMM is in agent/snapshots/snapshots.vm.test.ts, which WRENN_VMM=firecracker runs with this one.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readFileSync, readlinkSync } from "node:fs";
import { chmod, mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  type GuestFixture,
  openGuestFixture,
  type TestGuest,
} from "../../../tests/harness/guest-fixture.ts";
import { tickerLine } from "../../../tests/harness/ticker.ts";
import { isAlive } from "../../keeper/process-identity.ts";
import { readPagerStats, readRegions } from "../../memory/pager.ts";
import { findProcessMemory } from "../../snapshots/process-memory.ts";
import type { GuestMemory, VmmProcess, VmmSpec } from "../../vmm/vmm.ts";

const SHAPE = { vcpus: 1, memoryMib: 256 };
const BYTES = SHAPE.memoryMib * 1024 * 1024;
const TIMEOUT_MS = 600_000;
const PAGER_UID = 260_002;
const STATE_BYTES_MAX = 200 * 1024;

let place: GuestFixture;
let spec: VmmSpec;
let started: VmmProcess;
let guest: TestGuest;
let saved = "";
let before = { nonce: "", ticks: 0 };

beforeAll(async () => {
  place = await openGuestFixture("tfc0", "firecracker");
}, TIMEOUT_MS);
afterAll(() => place[Symbol.asyncDispose](), TIMEOUT_MS);

/** Of a process in the guest: its nonce is made at its start, its count only ever grows. */
async function readTicks(): Promise<{ nonce: string; ticks: number }> {
  const [ticks = "", nonce = ""] = (await guest.run("cat /dev/shm/tick")).split(" ");
  return { nonce, ticks: Number(ticks) };
}

test(
  "a guest boots under a VMM that is confined, and is found again",
  async () => {
    spec = await place.makeSpec("cl-fc", SHAPE);
    started = await place.vmm.boot(spec);
    guest = await place.awaitGuest(spec);

    const status = readFileSync(`/proc/${started.pid}/status`, "latin1");
    expect(status).toMatch(new RegExp(`^Uid:\t${spec.uid}\t${spec.uid}\t${spec.uid}`, "m"));
    expect(status).toMatch(/^Seccomp:\t2$/m);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    expect(status).toMatch(/^CapEff:\t0000000000000000$/m);
    for (const kind of ["mnt", "pid", "net", "ipc", "uts"]) {
      const own = readlinkSync(`/proc/self/ns/${kind}`);
      expect(readlinkSync(`/proc/${started.pid}/ns/${kind}`)).not.toBe(own);
    }
    expect(await place.vmm.isRunning(spec.runDir)).toBe(true);
    expect((await place.vmm.adopt(spec.runDir))?.pid).toBe(started.pid);
    expect(await place.vmm.memoryOf(spec.runDir)).toMatchObject({
      kind: "anonymous",
      regions: [{ size: BYTES, offset: 0 }],
    });
    expect(
      await guest.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource"),
    ).toBe("kvm-clock");
  },
  TIMEOUT_MS,
);

const RATE = 64 * 1024;
const NO_DISK = { readBytesPerS: 0, writeBytesPerS: 0, readsPerS: 0, writesPerS: 0 };
const NO_NETWORK = { inBytesPerS: 0, outBytesPerS: 0 };
/** Of which what a second allows comes at once. */
const HELD_BYTES = 24 * RATE;
const HELD_MS_MIN = 10_000;

test(
  "its disk is held to a share of the host's, and let go again",
  async () => {
    const write = async () => {
      const startedAt = performance.now();
      const count = HELD_BYTES / 4096;
      await guest.run(`dd if=/dev/zero of=/root/held bs=4096 count=${count} oflag=direct`);
      return performance.now() - startedAt;
    };
    const disk = { ...NO_DISK, readBytesPerS: RATE, writeBytesPerS: RATE };

    // The emulated host may take longer for anything: how soon it is let go says nothing.
    const unix = join(spec.runDir, "vmm/api.sock");
    const config = async () => (await fetch("http://localhost/vm/config", { unix })).text();

    await place.vmm.hold(spec.runDir, { disk, network: NO_NETWORK });
    const [heldMs, held] = [await write(), await config()];
    await place.vmm.hold(spec.runDir, { disk: NO_DISK, network: NO_NETWORK });

    expect(heldMs).toBeGreaterThan(HELD_MS_MIN);
    expect(held).toContain(`"size":${2 * RATE},`);
    expect(await config()).not.toContain(`"size":${2 * RATE},`);
  },
  TIMEOUT_MS,
);

test(
  "it is stopped, goes on, and is saved without its memory",
  async () => {
    await guest.run(tickerLine("/dev/shm/tick"));
    saved = join(place.dir, "saved");
    await mkdir(saved);
    const isReady = Promise.resolve();

    for (let i = 0; i < 3; i++) {
      await place.vmm.pauseAndSave(spec.runDir, { dir: saved, isReady });
      expect(await place.vmm.isRunning(spec.runDir)).toBe(false);
      await place.vmm.pause(spec.runDir);
      await place.vmm.resume(spec.runDir);
      await place.vmm.resume(spec.runDir);
      expect(await place.vmm.isRunning(spec.runDir)).toBe(true);
    }
    const missing = join(place.dir, "missing");
    await expect(place.vmm.pauseAndSave(spec.runDir, { dir: missing, isReady })).rejects.toThrow(
      "ENOENT",
    );
    await place.vmm.resume(spec.runDir);
    before = await readTicks();
    await place.vmm.pauseAndSave(spec.runDir, { dir: saved, isReady });

    expect((await stat(join(saved, "device-state"))).size).toBeLessThan(STATE_BYTES_MAX);
    const target = { directory: saved, parentHeader: "", layerDirectories: [] };
    const capsule = { runDir: spec.runDir, process: started, shape: SHAPE };
    const memory = await place.vmm.memoryOf(spec.runDir);
    if (memory.kind === "file") throw new Error("Firecracker shares no memory");
    const source = await findProcessMemory(place.kernel, capsule, memory);
    await place.kernel.memory.sealProcess(source, { ...target, id: crypto.randomUUID() });
    await started.kill();
    expect(isAlive(started)).toBe(false);
    await place.clear(spec);
  },
  TIMEOUT_MS,
);

async function restore(memory: GuestMemory): Promise<void> {
  spec = await place.makeSpec("cl-fc", SHAPE, spec.rootDisk);
  started = await place.vmm.restore(spec, { dir: saved, memory });
  expect(await place.vmm.isRunning(spec.runDir)).toBe(false);
  await place.vmm.resume(spec.runDir);
  guest = await place.awaitGuest(spec);
  const after = await readTicks();
  expect(after.nonce).toBe(before.nonce);
  expect(after.ticks).toBeGreaterThanOrEqual(before.ticks);
}

test(
  "it goes on in another network namespace from a private mapping of a flat file",
  async () => {
    const file = join(saved, "flat");
    await place.kernel.memory.flatten(join(saved, "memory.header"), [saved], file);
    await chmod(file, 0o444);
    const content = Bun.hash(await readFile(file));

    await restore({ kind: "map", file });

    const mapping = await place.kernel.memory.findMapping(started.pid, file);
    expect(mapping.sizeBytes).toBe(BigInt(BYTES));
    await started.kill();
    await place.clear(spec);
    expect(Bun.hash(await readFile(file))).toBe(content);
  },
  TIMEOUT_MS,
);

function byPager(): GuestMemory {
  const pager = { header: join(saved, "memory.header"), layerDirectories: [saved] };
  return { kind: "uffd", pager: { ...pager, uid: PAGER_UID, workingSet: null } };
}

test(
  "it goes on from pages that our pager brings, and ends with that",
  async () => {
    await restore(byPager());

    expect(await readRegions(spec.runDir, 5000)).toMatchObject([{ size: BYTES }]);
    expect((await readPagerStats(spec.runDir, 5000)).state).toBe("serving");
    const record: unknown = JSON.parse(await readFile(join(spec.runDir, "vmm.json"), "utf8"));
    if (typeof record !== "object" || record === null || !("pagerPid" in record)) {
      throw new Error("no pager");
    }
    process.kill(Number(record.pagerPid), "SIGKILL");
    expect(await started.exited).toMatchObject({ cause: "pager" });
    await place.clear(spec);
  },
  TIMEOUT_MS,
);

test(
  "a VMM whose keeper is killed does not live on, nor one whose guest panics",
  async () => {
    await restore(byPager());
    process.kill(started.keeperPid, "SIGKILL");
    expect((await started.exited).reason).toBe("unknown");
    expect(isAlive(started)).toBe(false);
    await place.clear(spec);

    spec = await place.makeSpec("cl-panic", SHAPE);
    const panics = { ...spec, cmdlineExtra: ["init=/no/such/init"] };
    const booted = await place.vmm.boot(panics);
    expect(await booted.exited).toMatchObject({ reason: "exited", status: 0 });
    await place.clear(spec);
  },
  TIMEOUT_MS,
);

test(
  "a start that cannot be says why, and leaves nothing",
  async () => {
    spec = await place.makeSpec("cl-broken", SHAPE);
    const broken = { ...spec.kernel, vmlinux: spec.rootDisk };

    const failure = await place.vmm.boot({ ...spec, kernel: broken }).catch((error) => error);

    expect(String(failure.cause)).toContain("PUT /actions: 400");
    expect(await place.vmm.adopt(spec.runDir)).toBeNull();
    await place.clear(spec);
  },
  TIMEOUT_MS,
);
