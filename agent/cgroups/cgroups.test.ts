// Both layouts as directory trees with plain files, for what is written where; cgroups.host.test.ts has
// the kernel's own.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Cgroups } from "./cgroups.ts";
import type { Hierarchy } from "./hierarchies.ts";

const LIMITS = { memoryBytes: 640 * 1024 * 1024, cpus: 1.5, pids: 90 };
let root = "";

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "wrenn-cgroups-"));
});
afterEach(async () => {
  await rm(root, { recursive: true });
});

const read = (...path: string[]) => readFile(join(root, ...path), "utf8");

async function v1(): Promise<Hierarchy[]> {
  const controllers = ["memory", "cpu", "pids"] as const;
  for (const name of controllers) await mkdir(join(root, name));
  return controllers.map((name) => ({
    version: 1,
    mount: join(root, name),
    controllers: [name],
  }));
}

function v2(): Hierarchy[] {
  return [{ version: 2, mount: root, controllers: ["memory", "cpu", "pids"] }];
}

const SHARE = { readBytesPerS: 1048576, writeBytesPerS: 0, readsPerS: 0, writesPerS: 0 };

describe("cgroup v1", () => {
  test("limits a capsule in each tree", async () => {
    const cgroups = await Cgroups.open("ab12", await v1());

    const cgroup = await cgroups.create({ capsuleId: "cl-a", ...LIMITS });

    expect(cgroup.procsFiles).toEqual(
      ["memory", "cpu", "pids"].map((c) => join(root, c, "wrenn-ab12/cl-a/cgroup.procs")),
    );
    expect([
      await read("memory/wrenn-ab12/cl-a/memory.limit_in_bytes"),
      await read("memory/wrenn-ab12/cl-a/memory.memsw.limit_in_bytes"),
      await read("cpu/wrenn-ab12/cl-a/cpu.cfs_period_us"),
      await read("cpu/wrenn-ab12/cl-a/cpu.cfs_quota_us"),
      await read("pids/wrenn-ab12/cl-a/pids.max"),
    ]).toEqual(["671088640", "671088640", "100000", "150000", "90"]);
  });
});

describe("cgroup v2", () => {
  test("limits a capsule in the one tree and passes the controllers on", async () => {
    const cgroups = await Cgroups.open("ab12", v2());

    const cgroup = await cgroups.create({ capsuleId: "cl-a", ...LIMITS });

    expect(cgroup.procsFiles).toEqual([join(root, "wrenn-ab12/cl-a/cgroup.procs")]);
    expect([
      await read("cgroup.subtree_control"),
      await read("wrenn-ab12/cgroup.subtree_control"),
      await read("wrenn-ab12/cl-a/memory.max"),
      await read("wrenn-ab12/cl-a/memory.swap.max"),
      await read("wrenn-ab12/cl-a/cpu.max"),
      await read("wrenn-ab12/cl-a/pids.max"),
    ]).toEqual([
      "+memory +cpu +pids",
      "+memory +cpu +pids",
      "671088640",
      "0",
      "150000 100000",
      "90",
    ]);
  });
});

describe("a share of the disk", () => {
  test("is written where the controller is, as often as it changes", async () => {
    const io = { version: 2, mount: root, controllers: ["memory", "cpu", "pids", "io"] } as const;
    const cgroups = await Cgroups.open("ab12", [io]);
    await cgroups.create({ capsuleId: "cl-a", ...LIMITS });

    await cgroups.holdDisk("cl-a", "8:0", SHARE);
    const first = await read("wrenn-ab12/cl-a/io.max");
    await cgroups.holdDisk("cl-a", "8:0", { ...SHARE, readBytesPerS: 0 });

    expect([first, await read("wrenn-ab12/cl-a/io.max")]).toEqual([
      "8:0 rbps=1048576 wbps=max riops=max wiops=max",
      "8:0 rbps=max wbps=max riops=max wiops=max",
    ]);
  });

  test("is refused by name where there is no controller", async () => {
    const cgroups = await Cgroups.open("ab12", v2());
    await cgroups.create({ capsuleId: "cl-a", ...LIMITS });

    await expect(cgroups.holdDisk("cl-a", "8:0", SHARE)).rejects.toThrow("no cgroup controller");
    expect(() => cgroups.requireDiskShares()).toThrow("io (v2) or blkio (v1)");
  });
});

describe("groups", () => {
  test("are listed by capsule, and another agent's are not", async () => {
    const hierarchies = await v1();
    const cgroups = await Cgroups.open("ab12", hierarchies);
    const other = await Cgroups.open("cd34", hierarchies);
    await cgroups.create({ capsuleId: "cl-a", ...LIMITS });
    await other.create({ capsuleId: "cl-b", ...LIMITS });

    expect(await cgroups.list()).toEqual(["cl-a"]);
  });

  test("are made once per capsule", async () => {
    const cgroups = await Cgroups.open("ab12", v2());
    await cgroups.create({ capsuleId: "cl-a", ...LIMITS });

    await expect(cgroups.create({ capsuleId: "cl-a", ...LIMITS })).rejects.toThrow("EEXIST");
    expect(existsSync(join(root, "wrenn-ab12/cl-a/memory.max"))).toBe(true);
  });

  test("that were never there are removed without a word", async () => {
    const cgroups = await Cgroups.open("ab12", v2());

    await cgroups.remove("cl-none");
  });

  test("have no names that lead elsewhere", async () => {
    const cgroups = await Cgroups.open("ab12", v2());

    await expect(Cgroups.open("../x", v2())).rejects.toThrow("is no tag");
    expect(() => cgroups.adopt("../x")).toThrow("is no capsule id");
    await expect(cgroups.create({ capsuleId: "", ...LIMITS })).rejects.toThrow("is no capsule id");
  });
});
