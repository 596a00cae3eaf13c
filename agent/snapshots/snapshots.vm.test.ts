// Real guests, paused, sealed, ended and restored: nothing that they wrote is lost or comes back.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import {
  type GuestFixture,
  openGuestFixture,
  type TestGuest,
} from "../../tests/harness/guest-fixture.ts";
import { quickestMs } from "../../tests/harness/quickest.ts";
import { tickerLine } from "../../tests/harness/ticker.ts";
import { isAlive } from "../keeper/process-identity.ts";
import { fileDisk } from "../rootfs/file-disks.ts";
import type { VmmProcess, VmmSpec } from "../vmm/vmm.ts";
import type { RestoreMode } from "./restore-memory.ts";
import { type Generation, type LiveCapsule, Snapshots } from "./snapshots.ts";

const SHAPE = { vcpus: 1, memoryMib: 256 };
const TIMEOUT_MS = 240_000;
const MODES: readonly RestoreMode[] = ["map", "uffd", "uffd"];
// Ten are enough to have layers merged.
const CYCLES = process.env.WRENN_SOAK ? 200 : 4;

/** A resume, which does not wait for the sealing under way. */
const QUICK_MS = 1_000;

let place: GuestFixture;
let snapshots: Snapshots;

beforeAll(async () => {
  place = await openGuestFixture("tsn0");
  snapshots = await openSnapshots("snapshots");
}, TIMEOUT_MS);
afterAll(() => place[Symbol.asyncDispose](), TIMEOUT_MS);

function openSnapshots(name: string): Promise<Snapshots> {
  const dir = join(place.dir, name);
  const flatDir = join(place.dir, "flat");
  return Snapshots.open({ dir, flatDir, kernel: place.kernel, vmm: place.vmm });
}

interface Living {
  readonly spec: VmmSpec;
  readonly live: LiveCapsule;
  readonly guest: TestGuest;
}

async function begin(spec: VmmSpec, vmm: VmmProcess): Promise<Living> {
  const live: LiveCapsule = {
    capsuleId: spec.capsuleId,
    runDir: spec.runDir,
    process: vmm,
    rootDisk: fileDisk(place.kernel, spec.rootDisk),
    shape: SHAPE,
    kernelVersion: spec.kernel.version,
  };
  return { spec, live, guest: await place.awaitGuest(spec) };
}

/** A guest with a process that counts: its nonce is made at its start, its count only ever grows. */
async function boot(capsuleId: string): Promise<Living> {
  const spec = await place.makeSpec(capsuleId, SHAPE);
  const living = await begin(spec, await place.vmm.boot(spec));
  await living.guest.run(tickerLine("/dev/shm/tick"));
  return living;
}

async function restore(
  capsuleId: string,
  from: { generation: Generation; mode: RestoreMode; rootDisk?: string },
): Promise<Living> {
  const disk = from.rootDisk ?? join(place.dir, `${capsuleId}.ext4`);
  if (from.rootDisk === undefined) {
    await place.kernel.storage.reflink(from.generation.disk.path, disk);
  }
  const spec = await place.makeSpec(capsuleId, SHAPE, disk);
  const { generation, mode } = from;
  return begin(spec, await snapshots.restore({ spec, generation, mode }));
}

async function end({ live, spec }: Living): Promise<void> {
  await live.process.kill();
  await place.clear(spec);
}

async function readTicks({ guest }: Living): Promise<{ nonce: string; ticks: number }> {
  const [ticks = "", nonce = ""] = (await guest.run("cat /dev/shm/tick")).split(" ");
  return { nonce, ticks: Number(ticks) };
}

test(
  `memory and disk survive ${CYCLES} pauses, by both ways of restoring`,
  async () => {
    let living = await boot("cl-cycle");
    // Random, so that no page is like another; with a part that a later cycle makes zeros.
    await living.guest.run(
      "mkdir /dev/shm/p /root/p; head -c 12M /dev/urandom > /dev/shm/p/a; " +
        "head -c 4M /dev/urandom > /dev/shm/p/b; head -c 8M /dev/urandom > /root/p/a; " +
        "cat /dev/shm/p/* /root/p/* | md5sum > /dev/shm/sum",
    );
    let before = await readTicks(living);

    for (let i = 0; i < CYCLES; i++) {
      const { generation: number } = await snapshots.pause(living.live);
      expect(await snapshots.state(living.live)).toBe("paused");
      const sealed = await snapshots.seal(living.live);
      expect((await snapshots.seal(living.live)).manifest).toEqual(sealed.manifest);
      await end(living);
      const { generation, refused } = await snapshots.latest("cl-cycle");
      expect([generation?.manifest.generation, refused]).toEqual([number, []]);
      if (generation === null) throw new Error("unreachable: it was found");

      const mode = MODES[i % MODES.length] ?? "uffd";
      living = await restore("cl-cycle", { generation, mode, rootDisk: living.spec.rootDisk });

      const after = await readTicks(living);
      expect(after.nonce).toBe(before.nonce);
      expect(after.ticks).toBeGreaterThanOrEqual(before.ticks);
      await living.guest.run("cat /dev/shm/p/* /root/p/* | md5sum -c /dev/shm/sum");
      // A part changes, a part becomes zeros, a part of the disk is written.
      await living.guest.run(
        `head -c 1M /dev/urandom | dd of=/dev/shm/p/a bs=1M seek=${i % 12} conv=notrunc status=none; ` +
          "head -c 4M /dev/zero | dd of=/dev/shm/p/b conv=notrunc status=none; " +
          `head -c 1M /dev/urandom | dd of=/root/p/a bs=1M seek=${i % 8} conv=notrunc status=none; ` +
          "cat /dev/shm/p/* /root/p/* | md5sum > /dev/shm/sum",
      );
      before = await readTicks(living);
    }

    expect(await living.guest.run("dmesg | grep -ciE 'i/o error|ext4.*error' || true")).toBe("0");
    const kept = await readdir(join(place.dir, "snapshots/cl-cycle"));
    expect(kept.filter((name) => /^\d+$/.test(name)).length).toBe(Math.min(CYCLES, 2));
    await end(living);
    const fsck = Bun.spawn(["/sbin/e2fsck", "-fn", (await newest("cl-cycle")).disk.path], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    // 0, or 4 and less where only the journal of a disk that is in use has to be replayed.
    expect(await fsck.exited).toBeLessThanOrEqual(4);
    await snapshots.removeCapsule("cl-cycle");
    expect(await snapshots.list()).toEqual([]);
  },
  TIMEOUT_MS + CYCLES * 20_000,
);

async function newest(capsuleId: string): Promise<Generation> {
  const { generation } = await snapshots.latest(capsuleId);
  if (generation === null) throw new Error(`${capsuleId} has no generation`);
  return generation;
}

test(
  "a resume during sealing is quick, and what was half sealed is forgotten",
  async () => {
    const living = await boot("cl-resume");

    const tookMs = await quickestMs(QUICK_MS, async () => {
      await snapshots.pause(living.live);
      const sealing = snapshots.seal(living.live).catch((error: unknown) => error);
      const startedAtMs = performance.now();
      await snapshots.resumeLive(living.live);
      const resumedAtMs = performance.now();
      expect(await sealing).toMatchObject({ code: "abandoned" });
      return resumedAtMs - startedAtMs;
    });

    expect(tookMs).toBeLessThan(QUICK_MS);
    expect(await snapshots.state(living.live)).toBe("running");
    expect((await snapshots.latest("cl-resume")).generation).toBeNull();
    // Fork's and a snapshot's way: what was sealed stays when the guest goes on.
    await snapshots.pause(living.live);
    const sealed = await snapshots.seal(living.live);
    await snapshots.resumeLive(living.live);
    await living.guest.run("true");
    expect((await newest("cl-resume")).directory).toBe(sealed.directory);
    await end(living);
    await snapshots.removeCapsule("cl-resume");
  },
  TIMEOUT_MS,
);

test(
  "clones of a template go their own ways, and outlive it",
  async () => {
    const source = await boot("cl-source");
    await source.guest.run(
      "head -c 8M /dev/urandom > /dev/shm/a; md5sum /dev/shm/a > /dev/shm/sum",
    );
    await snapshots.pause(source.live);
    const sealed = await snapshots.seal(source.live);
    const directory = join(place.dir, "template");
    const template = await snapshots.publish({ from: sealed, directory });
    await expect(snapshots.publish({ from: sealed, directory })).rejects.toMatchObject({
      code: "exists",
    });
    await end(source);
    await snapshots.removeCapsule("cl-source");

    await snapshots.prepareMap(template);
    const first = await restore("cl-first", { generation: template, mode: "map" });
    const second = await restore("cl-second", { generation: template, mode: "uffd" });
    await snapshots.remove(directory);
    await first.guest.run("echo first > /root/name; echo first > /dev/shm/name");
    await second.guest.run("test ! -e /root/name && test ! -e /dev/shm/name");

    for (const clone of [first, second]) {
      await clone.guest.run("md5sum -c /dev/shm/sum");
      await snapshots.pause(clone.live);
      await snapshots.seal(clone.live);
      await end(clone);
    }
    const generation = await newest("cl-first");
    const again = await restore("cl-first", {
      generation,
      mode: "uffd",
      rootDisk: first.spec.rootDisk,
    });
    expect(await again.guest.run("cat /root/name /dev/shm/name; md5sum -c /dev/shm/sum")).toContain(
      "first\nfirst\n",
    );
    await end(again);
    await snapshots.removeCapsule("cl-first");
    await snapshots.removeCapsule("cl-second");
  },
  TIMEOUT_MS,
);

async function flip(path: string, at: number): Promise<void> {
  await using file = await open(path, "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  byte[0] = (byte[0] ?? 0) ^ 0x40;
  await file.write(byte, 0, 1, at);
}

test(
  "a damaged generation is refused, and the one before resumes with its own disk",
  async () => {
    const living = await boot("cl-torn");
    await living.guest.run("echo one > /root/n; echo one > /dev/shm/n; sync");
    await snapshots.pause(living.live);
    const first = await snapshots.seal(living.live);
    await snapshots.resumeLive(living.live);
    await living.guest.run("echo two > /root/n; echo two > /dev/shm/n; sync");
    await snapshots.pause(living.live);
    const second = await snapshots.seal(living.live);
    await end(living);

    // In data, which only reading finds.
    const layer = join(second.directory, second.manifest.layers[0] ?? "");
    await flip(layer, 0);
    await expect(snapshots.prepareMap(second)).rejects.toMatchObject({ code: "damaged" });
    await flip(layer, (await stat(layer)).size - 1);

    const { generation, refused } = await snapshots.latest("cl-torn");
    expect(refused).toMatchObject([{ code: "damaged" }]);
    expect(generation?.directory).toBe(first.directory);
    if (generation === null) throw new Error("unreachable: it was found");
    const restored = await restore("cl-before", { generation, mode: "uffd" });
    expect(await restored.guest.run("cat /root/n /dev/shm/n")).toBe("one\none");
    await end(restored);
    await snapshots.removeCapsule("cl-torn");
    await snapshots.removeCapsule("cl-before");
  },
  TIMEOUT_MS,
);

test(
  "a full disk costs no guest: it runs on, or stays paused until there is room",
  async () => {
    const living = await boot("cl-full");
    const small = join(place.dir, "small");
    const snapshotsHere = await openSnapshots("small/snapshots");
    await place.kernel.storage.mountTmpfs(small, { sizeMib: 64, mode: 0o700 });
    const full = await Snapshots.open({
      dir: join(small, "snapshots"),
      flatDir: join(small, "flat"),
      kernel: place.kernel,
      vmm: place.vmm,
    });

    await expect(full.pause(living.live)).rejects.toMatchObject({ code: "no_space" });
    await living.guest.run("true");
    // Nor does a VMM that nobody reaches at the moment end for what did not concern it.
    const deaf = await Snapshots.open({
      dir: join(place.dir, "snapshots-deaf"),
      flatDir: join(place.dir, "flat"),
      kernel: place.kernel,
      vmm: new Proxy(place.vmm, {
        get: (vmm, name) => {
          if (name === "resume") return () => Promise.reject(new Error("it does not listen"));
          const own: unknown = Reflect.get(vmm, name);
          return typeof own === "function" ? own.bind(vmm) : own;
        },
      }),
    });
    const refusing = () => Promise.reject(new Error("they do not freeze"));
    await expect(deaf.pause(living.live, refusing)).rejects.toThrow("they do not freeze");
    await living.guest.run("true");
    await place.kernel.storage.unmount(small);

    // The room goes after the pause was answered.
    await snapshotsHere.pause(living.live);
    const unfinished = join(small, "snapshots/cl-full/paused.partial");
    const state = await Bun.file(join(unfinished, "device-state")).bytes();
    await place.kernel.storage.mountTmpfs(unfinished, { sizeMib: 1, mode: 0o700 });
    await Bun.write(join(unfinished, "device-state"), state);
    const failure = await snapshotsHere.seal(living.live).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: "no_space" });
    expect(await snapshotsHere.state(living.live)).toBe("paused");
    await place.kernel.storage.unmount(unfinished);
    const sealed = await snapshotsHere.seal(living.live);
    await snapshotsHere.resumeLive(living.live);
    await living.guest.run("true");
    expect(existsSync(sealed.directory)).toBe(true);
    await end(living);
  },
  TIMEOUT_MS,
);

test(
  "a VMM that is killed while it holds a paused guest is missed, and nothing waits for it",
  async () => {
    const living = await boot("cl-lost");
    await snapshots.pause(living.live);
    process.kill(living.live.process.pid, "SIGKILL");
    await living.live.process.exited;

    await expect(snapshots.seal(living.live)).rejects.toMatchObject({ code: "vmm_lost" });
    await expect(snapshots.resumeLive(living.live)).rejects.toMatchObject({ code: "vmm_lost" });
    expect(isAlive(living.live.process)).toBe(false);
    expect((await snapshots.latest("cl-lost")).generation).toBeNull();
    await place.clear(living.spec);
    await snapshots.removeCapsule("cl-lost");
  },
  TIMEOUT_MS,
);
