// A real guest is stopped, saved, ended and restored: as the same guest, not as one that booted.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { chmod, mkdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  type GuestFixture,
  openGuestFixture,
  type TestGuest,
} from "../../../tests/harness/guest-fixture.ts";
import { tickerLine } from "../../../tests/harness/ticker.ts";
import { waitFor } from "../../../tests/harness/wait-for.ts";
import { isAlive, readStartTime } from "../../keeper/process-identity.ts";
import { PAGER_DIR, readPagerStats, readRegions } from "../../memory/pager.ts";
import type { GuestMemory, VmmProcess, VmmSpec } from "../../vmm/vmm.ts";

const SHAPE = { vcpus: 1, memoryMib: 256 };
const TIMEOUT_MS = 180_000;
const PAGER_UID = 260_001;
const STATE_BYTES_MAX = 200 * 1024;

let place: GuestFixture;
let spec: VmmSpec;
let started: VmmProcess;
let guest: TestGuest;
let saved = "";
/** Of a process in the guest: its nonce is made at its start, its count only ever grows. */
let before = { nonce: "", ticks: 0 };

beforeAll(async () => {
  place = await openGuestFixture("tqr0");
}, TIMEOUT_MS);
afterAll(() => place[Symbol.asyncDispose](), TIMEOUT_MS);

async function readTicks(): Promise<{ nonce: string; ticks: number }> {
  const [ticks = "", nonce = ""] = (await guest.run("cat /dev/shm/tick")).split(" ");
  return { nonce, ticks: Number(ticks) };
}

async function restore(memory: GuestMemory): Promise<void> {
  spec = await place.makeSpec("cl-restore", SHAPE, spec.rootDisk);
  started = await place.vmm.restore(spec, { dir: saved, memory });
  expect(await place.vmm.isRunning(spec.runDir)).toBe(false);
  await place.vmm.resume(spec.runDir);
  guest = await place.awaitGuest(spec);
}

async function end(): Promise<void> {
  await started.kill();
  await place.clear(spec);
}

test(
  "a guest is stopped, goes on, and is saved in a few KiB",
  async () => {
    spec = await place.makeSpec("cl-restore", SHAPE);
    started = await place.vmm.boot(spec);
    guest = await place.awaitGuest(spec);
    await guest.run(tickerLine("/dev/shm/tick"));
    saved = join(place.dir, "saved");
    await mkdir(saved);

    for (let i = 0; i < 3; i++) {
      await place.vmm.pauseAndSave(spec.runDir, { dir: saved, isReady: Promise.resolve() });
      expect(await place.vmm.isRunning(spec.runDir)).toBe(false);
      const found = await place.vmm.adopt(spec.runDir);
      expect(found?.pid).toBe(started.pid);
      await place.vmm.resume(spec.runDir);
      expect(await place.vmm.isRunning(spec.runDir)).toBe(true);
    }
    before = await readTicks();
    await place.vmm.pauseAndSave(spec.runDir, { dir: saved, isReady: Promise.resolve() });

    expect((await stat(join(saved, "device-state"))).size).toBeLessThan(STATE_BYTES_MAX);
    expect(before.ticks).toBeGreaterThan(0);
  },
  TIMEOUT_MS,
);

test(
  "state that cannot be written leaves the guest able to go on",
  async () => {
    const missing = join(place.dir, "missing");

    const isReady = Promise.resolve();
    await expect(place.vmm.pauseAndSave(spec.runDir, { dir: missing, isReady })).rejects.toThrow(
      "ENOENT",
    );
    await place.vmm.resume(spec.runDir);
    before = await readTicks();
    const memory = await place.vmm.pauseAndSave(spec.runDir, { dir: saved, isReady });
    if (memory.kind !== "file") throw new Error(`a booted guest's memory is ${memory.kind}`);
    await place.kernel.memory.sealFile(memory.path, 256 * 1024 * 1024, {
      directory: saved,
      parentHeader: "",
      layerDirectories: [],
      id: crypto.randomUUID(),
    });
    await end();
  },
  TIMEOUT_MS,
);

test(
  "it goes on from a private mapping of a flat file",
  async () => {
    const file = join(saved, "flat");
    await place.kernel.memory.flatten(join(saved, "memory.header"), [saved], file);
    await chmod(file, 0o444);
    const content = Bun.hash(await readFile(file));

    await restore({ kind: "map", file });

    const after = await readTicks();
    expect(after.nonce).toBe(before.nonce);
    expect(after.ticks).toBeGreaterThanOrEqual(before.ticks);
    expect(await place.vmm.memoryOf(spec.runDir)).toEqual({ kind: "map", file });
    const mapping = await place.kernel.memory.findMapping(started.pid, file);
    expect(mapping.sizeBytes).toBe(BigInt(256 * 1024 * 1024));
    await end();
    expect(Bun.hash(await readFile(file))).toBe(content);
  },
  TIMEOUT_MS,
);

function pagerPid(): number {
  const record: unknown = JSON.parse(readFileSync(join(spec.runDir, "vmm.json"), "utf8"));
  const isRecord = typeof record === "object" && record !== null && "pagerPid" in record;
  return isRecord && typeof record.pagerPid === "number" ? record.pagerPid : -1;
}

function byPager(): GuestMemory {
  const pager = {
    header: join(saved, "memory.header"),
    layerDirectories: [saved],
    uid: PAGER_UID,
    workingSet: null,
  };
  return { kind: "uffd", pager };
}

test(
  "it goes on from pages that a pager brings, which ends with it",
  async () => {
    await restore(byPager());

    const after = await readTicks();
    expect(after.nonce).toBe(before.nonce);
    expect(await place.vmm.memoryOf(spec.runDir)).toEqual({ kind: "uffd" });
    expect(await readRegions(spec.runDir, 5000)).toMatchObject([{ size: 256 * 1024 * 1024 }]);
    expect((await readPagerStats(spec.runDir, 5000)).state).toBe("serving");
    const pid = pagerPid();
    const pagerDir = join(spec.runDir, PAGER_DIR);
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    expect(status).toMatch(/^Uid:\t260001\t260001/m);
    expect(status.match(/^Cap(Inh|Prm|Eff|Bnd|Amb):\t0000000000000000$/gm)).toHaveLength(5);
    for (const kind of ["mnt", "pid", "net", "ipc", "uts", "cgroup"]) {
      const own = readlinkSync(`/proc/self/ns/${kind}`);
      expect(readlinkSync(`/proc/${pid}/ns/${kind}`)).not.toBe(own);
    }
    expect(readdirSync(`/proc/${pid}/root`).sort()).toEqual(readdirSync(pagerDir).sort());
    const exit = await started.kill();
    expect(exit).toMatchObject({ cause: "vmm" });
    expect(readStartTime(pid)).toBeNull();
    expect((await stat(join(pagerDir, "working-set"))).size).toBeGreaterThan(1000);
    await place.clear(spec);
  },
  TIMEOUT_MS,
);

test(
  "a VMM whose pager is killed ends at once, and says why",
  async () => {
    await restore(byPager());

    process.kill(pagerPid(), "SIGKILL");
    const exit = await started.exited;

    expect(exit).toMatchObject({ cause: "pager", reason: "signaled", status: 9 });
    expect(exit.detail).toContain("its pager signaled, 9");
    expect(await place.vmm.adopt(spec.runDir)).toBeNull();
    await place.clear(spec);
  },
  TIMEOUT_MS,
);

test(
  "neither VMM nor pager outlives a killed keeper",
  async () => {
    await restore(byPager());
    const pid = pagerPid();

    process.kill(started.keeperPid, "SIGKILL");
    await started.exited;

    expect(isAlive(started)).toBe(false);
    await waitFor("the end of the pager", () => readStartTime(pid) === null);
    await place.clear(spec);
  },
  TIMEOUT_MS,
);

test(
  "a snapshot without its memory is refused before a VMM runs",
  async () => {
    spec = await place.makeSpec("cl-restore", SHAPE, spec.rootDisk);
    const pager = { header: join(place.dir, "none"), layerDirectories: [saved] };
    const memory: GuestMemory = {
      kind: "uffd",
      pager: { ...pager, uid: PAGER_UID, workingSet: null },
    };

    await expect(place.vmm.restore(spec, { dir: saved, memory })).rejects.toThrow(
      /start the pager: .*No such file/,
    );
    await place.clear(spec);
  },
  TIMEOUT_MS,
);
