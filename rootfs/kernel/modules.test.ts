import { describe, expect, test } from "bun:test";
import { loadOrder, moduleDepends, moduleName } from "./modules.ts";

/** What a module's .modinfo section looks like inside its file. */
const modinfo = (depends: string) =>
  Buffer.from(`\x7fELF…\0license=GPL\0depends=${depends}\0retpoline=Y\0name=x\0`);

describe("a kernel module", () => {
  test("is named as the kernel spells it", () => {
    expect(moduleName("kernel/drivers/char/hw_random/virtio-rng.ko")).toBe("virtio_rng");
    expect(moduleName("ptp_kvm.ko.xz")).toBe("ptp_kvm");
  });

  test("says what it needs", () => {
    expect(moduleDepends(modinfo("net_failover,virtio-ring"))).toEqual([
      "net_failover",
      "virtio_ring",
    ]);
    expect(moduleDepends(modinfo(""))).toEqual([]);
    expect(moduleDepends(Buffer.from("no modinfo"))).toEqual([]);
  });
});

describe("the load order", () => {
  const depends = new Map([
    ["net", ["failover", "virtio", "crc"]],
    ["blk", ["virtio"]],
    ["virtio", []],
    ["failover", ["virtio"]],
  ]);

  test("has each module once, after what it needs, without what is built in", () => {
    expect(loadOrder(["net", "blk"], depends, new Set(["crc"]))).toEqual([
      "virtio",
      "failover",
      "net",
      "blk",
    ]);
  });

  test("can't be made for a module that does not exist", () => {
    expect(() => loadOrder(["gpu"], depends, new Set())).toThrow("no module gpu");
  });
});
