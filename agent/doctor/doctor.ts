// `wrenn-agent doctor`: whether this machine can be a host, and what to do where it cannot. Needs no agent,
// and none that ran before; one that runs is not disturbed. It writes nothing but what it takes away again.

import { join } from "node:path";
import { openFilesMax } from "../../proto/open-files.ts";
import type { MachineConfig } from "../config.ts";
import { chooseVmm, describeChoice, type VmmChoice } from "../drivers/open-vmm.ts";
import { Kernel } from "../native/kernel.ts";
import { Images } from "../rootfs/images.ts";
import { diskShare, networkShare } from "../shares.ts";
import { AGENT_VERSION } from "../version.ts";
import { checkDiskShares } from "./disk-shares.ts";
import { checkGuestKernel, checkImages, checkSpace } from "./file-checks.ts";
import { type Finding, failed, ok, sentence } from "./finding.ts";
import { probeDisks, probeNetwork } from "./kernel-probes.ts";
import { checkMachine } from "./machine-checks.ts";

const MARKS = { ok: "ok     ", warning: "warning", failed: "FAILED " } as const;

/** The findings of all checks, in an order that reads well. Failures are findings: it does not throw. */
export async function examine(config: MachineConfig & { nativeDir: string }): Promise<Finding[]> {
  const { dir, uidBase, shares } = config;
  const uid = process.getuid?.() ?? -1;
  return [
    ...(await checkVmm(config)),
    ...(await checkMachine({ uidBase, uid, openFilesMax })),
    await checkSpace(dir),
    await checkDiskShares({ dir, share: diskShare(shares) }),
    await checkGuestKernel(join(dir, "kernels")),
    ...(await checkWithLibrary(config)),
  ];
}

/** For people, or as JSON: `{ version, status, findings }`. */
export function report(findings: readonly Finding[], isJson: boolean): string {
  if (isJson) {
    const status = statusOf(findings);
    return `${JSON.stringify({ version: AGENT_VERSION, status, findings }, null, 2)}\n`;
  }
  const lines = findings.flatMap(({ check, status, found, remedy }) => [
    `${MARKS[status]}  ${check}: ${found}`,
    ...(remedy === null ? [] : [`         do: ${remedy}`]),
  ]);
  const count = (status: Finding["status"]) => findings.filter((f) => f.status === status).length;
  const sum = `${count("ok")} ok, ${count("warning")} warnings, ${count("failed")} failed`;
  return `${[...lines, sum].join("\n")}\n`;
}

/** The worst of them. */
export function statusOf(findings: readonly Finding[]): Finding["status"] {
  if (findings.some(({ status }) => status === "failed")) return "failed";
  return findings.some(({ status }) => status === "warning") ? "warning" : "ok";
}

async function checkVmm(config: MachineConfig & { nativeDir: string }): Promise<Finding[]> {
  try {
    return judgeVmm(await chooseVmm({ ...config, cacheDir: null }));
  } catch (error) {
    const install =
      config.vmm === "auto" || config.vmm === "qemu"
        ? "apt-get install qemu-system-x86"
        : `scripts/fetch-vmm.sh ${config.vmm}`;
    const remedy = `${install}; WRENN_NATIVE_DIR must hold what make build puts beside wrenn-agent`;
    return [failed("vmm", sentence(error), remedy)];
  }
}

export function judgeVmm(choice: VmmChoice): Finding[] {
  const because = choice.accelBecause;
  const vmm = ok("vmm", describeChoice(choice));
  if (choice.accel === "kvm") return [vmm, ok("kvm", because)];
  const remedy = because.includes("no /dev/kvm")
    ? "turn virtualisation on in the firmware or, in a cloud, nested virtualisation; modprobe kvm_intel or kvm_amd"
    : "a /dev/kvm that cannot run a guest is of no use: take another kind of machine, or look into dmesg";
  return [vmm, failed("kvm", `guests are emulated, ten times slower: ${because}`, remedy)];
}

async function checkWithLibrary(config: MachineConfig & { nativeDir: string }): Promise<Finding[]> {
  const { dir, cow, nativeDir, shares } = config;
  try {
    await using kernel = await Kernel.open(nativeDir);
    return [
      ok("native library", join(nativeDir, "libwrenn.so")),
      await checkImages(new Images(join(dir, "images"), kernel)),
      ...(await probeDisks(kernel, { dir: join(dir, "sandboxes"), cow })),
      ...(await probeNetwork(kernel, networkShare(shares))),
    ];
  } catch (error) {
    const found = `${sentence(error)}; images, disks and networks could not be tried`;
    const remedy = "apt-get install libnftables1, and install the agent again";
    return [failed("native library", found, remedy)];
  }
}
