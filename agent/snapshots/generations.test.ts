// The directories of generations, made of real memory of a mebibyte: no VMM, no privilege.
import { afterAll, beforeAll, describe, expect, setSystemTime, test } from "bun:test";
import { existsSync } from "node:fs";
import {
  copyFile,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WORKING_SET } from "../memory/pager.ts";
import { Kernel } from "../native/kernel.ts";
import { CapsuleDir } from "./capsule-dir.ts";
import { FlatFiles } from "./flat-files.ts";
import { DEVICE_STATE, type Generation, Generations, MEMORY_HEADER } from "./generations.ts";
import { UseOrder } from "./use-order.ts";

const NATIVE_DIR = join(import.meta.dirname, "../../build/native");
const MIB = 1024 * 1024;
const HOST = {
  vmm: { name: "qemu", version: "7.2", accel: "tcg" },
  cpu: "emulated",
  kernel: "6.1.0",
  pageBytes: 4096,
  bootId: "b",
};

const DISK = "disk.ext4";
const SAVED_DISK = { name: DISK, sizeBytes: 4 } as const;

let kernel: Kernel;
let generations: Generations;
let dir = "";
let count = 0;

beforeAll(async () => {
  kernel = await Kernel.open(NATIVE_DIR);
  generations = new Generations(kernel, HOST);
  dir = await mkdtemp(join(tmpdir(), "wrenn-generations-"));
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

/** Looks at a generation when one file can be open: memory of two layers wants two. */
const LOOK = `
const { closeSync, openSync } = await import("node:fs");
const [, here, nativeDir, directory, host] = process.argv;
const { Kernel } = await import(here + "/../native/kernel.ts");
const { Generations } = await import(here + "/generations.ts");
const kernel = await Kernel.open(nativeDir);
const generations = new Generations(kernel, JSON.parse(host));
await generations.load(directory);
let last = -1;
try {
  for (;;) last = openSync("/dev/null");
} catch {}
closeSync(last);
const { code } = await generations.load(directory).catch((error) => error);
process.stdout.write(code + " " + (await generations.isDamaged(directory)));
process.exit();
`;

/** `parent`: whose memory it has but for a part. */
async function make(
  capsule = `cl-${count++}`,
  { memoryMib = 1, parent }: { memoryMib?: number; parent?: Generation } = {},
): Promise<Generation> {
  const own = new CapsuleDir(dir, capsule);
  const number = await own.begin();
  const ram = join(dir, "ram");
  const memory = Buffer.alloc(MIB);
  memory.fill(`${parent?.manifest.capsuleId ?? capsule} 0 `, 0, MIB / 2);
  memory.fill(`${capsule} ${number} `, 0, MIB / 4);
  await writeFile(ram, memory);
  await writeFile(join(own.unfinished, DEVICE_STATE), `state of ${capsule}`);
  await writeFile(join(own.unfinished, DISK), "disk");
  const buildId = crypto.randomUUID();
  const from = parent === undefined ? [] : [parent.directory];
  const parentHeader = from.map((directory) => join(directory, MEMORY_HEADER)).join();
  const target = { directory: own.unfinished, parentHeader, layerDirectories: from, id: buildId };
  await kernel.memory.sealFile(ram, MIB, target);
  for (const name of parent?.manifest.layers ?? []) {
    await copyFile(join(from.join(), name), join(own.unfinished, name));
  }
  return generations.complete(own.unfinished, own.generation(number), {
    capsuleId: capsule,
    generation: number,
    buildId,
    pausedAt: "2026-11-22T12:00:00.000Z",
    guestKernel: "6.1.0",
    shape: { vcpus: 1, memoryMib },
    disk: SAVED_DISK,
  });
}

async function flip(path: string, at: number): Promise<void> {
  await using file = await open(path, "r+");
  const byte = Buffer.alloc(1);
  await file.read(byte, 0, 1, at);
  await file.write(Buffer.from([(byte[0] ?? 0) ^ 1]), 0, 1, at);
}

describe("a generation", () => {
  test("with a device state beyond all bounds is not complete, and nobody reads it", async () => {
    const own = new CapsuleDir(dir, "cl-endless");
    const number = await own.begin();
    const directory = own.unfinished;
    await writeFile(join(dir, "ram"), Buffer.alloc(MIB));
    await writeFile(join(directory, DISK), "disk");
    await writeFile(join(directory, DEVICE_STATE), "");
    await truncate(join(directory, DEVICE_STATE), 64 * 1024 * MIB);
    const id = crypto.randomUUID();
    const target = { directory, parentHeader: "", layerDirectories: [], id };
    await kernel.memory.sealFile(join(dir, "ram"), MIB, target);

    const completing = generations.complete(directory, own.generation(number), {
      ...{ capsuleId: "cl-endless", generation: number, buildId: id },
      ...{ pausedAt: "2026-11-22T12:00:00.000Z", guestKernel: "6.1.0" },
      disk: { name: "disk.ext4", sizeBytes: 4 },
      shape: { vcpus: 1, memoryMib: 1 },
    });

    expect(String(await failureOf(completing))).toContain("device-state has 68719476736 bytes");
  });

  test("is found whole as it was made, and again", async () => {
    const made = await make();

    const loaded = await generations.load(made.directory);

    expect(loaded).toEqual(made);
    expect(loaded.manifest.layers).toEqual([`memory.${made.manifest.buildId}`]);
    expect(loaded.disk).toMatchObject({ sizeBytes: 4, path: join(made.directory, DISK) });
  });

  for (const name of ["manifest.json", DEVICE_STATE, MEMORY_HEADER]) {
    test(`with any bit of ${name} flipped is damaged`, async () => {
      const { directory } = await make();
      const path = join(directory, name);
      const { size } = await stat(path);
      for (let i = 0; i < 20; i++) {
        const at = Math.floor((i * (size - 1)) / 19);
        await flip(path, at);

        expect(await failureOf(generations.load(directory))).toMatchObject({ code: "damaged" });
        await flip(path, at);
      }
      await generations.load(directory);
    });

    test(`with ${name} cut short is damaged`, async () => {
      const { directory } = await make();
      const path = join(directory, name);
      await writeFile(path, (await readFile(path)).subarray(0, -5));

      expect(await failureOf(generations.load(directory))).toMatchObject({ code: "damaged" });
    });
  }

  for (const name of [DEVICE_STATE, MEMORY_HEADER, DISK, "layer"]) {
    test(`without its ${name} is damaged`, async () => {
      const { directory, manifest } = await make();
      await rm(join(directory, name === "layer" ? (manifest.layers[0] ?? "") : name));

      expect(await failureOf(generations.load(directory))).toMatchObject({ code: "damaged" });
    });
  }

  test("without a manifest is none", async () => {
    const { directory } = await make();
    await rm(join(directory, "manifest.json"));

    expect(await failureOf(generations.load(directory))).toMatchObject({ code: "not_found" });
    expect(await failureOf(generations.load(join(dir, "none")))).toMatchObject({
      code: "not_found",
    });
  });

  test.each([
    ["VMM", { vmm: { ...HOST.vmm, name: "another" } }, "another 7.2 with tcg"],
    ["version", { vmm: { ...HOST.vmm, version: "8.0" } }, "qemu 8.0 with tcg"],
    ["accelerator", { vmm: { ...HOST.vmm, accel: "kvm" } }, "qemu 7.2 with kvm"],
    ["processor", { cpu: "another" }, "processor another"],
    ["page size", { pageBytes: 65_536 }, "pages of 65536 bytes"],
  ])("of another %s is refused, and nothing else named", async (_, change, here) => {
    const { directory } = await make();
    const later = new Generations(kernel, { ...HOST, ...change });

    const failure = await failureOf(later.load(directory));

    expect(failure).toMatchObject({ code: "incompatible" });
    expect(String(failure)).toMatch(new RegExp(`: made with [^,]*, and here is ${here}$`));
    // It is whole: who removes what is damaged leaves it.
    expect(await later.isDamaged(directory)).toBe(false);
  });

  test("with the whole memory of another one is damaged", async () => {
    const [{ directory }, other] = [await make(), await make()];
    for (const name of [MEMORY_HEADER, ...other.manifest.layers]) {
      await copyFile(join(other.directory, name), join(directory, name));
    }

    expect(await failureOf(generations.load(directory))).toMatchObject({ code: "damaged" });
  });

  test("has copies that share its layers and outlive it", async () => {
    const from = await make();
    const layer = from.manifest.layers[0] ?? "";
    const directory = join(dir, "template");

    const copy = await generations.copy(from, directory);
    expect((await stat(join(directory, layer))).nlink).toBe(2);
    expect(await failureOf(generations.copy(from, directory))).toMatchObject({ code: "exists" });
    await rm(from.directory, { recursive: true });

    expect(await generations.load(directory)).toEqual(copy);
    expect(existsSync(`${directory}.partial`)).toBe(false);
    await rm(directory, { recursive: true });
  });

  test("has the working set of its guest in copies and held ones, too", async () => {
    const made = await make();
    await writeFile(join(made.directory, WORKING_SET), "pages");
    const from = await generations.load(made.directory);

    const others = [
      await generations.copy(from, join(dir, "copy")),
      await generations.link(from, join(dir, "held")),
    ];

    for (const { directory, workingSet } of others) {
      expect(workingSet).toBe(join(directory, WORKING_SET));
      expect(await readFile(workingSet ?? "", "utf8")).toBe("pages");
      await rm(directory, { recursive: true });
    }
  });

  test("with memory of another size than its shape's is damaged", async () => {
    const { directory } = await make("cl-small", { memoryMib: 2 });

    const failure = await failureOf(generations.load(directory));

    expect(failure).toMatchObject({ code: "damaged" });
    expect(String(failure)).toContain("memory of another size");
  });

  // An agent that may open no more files must not take a capsule's memory for lost.
  test("that cannot be looked at for want of descriptors is not damaged", async () => {
    const { directory, manifest } = await make("cl-child", { parent: await make() });
    expect(manifest.layers).toHaveLength(2);
    const program = ["prlimit", "--nofile=64", process.execPath, "-e", LOOK];
    const paths = [import.meta.dirname, NATIVE_DIR, directory, JSON.stringify(HOST)];

    const child = Bun.spawn([...program, ...paths], { stdio: ["ignore", "pipe", "inherit"] });

    expect(await child.stdout.text()).toBe("failed false");
  });

  // A block device was copied by its st_size: the empty file counted as a disk.
  test("whose disk was not copied whole does not get its name", async () => {
    const own = new CapsuleDir(dir, "cl-no-disk");
    await own.begin();
    const ram = join(dir, "ram");
    await writeFile(ram, Buffer.alloc(MIB, 1));
    const id = crypto.randomUUID();
    const target = { directory: own.unfinished, parentHeader: "", layerDirectories: [], id };
    await kernel.memory.sealFile(ram, MIB, target);
    await writeFile(join(own.unfinished, DEVICE_STATE), "state");
    await writeFile(join(own.unfinished, DISK), "");
    const facts = { capsuleId: "cl-no-disk", generation: 0, buildId: id, disk: SAVED_DISK };
    const more = { pausedAt: "", guestKernel: "", shape: { vcpus: 1, memoryMib: 1 } };

    const failure = await failureOf(
      generations.complete(own.unfinished, own.generation(0), { ...facts, ...more }),
    );

    expect(String(failure)).toContain("disk.ext4 has 0 bytes, and not 4");
    expect(existsSync(own.generation(0))).toBe(false);
  });

  test("that cannot be completed does not get its name", async () => {
    const own = new CapsuleDir(dir, "cl-incomplete");
    await own.begin();
    const facts = { capsuleId: "cl-incomplete", generation: 0, buildId: crypto.randomUUID() };
    const more = {
      disk: SAVED_DISK,
      pausedAt: "",
      guestKernel: "",
      shape: { vcpus: 1, memoryMib: 1 },
    };

    const failure = await failureOf(
      generations.complete(own.unfinished, own.generation(0), { ...facts, ...more }),
    );

    expect(failure).toMatchObject({ code: "failed" });
    expect(existsSync(own.generation(0))).toBe(false);
  });
});

describe("a capsule's directory", () => {
  test("numbers generations from 0, and keeps the newest", async () => {
    for (let i = 0; i < 4; i++) await make("cl-numbers");
    const own = new CapsuleDir(dir, "cl-numbers");

    expect(await own.numbers()).toEqual([3, 2, 1, 0]);
    await own.prune(2, async (directory) => directory !== own.generation(2));
    // What is not whole is nothing to fall back to.
    expect(await own.numbers()).toEqual([3, 1]);
    expect(await readdir(own.path)).toHaveLength(2);

    for (const number of [9, 10]) await mkdir(own.generation(number));
    expect(await own.numbers()).toEqual([10, 9, 3, 1]);
    expect(await own.begin()).toBe(11);
  });

  test("forgets an unfinished generation when the next begins", async () => {
    const own = new CapsuleDir(dir, "cl-again");
    await own.begin();
    await writeFile(join(own.unfinished, DEVICE_STATE), "old");

    expect(await own.begin()).toBe(0);
    expect(await readdir(own.unfinished)).toEqual([]);
  });

  test("keeps nothing of a VMM that has ended", async () => {
    const own = new CapsuleDir(dir, "cl-ended");
    await own.begin();
    await mkdir(own.base);

    for (let i = 0; i < 2; i++) await own.forgetVmm();

    expect(await readdir(own.path)).toEqual([]);
  });

  test("is removed also where an earlier removal was cut off", async () => {
    const own = new CapsuleDir(dir, "cl-twice");
    await own.begin();
    await mkdir(join(`${own.unfinished}.removed`, "left"), { recursive: true });

    await own.forgetUnfinished();

    expect(await readdir(own.path)).toEqual([]);
  });

  test("is swept of what was half removed", async () => {
    const own = new CapsuleDir(dir, "cl-sweep");
    await own.begin();
    await mkdir(join(own.path, "3.removed"));
    await mkdir(own.draft);

    await own.sweep();

    expect(await readdir(own.path)).toEqual(["paused.partial"]);
  });

  test("is nowhere but in the directory of snapshots", () => {
    for (const id of ["", "..", "a/b", "A", "-a"]) {
      expect(() => new CapsuleDir(dir, id)).toThrow("Cannot use capsule id");
    }
  });
});

test("flat files are in the order of their uses, whatever the clock is set to meanwhile", async () => {
  const flatDir = join(dir, "flat");
  const files = await FlatFiles.open({ dir: flatDir, bootId: HOST.bootId, kernel });
  const [first, second] = [await make(), await make()];
  try {
    for (const generation of [second, first, second, first, second]) {
      await files.obtain(generation);
      setSystemTime(new Date(Date.now() - 3_600_000));
    }
  } finally {
    setSystemTime();
  }

  const made = join(flatDir, HOST.bootId);
  expect(await new UseOrder(made).sort(await readdir(made))).toEqual(
    [first, second].map(({ manifest }) => `${manifest.buildId}.flat`),
  );
});
