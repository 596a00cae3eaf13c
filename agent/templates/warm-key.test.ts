import { expect, test } from "bun:test";
import { type WarmKind, warmKey } from "./warm-key.ts";

const KIND: WarmKind = {
  imageSha256: "ab",
  shape: { vcpus: 1, memoryMib: 512, diskMib: 5120 },
  guestKernel: "6.1.0",
  host: {
    vmm: { name: "qemu", version: "7.2", accel: "kvm" },
    cpu: "AMD EPYC 0011223344556677",
    pageBytes: 4096,
  },
};
const { shape, host } = KIND;

test("a create finds what was made of the same", () => {
  expect(warmKey(KIND)).toMatch(/^[0-9a-f]{64}$/);
  expect(warmKey(structuredClone(KIND))).toBe(warmKey(KIND));
});

test.each<[string, Partial<WarmKind>]>([
  ["image", { imageSha256: "cd" }],
  ["number of processors", { shape: { ...shape, vcpus: 2 } }],
  ["memory", { shape: { ...shape, memoryMib: 256 } }],
  ["disk", { shape: { ...shape, diskMib: 6000 } }],
  ["guest kernel", { guestKernel: "6.1.1" }],
  ["VMM", { host: { ...host, vmm: { ...host.vmm, name: "firecracker" } } }],
  ["version of the VMM", { host: { ...host, vmm: { ...host.vmm, version: "8.0" } } }],
  ["accelerator", { host: { ...host, vmm: { ...host.vmm, accel: "tcg" } } }],
  ["processor, by its flags", { host: { ...host, cpu: "AMD EPYC 8899aabbccddeeff" } }],
  ["page size", { host: { ...host, pageBytes: 16_384 } }],
])("another %s is another kind", (_, change) => {
  expect(warmKey({ ...KIND, ...change })).not.toBe(warmKey(KIND));
});
