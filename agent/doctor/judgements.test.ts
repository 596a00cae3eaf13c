// What the doctor makes of what its probes saw.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdir, mkdtemp, rm, statfs, symlink, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NATIVE_DIR } from "../../tests/harness/vmm-fixture.ts";
import type { Hierarchy } from "../cgroups/hierarchies.ts";
import { Kernel } from "../native/kernel.ts";
import { Images } from "../rootfs/images.ts";
import { judgeDiskShares } from "./disk-shares.ts";
import { judgeVmm, report, statusOf } from "./doctor.ts";
import { checkGuestKernel, checkImages, checkSpace, judgeSpace } from "./file-checks.ts";
import type { Finding } from "./finding.ts";
import { judgeCow, judgeMapper, judgeNetworkShares, judgeReflinks } from "./kernel-probes.ts";

const GIB = 1024 ** 3;
let base: string;

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), "wrenn-doctor-"));
});
afterAll(() => rm(base, { recursive: true }));

test.each([
  ["auto", true, true, "ok", "reflink"],
  ["auto", false, true, "warning", "copy: "],
  ["copy", true, true, "warning", "copy: "],
  ["dm", true, true, "ok", "dm (WRENN_COW=dm)"],
  ["dm", true, false, "failed", "does not work"],
  ["reflink", false, true, "failed", "does not work"],
  ["reflink", true, false, "ok", "reflink (WRENN_COW=reflink)"],
] as const)(
  "WRENN_COW=%s, reflinks %p, device-mapper %p: %s",
  (cow, reflinks, dm, status, found) => {
    const finding = judgeCow(cow, reflinks, dm);

    expect(finding.status).toBe(status);
    expect(finding.found).toContain(found);
    expect(finding.remedy === null).toBe(status === "ok");
  },
);

test("a file system without reflinks is told, and one that nobody may write to", () => {
  const at = "/var/lib/wrenn";

  expect(judgeReflinks({ at, cow: "auto", reflinks: true }).status).toBe("ok");
  expect(judgeReflinks({ at, cow: "auto", reflinks: false }).status).toBe("warning");
  expect(judgeReflinks({ at, cow: "dm", reflinks: false }).status).toBe("ok");
  const readOnly = judgeReflinks({ at, cow: "auto", reflinks: "EROFS" });
  expect([readOnly.status, readOnly.found]).toEqual([
    "failed",
    "nothing can be written in /var/lib/wrenn: EROFS",
  ]);
});

test("device-mapper is missed only where it is asked for", () => {
  expect(judgeMapper("dm", null).status).toBe("ok");
  expect(judgeMapper("auto", "none").status).toBe("ok");
  expect(judgeMapper("dm", "none").status).toBe("failed");
});

const SOME = { readBytesPerS: 0, writeBytesPerS: 1048576, readsPerS: 0, writesPerS: 0 };
const NONE = { ...SOME, writeBytesPerS: 0 };
const V2: Hierarchy = { version: 2, mount: "/sys/fs/cgroup", controllers: ["memory", "io"] };

const DISK_CASES: [string, Hierarchy[], string | Error, ...Finding["status"][]][] = [
  ["memory beside it", [V2], "8:0", "ok", "ok"],
  ["memory elsewhere", [{ ...V2, controllers: ["io"] }], "8:0", "ok", "warning"],
  ["no controller", [{ ...V2, controllers: ["memory"] }], "8:0", "warning", "failed"],
  ["no disk", [V2], new Error("on tmpfs"), "warning", "failed"],
];
test.each(DISK_CASES)("disk shares with %s", (_, trees, disk, ...statuses) => {
  const statusWith = (share: typeof SOME) => judgeDiskShares({ share, trees, disk }).status;

  expect([statusWith(NONE), statusWith(SOME)]).toEqual(statuses);
});

test("a kernel without the token bucket filter is a failure where network shares are asked for", () => {
  const statusWith = (outBytesPerS: number, failure: string | null) =>
    judgeNetworkShares({ inBytesPerS: 0, outBytesPerS }, failure).status;

  expect([statusWith(0, null), statusWith(0, "ENOENT"), statusWith(1, "ENOENT")]).toEqual([
    "ok",
    "warning",
    "failed",
  ]);
});

test("guests that are emulated are a failure, which says what was seen", () => {
  const choice = {
    name: "qemu",
    program: "/usr/bin/q",
    version: "7.2",
    cpu: null,
    because: "as set",
  } as const;
  const seen = (accel: "kvm" | "tcg", accelBecause: string) =>
    judgeVmm({ ...choice, accel, accelBecause }).map((f) => [f.check, f.status, f.remedy]);

  expect(seen("kvm", "KVM ran a guest in 54 ms")).toEqual([
    ["vmm", "ok", null],
    ["kvm", "ok", null],
  ]);
  expect(seen("tcg", "there is no /dev/kvm")[1]).toEqual([
    ...["kvm", "failed"],
    expect.stringContaining("firmware"),
  ]);
  expect(seen("tcg", "KVM did not run a guest to its end within 300 ms")[1]).toEqual([
    ...["kvm", "failed"],
    expect.stringContaining("another kind of machine"),
  ]);
});

test.each([
  [{ freeBytes: 500 * GIB, totalBytes: 1000 * GIB, freeInodes: 1e6 }, "ok"],
  [{ freeBytes: 500 * GIB, totalBytes: 1000 * GIB, freeInodes: null }, "ok"],
  [{ freeBytes: 50 * GIB, totalBytes: 1000 * GIB, freeInodes: 1e6 }, "warning"],
  [{ freeBytes: 5 * GIB, totalBytes: 10 * GIB, freeInodes: 1e6 }, "failed"],
  [{ freeBytes: 500 * GIB, totalBytes: 1000 * GIB, freeInodes: 12 }, "failed"],
] as const)("space %p: %s", (space, status) => {
  expect(judgeSpace("/var/lib/wrenn", space).status).toBe(status);
});

test("a file system that does not tell its space is a finding about space", async () => {
  // What a directory is that goes between the look and the question.
  const finding = await checkSpace(base, () => statfs(join(base, "gone")));

  expect([finding.check, finding.status]).toEqual(["disk space", "failed"]);
  expect(finding.found).toContain("ENOENT");
});

test("a kernel's file that cannot be read is a finding about the kernel", async () => {
  const dir = join(base, "unreadable");
  await mkdir(join(dir, "initrd-6.1.0"), { recursive: true });
  await writeFile(join(dir, "vmlinux-6.1.0"), "\x7fELF");
  await writeFile(join(dir, "initrd-6.1.0.sha256"), "0");

  const finding = await checkGuestKernel(dir);

  expect([finding.check, finding.status]).toEqual(["guest kernel", "failed"]);
  expect(finding.found).toContain("EISDIR");
});

test("a guest kernel is missing, whole, without a hash, or damaged", async () => {
  const dir = join(base, "kernels");
  const path = join(dir, "vmlinux-6.1.0");
  const status = async () => (await checkGuestKernel(dir)).status;

  expect(await status()).toBe("failed");
  await mkdir(dir);
  await writeFile(path, "\x7fELF and the rest");
  expect(await status()).toBe("warning");
  const sha256 = new Bun.CryptoHasher("sha256").update("\x7fELF and the rest").digest("hex");
  await writeFile(`${path}.sha256`, `${sha256}  vmlinux-6.1.0\n`);
  expect(await status()).toBe("ok");
  await truncate(path, 6);
  expect(await status()).toBe("failed");
});

test("images are missing, whole, or damaged, and links of templates lead somewhere", async () => {
  await using kernel = await Kernel.open(NATIVE_DIR);
  const dir = join(base, "images");
  const images = new Images(dir, kernel);
  const find = async () => {
    const { status, found } = await checkImages(images);
    return [status, found];
  };

  expect(await find()).toEqual(["failed", "there is no template's image"]);
  const sha256 = new Bun.CryptoHasher("sha256").update("a file system").digest("hex");
  const blob = join(dir, "blobs", `${sha256}.ext4`);
  const link = join(dir, "teams/t/i/rootfs.ext4");
  await mkdir(join(dir, "blobs"), { recursive: true });
  await mkdir(join(dir, "teams/t/i"), { recursive: true });
  await writeFile(blob, "a file system");
  await symlink(`../../../blobs/${sha256}.ext4`, link);
  expect(await find()).toEqual(["ok", "1 whole, 1 named by templates"]);
  await writeFile(blob, "a file cystem");
  expect(await find()).toEqual([
    "failed",
    expect.stringContaining(`${blob} is damaged: its SHA-256 is`),
  ]);
  await rm(blob);
  expect(await find()).toEqual(["failed", expect.stringContaining("ENOENT")]);
});

test("the report ends with a sum, the JSON has the worst status", () => {
  const findings: Finding[] = [
    { check: "root", status: "ok", found: "runs as root", remedy: null },
    { check: "kvm", status: "failed", found: "no guest ran", remedy: "another machine" },
  ];

  expect(report(findings, false)).toBe(
    [
      "ok       root: runs as root",
      "FAILED   kvm: no guest ran",
      "         do: another machine",
      "1 ok, 0 warnings, 1 failed\n",
    ].join("\n"),
  );
  expect(JSON.parse(report(findings, true))).toMatchObject({ status: "failed", findings });
  expect(statusOf(findings.slice(0, 1))).toBe("ok");
});
