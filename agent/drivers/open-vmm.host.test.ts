// Which Firecracker is taken, with small programs in its place that only say a version.
import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NATIVE_DIR } from "../../tests/harness/vmm-fixture.ts";
import { chooseVmm, describeChoice } from "./open-vmm.ts";
import { probeAccel } from "./qemu/probe-accel.ts";

let dir = "";

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), "wrenn-open-vmm-"));
});
afterAll(() => rm(dir, { recursive: true }));

async function program(says: string): Promise<string> {
  const path = join(dir, crypto.randomUUID());
  await writeFile(path, `#!/bin/sh\necho '${says}'\n`, { mode: 0o755 });
  return path;
}

const open = (firecrackerBin: string, hasHugePages = false) =>
  chooseVmm({
    vmm: "firecracker",
    firecrackerBin,
    cloudHypervisorBin: null,
    cpu: null,
    hasHugePages,
    nativeDir: NATIVE_DIR,
    cacheDir: dir,
  });

test("a Firecracker that is not there, is none, or is too old is refused by name", async () => {
  const none = join(dir, "none");

  await expect(open(none)).rejects.toThrow(`Firecracker is not at ${none}`);
  await expect(open(dir)).rejects.toThrow("cannot be run");
  await expect(open(await program("hello"))).rejects.toThrow("does not say that it is");
  const old = await program("Firecracker v1.11.0");
  await expect(open(old)).rejects.toThrow("Firecracker 1.11.0 is older than 1.12.0");
});

test("none is taken where huge pages are wanted, of which it would have none", async () => {
  const good = await program("Firecracker v1.16.1");

  await expect(open(good, true)).rejects.toThrow("WRENN_HUGE_PAGES");
});

test("one from which guests are known to escape is refused", async () => {
  const known = await program("Firecracker v1.14.3");

  await expect(open(known)).rejects.toThrow("firecracker 1.14.3 has CVE-2026-5747");
});

test("one is taken only where KVM runs guests, under the name that is no link", async () => {
  const good = await program("Firecracker v1.16.1\n\nand more");
  const link = join(dir, "link");
  await symlink(good, link);
  const qemu = {
    program: "/usr/bin/qemu-system-x86_64",
    version: "any",
    cpu: null,
    nativeDir: NATIVE_DIR,
  };
  const { accel } = await probeAccel({ ...qemu, cacheDir: dir });

  const opened = open(link);

  if (accel === "tcg") await expect(opened).rejects.toThrow(/needs KVM|needs \/dev/);
  else expect(await opened).toMatchObject({ name: "firecracker", program: good, accel: "kvm" });
});

test("auto takes Firecracker where it works, and says why it does not take it elsewhere", async () => {
  const good = await program("Firecracker v1.16.1");
  const choose = (firecrackerBin: string) =>
    chooseVmm({
      vmm: "auto",
      firecrackerBin,
      cloudHypervisorBin: null,
      cpu: null,
      hasHugePages: false,
      nativeDir: NATIVE_DIR,
      cacheDir: dir,
    });

  const without = await choose(join(dir, "none"));
  const escaped = await choose(await program("Firecracker v1.14.3"));
  const best = await choose(good);

  expect(without).toMatchObject({ name: "qemu", because: `Firecracker is not at ${dir}/none` });
  expect(describeChoice(escaped)).toMatch(/^qemu .* \(firecracker 1\.14\.3 has CVE-2026-5747: /);
  if (best.accel === "tcg") expect(best.because).toMatch(/^Firecracker needs /);
  else expect(best).toMatchObject({ name: "firecracker", because: "WRENN_VMM=auto" });
});

test("Cloud Hypervisor is taken where it is named, not by auto", async () => {
  const choose = async (vmm: "auto" | "cloud-hypervisor", says: string) =>
    chooseVmm({
      ...{
        vmm,
        firecrackerBin: join(dir, "none"),
        cloudHypervisorBin: await program(says),
        cpu: null,
        hasHugePages: false,
      },
      ...{ nativeDir: NATIVE_DIR, cacheDir: dir },
    });

  const auto = await choose("auto", "cloud-hypervisor v53.0.0");
  const named = choose("cloud-hypervisor", "cloud-hypervisor v53.0.0");

  expect(auto.name).toBe("qemu");
  if (auto.accel === "tcg") await expect(named).rejects.toThrow(/Cloud Hypervisor needs /);
  else expect(await named).toMatchObject({ name: "cloud-hypervisor", version: "53.0.0" });
  const old = choose("cloud-hypervisor", "cloud-hypervisor v50.0.0");
  await expect(old).rejects.toThrow("Cloud Hypervisor 50.0.0 is older than 51.2");
});
