/**
 * What each VMM does for the agent, whichever it is: one table of cases, for QEMU here and anywhere, and for those
 * whose program is named (WRENN_FIRECRACKER_BIN, WRENN_CLOUD_HYPERVISOR_BIN). Its guest is one of a few instructions
 * that counts, so a KVM that runs no kernel is enough, and a case takes seconds. What guests with a kernel find the
 * same under every VMM is in agent/snapshots/snapshots.vm.test.ts.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import {
  chmod,
  chown,
  link,
  mkdir,
  readdir,
  readFile,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import {
  awaitRounds,
  buildCountingGuest,
  type Counting,
  readCounting,
  seal,
} from "../../tests/harness/counting-guest.ts";
import { NATIVE_DIR, openVmmFixture, type VmmFixture } from "../../tests/harness/vmm-fixture.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { isAlive } from "../keeper/process-identity.ts";
import { readVmmRecord } from "../keeper/run-records.ts";
import { readPagerStats } from "../memory/pager.ts";
import type { GuestKernel, GuestMemory, Vmm, VmmProcess, VmmSpec } from "../vmm/vmm.ts";
import { chooseVmm, openVmm, type VmmChoice } from "./open-vmm.ts";

const SHAPE = { vcpus: 1, memoryMib: 64 };
const LARGE = { memoryMib: 4096 };
const UID = 219_820;
const PAGER_UID = 260_020;
const TIMEOUT_MS = 600_000;
/** A MiB byte by byte, which on an emulated host takes minutes. */
const PRINT_MS = 500_000;
const STATE_BYTES_MAX = 200 * 1024;
const CONSOLE_BYTES_MAX = 1024 * 1024;
const DISK_BYTES = 1024 * 1024;
const GENERATIONS = process.env.WRENN_SOAK ? 10 : 2;
const ready = Promise.resolve();
const SHARES = {
  disk: { readBytesPerS: 1_000_000, writeBytesPerS: 1_000_000, readsPerS: 0, writesPerS: 100 },
  network: { inBytesPerS: 500_000, outBytesPerS: 0 },
};

const TABLE = [
  { name: "qemu", tag: "tvq0", program: "" },
  { name: "firecracker", tag: "tvf0", program: process.env.WRENN_FIRECRACKER_BIN || null },
  {
    name: "cloud-hypervisor",
    tag: "tvc0",
    program: process.env.WRENN_CLOUD_HYPERVISOR_BIN || null,
  },
] as const;

for (const { name, tag, program } of TABLE) {
  if (program === null) {
    const setting = `WRENN_${name.toUpperCase().replace("-", "_")}_BIN`;
    console.log(`${name}: skipped, since ${setting} names no program`);
  } else {
    describe(name, () => contractOf({ name, tag, program }));
  }
}

/** A directory with a generation is whole by itself. */
async function keepLayers(from: string, to: string): Promise<void> {
  const there = new Set(await readdir(to));
  for (const name of await readdir(from)) {
    if (!/^memory\.[0-9a-f-]{36}$/.test(name) || there.has(name)) continue;
    await link(join(from, name), join(to, name));
  }
}

/** Where KVM runs no kernel a VMM for it is not chosen; this guest it runs. */
async function choose(name: VmmChoice["name"], program: string): Promise<VmmChoice> {
  const own = { name, program, version: "given", accel: "kvm", cpu: null } as const;
  if (name !== "qemu") return { ...own, because: "named", accelBecause: "needed" };
  return chooseVmm({
    vmm: "qemu",
    firecrackerBin: null,
    cloudHypervisorBin: null,
    cpu: null,
    hasHugePages: false,
    nativeDir: NATIVE_DIR,
    cacheDir: null,
  });
}

function contractOf(row: { name: VmmChoice["name"]; tag: string; program: string }): void {
  let place: VmmFixture;
  let vmm: Vmm;
  let kernel: GuestKernel;
  let count = 0;
  /** The first generation: its directory, and how far its guest was. */
  let saved = "";
  let first: Counting;

  beforeAll(async () => {
    place = await openVmmFixture(row.tag, UID);
    await place.kernel.network.createTap({ netns: place.netns, name: "tap1" }, UID);
    vmm = await openDriver();
    // Nobody reads it; a VMM may want it where it is not shown any more.
    const initrd = join(place.dir, "initrd");
    await writeFile(initrd, Buffer.alloc(4096));
    kernel = { ...(await buildCountingGuest(place.dir)), initrd };
  });
  afterAll(() => place[Symbol.asyncDispose]());

  async function openDriver(): Promise<Vmm> {
    const { kernel } = place;
    const [tscKhz, landlockVersion] = [await kernel.tscKhz(), kernel.landlockVersion()];
    const host = { nativeDir: NATIVE_DIR, tscKhz, landlockVersion };
    return openVmm(await choose(row.name, row.program), host);
  }

  async function makeSpec(changes: Partial<VmmSpec> = {}): Promise<VmmSpec> {
    const capsuleId = `cl-contract-${count++}`;
    const rootDisk = join(place.dir, `${capsuleId}.ext4`);
    await writeFile(rootDisk, "");
    await truncate(rootDisk, DISK_BYTES);
    await chown(rootDisk, UID, UID);
    return {
      ...SHAPE,
      ...{ capsuleId, kernel, rootDisk, netns: place.netns, tap: place.tap, uid: UID },
      cmdlineExtra: [],
      runDir: await place.makeRunDir(capsuleId),
      consoleLog: join(place.dir, `${capsuleId}.console.log`),
      cgroup: await place.makeCgroup(capsuleId, vmm.limits({ ...SHAPE, ...changes })),
      ...changes,
    };
  }

  async function start(changes: Partial<VmmSpec> = {}): Promise<[VmmSpec, VmmProcess]> {
    const spec = await makeSpec(changes);
    const process = await vmm.boot(spec);
    await awaitRounds(spec);
    return [spec, process];
  }

  async function restore(memory: GuestMemory, changes: Partial<VmmSpec> = {}, from = saved) {
    const spec = await makeSpec(changes);
    const process = await vmm.restore(spec, { dir: from, memory });
    expect(await vmm.isRunning(spec.runDir)).toBe(false);
    await vmm.hold(spec.runDir, SHARES);
    await vmm.resume(spec.runDir);
    await awaitRounds(spec);
    expect(await readFile(spec.consoleLog, "latin1")).not.toContain("counting guest");
    return [spec, process] as const;
  }

  /** Stops, saves and ends it; how far it was. */
  async function save(spec: VmmSpec, process: VmmProcess, to: string, parent: string | null) {
    await mkdir(to);
    const { runDir } = spec;
    const memory = await vmm.pauseAndSave(runDir, { dir: to, isReady: ready });
    const counting = await seal(
      place.kernel,
      { runDir, process, shape: spec, memory },
      { directory: to, parent },
    );
    await process.kill();
    expect(isAlive(process)).toBe(false);
    return counting;
  }

  function byPager(from: string[]): GuestMemory {
    const pager = { header: join(from[0] ?? "", "memory.header"), layerDirectories: from };
    return { kind: "uffd", pager: { ...pager, uid: PAGER_UID, workingSet: null } };
  }

  /** The way that shares nothing, where the VMM has it. */
  const lone = () => (vmm.takesPager ? byPager([saved]) : byMap());

  async function byMap(): Promise<GuestMemory> {
    const file = join(saved, "flat");
    await chmod(file, 0o444);
    return { kind: "map", file };
  }

  test(
    "a guest boots under a VMM that is confined, and a new agent finds it",
    async () => {
      const [spec, process] = await start();

      const status = readFileSync(`/proc/${process.pid}/status`, "latin1");
      expect(status).toMatch(new RegExp(`^Uid:\t${UID}\t${UID}\t${UID}\t${UID}$`, "m"));
      // Cloud Hypervisor's first thread has no filter, and only waits for the others.
      const threads = readdirSync(`/proc/${process.pid}/task`).slice(1);
      const own = row.name === "cloud-hypervisor" ? threads : [String(process.pid), ...threads];
      for (const thread of own) {
        const text = readFileSync(`/proc/${process.pid}/task/${thread}/status`, "latin1");
        expect(text).toMatch(/^Seccomp:\t2$/m);
      }
      expect(status).toMatch(/^NoNewPrivs:\t1$/m);
      expect(status.match(/^Cap(Inh|Prm|Eff|Amb):\t0000000000000000$/gm)).toHaveLength(4);
      for (const kind of ["mnt", "pid", "net", "ipc", "uts"]) {
        const ours = readlinkSync(`/proc/self/ns/${kind}`);
        expect(readlinkSync(`/proc/${process.pid}/ns/${kind}`)).not.toBe(ours);
      }
      const groups = readFileSync(`/proc/${process.pid}/cgroup`, "latin1");
      expect(groups).toContain(`/wrenn-${row.tag}/${spec.capsuleId}`);
      const later = await openDriver();
      expect((await later.adopt(spec.runDir))?.pid).toBe(process.pid);
      expect(await later.isRunning(spec.runDir)).toBe(true);
      expect(await later.isStalled(spec.runDir)).toBe(false);
      await process.kill();
      expect(await later.adopt(spec.runDir)).toBeNull();
    },
    TIMEOUT_MS,
  );

  test(
    "it is stopped, goes on, and is saved in a few KiB",
    async () => {
      const [spec, process] = await start();
      saved = join(place.dir, "first");

      await vmm.pause(spec.runDir);
      await vmm.pause(spec.runDir);
      expect(await vmm.isRunning(spec.runDir)).toBe(false);
      await vmm.resume(spec.runDir);
      await vmm.resume(spec.runDir);
      expect(await vmm.isRunning(spec.runDir)).toBe(true);
      await vmm.hold(spec.runDir, SHARES);
      const missing = { dir: join(place.dir, "missing"), isReady: ready };
      await expect(vmm.pauseAndSave(spec.runDir, missing)).rejects.toThrow("ENOENT");
      await vmm.resume(spec.runDir);
      const isReady = Promise.reject(new Error("not ready"));
      isReady.catch(() => {});
      const unready = vmm.pauseAndSave(spec.runDir, { dir: place.dir, isReady });
      await expect(unready).rejects.toThrow("not ready");
      await vmm.resume(spec.runDir);
      await awaitRounds(spec);
      first = await save(spec, process, saved, null);

      expect(first.rounds).toBeGreaterThan(0n);
      expect((await stat(join(saved, "device-state"))).size).toBeLessThan(STATE_BYTES_MAX);
    },
    TIMEOUT_MS,
  );

  test(
    "guests go on side by side from one flat file, which stays as it was",
    async () => {
      const memory = await byMap();
      const content = Bun.hash(await readFile(join(saved, "flat")));

      const [specA, a] = await restore(memory);
      const [specB, b] = await restore(memory, { tap: "tap1" });
      const [toA, toB] = [join(place.dir, "fork-a"), join(place.dir, "fork-b")];
      const [seenA, seenB] = [await save(specA, a, toA, saved), await save(specB, b, toB, saved)];

      for (const seen of [seenA, seenB]) {
        expect(seen.nonce).toBe(first.nonce);
        expect(seen.rounds).toBeGreaterThan(first.rounds);
      }
      expect(seenA.rounds).not.toBe(seenB.rounds);
      expect(Bun.hash(await readFile(join(saved, "flat")))).toBe(content);
    },
    TIMEOUT_MS,
  );

  test(
    "generation after generation goes on, from the pages that a pager brings",
    async () => {
      let [parent, before] = [saved, first];
      for (let i = 0; i < GENERATIONS; i++) {
        const flat = { kind: "map", file: join(parent, "flat") } as const;
        const memory = vmm.takesPager ? byPager([parent]) : flat;
        await chmod(flat.file, 0o444);
        const [spec, process] = await restore(memory, {}, parent);
        const served = vmm.takesPager ? (await readPagerStats(spec.runDir, 5000)).state : "serving";
        expect(served).toBe("serving");
        const directory = join(place.dir, `generation-${i}`);
        const after = await save(spec, process, directory, parent);

        expect(after.nonce).toBe(first.nonce);
        expect(after.rounds).toBeGreaterThan(before.rounds);
        expect(await readCounting(join(directory, "flat"))).toEqual(after);
        await keepLayers(parent, directory);
        [parent, before] = [directory, after];
      }
    },
    TIMEOUT_MS,
  );

  test(
    "a guest of more than 3 GiB is found where its VMM has it, whichever way it came there",
    async () => {
      const [spec, process] = await start(LARGE);
      const [directory, next] = [join(place.dir, "large"), join(place.dir, "larger")];
      const before = await save(spec, process, directory, null);
      expect(before.rounds).toBeGreaterThan(0n);
      const flat = join(directory, "flat");
      await chmod(flat, 0o444);

      const [mapped, a] = await restore({ kind: "map", file: flat }, LARGE, directory);
      const after = await save(mapped, a, next, directory);
      expect(after.nonce).toBe(before.nonce);
      expect(after.rounds).toBeGreaterThan(before.rounds);

      if (!vmm.takesPager) return;
      const [paged, b] = await restore(byPager([directory]), LARGE, directory);
      const last = await save(paged, b, join(place.dir, "largest"), directory);
      expect(last.nonce).toBe(before.nonce);
      expect(last.rounds).toBeGreaterThan(before.rounds);
    },
    TIMEOUT_MS,
  );

  test(
    "neither VMM, pager nor keeper outlives the others",
    async () => {
      if (vmm.takesPager) {
        const [spec, a] = await restore(byPager([saved]));
        process.kill((await readVmmRecord(spec.runDir))?.pagerPid ?? 0, "SIGKILL");
        expect(await a.exited).toMatchObject({ cause: "pager", reason: "signaled", status: 9 });
        expect(await vmm.adopt(spec.runDir)).toBeNull();
      }

      const [, b] = await restore(await lone());
      process.kill(b.keeperPid, "SIGKILL");
      expect((await b.exited).reason).toBe("unknown");
      expect(isAlive(b)).toBe(false);

      const [, c] = await restore(await lone());
      process.kill(c.pid, "SIGKILL");
      expect(await c.exited).toMatchObject({ cause: "vmm", reason: "signaled", status: 9 });
    },
    TIMEOUT_MS,
  );

  test(
    "damage ends a restore with a reason, and leaves nothing",
    async () => {
      const cut = join(place.dir, "cut");
      await mkdir(cut);
      const state = await readFile(join(saved, "device-state"));
      await writeFile(join(cut, "device-state"), state.subarray(0, state.length / 2));
      const memory = await byMap();
      for (const dir of [cut, join(place.dir, "none")]) {
        const spec = await makeSpec();
        await expect(vmm.restore(spec, { dir, memory })).rejects.toThrow();
        expect(await vmm.adopt(spec.runDir)).toBeNull();
      }
      if (!vmm.takesPager) return;
      const spec = await makeSpec();
      const missing = byPager([join(place.dir, "none")]);
      await expect(vmm.restore(spec, { dir: saved, memory: missing })).rejects.toThrow(
        /start the pager: .*No such file/,
      );
    },
    TIMEOUT_MS,
  );

  test(
    "a boot that cannot be says why",
    async () => {
      const spec = await makeSpec();
      const missing = { ...kernel, vmlinux: join(place.dir, "no-kernel") };

      await expect(vmm.boot({ ...spec, kernel: missing })).rejects.toThrow("no-kernel");
      expect(await vmm.adopt(spec.runDir)).toBeNull();
    },
    TIMEOUT_MS,
  );

  // Under KVM each byte costs an exit to the VMM: half a minute of a processor.
  if (row.name !== "qemu" && !process.env.WRENN_SOAK) return;
  test(
    "what a guest prints is bounded, and it can be stopped meanwhile",
    async () => {
      const [spec, process] = await start({ kernel: await buildCountingGuest(place.dir, true) });

      const earlier = `${spec.consoleLog}.1`;
      await waitFor("a second log", () => existsSync(earlier), { timeoutMs: PRINT_MS });

      for (const path of [spec.consoleLog, earlier]) {
        expect((await stat(path)).size).toBeLessThanOrEqual(CONSOLE_BYTES_MAX);
      }
      await vmm.pause(spec.runDir);
      expect(await vmm.isRunning(spec.runDir)).toBe(false);
      await process.kill();
    },
    TIMEOUT_MS,
  );
}
