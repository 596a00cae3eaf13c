// Versions of VMMs from which a guest is known to have a way out, or at the host's files. They are
// refused, also where a flaw is in a part that we do not use. Not here: CVE-2026-1386, which is of
// Firecracker's jailer, in whose place stands our keeper.

import { VmmError } from "../vmm/vmm.ts";

interface KnownEscape {
  readonly vmm: "firecracker" | "cloud-hypervisor";
  readonly cve: string;
  readonly what: string;
  /** First and last version of each range. */
  readonly affected: readonly (readonly [string, string])[];
  readonly source: string;
}

const KNOWN_ESCAPES: readonly KnownEscape[] = [
  {
    vmm: "firecracker",
    cve: "CVE-2026-5747",
    what: "a guest can write beyond a queue of the virtio PCI transport",
    affected: [
      ["1.13.0", "1.14.3"],
      ["1.15.0", "1.15.0"],
    ],
    source: "https://aws.amazon.com/security/security-bulletins/2026-015-aws",
  },
  {
    vmm: "cloud-hypervisor",
    cve: "CVE-2026-27211",
    what: "a guest can turn its raw disk into an image over a file of the host",
    affected: [["34.0", "50.0"]],
    source:
      "https://github.com/cloud-hypervisor/cloud-hypervisor/security/advisories/GHSA-jmr4-g2hv-mjj6",
  },
  {
    vmm: "cloud-hypervisor",
    cve: "CVE-2026-45782",
    what: "a guest can make virtio-block use memory after it was freed",
    // Release notes of 52.0, and the same changes in 51.2. Nothing says where it began.
    affected: [["0.0", "51.1"]],
    source: "https://github.com/cloud-hypervisor/cloud-hypervisor/releases/tag/v52.0",
  },
];

/** Throws VmmError, naming the flaw. `version`: numbers and dots. */
export function refuseKnownEscapes(vmm: KnownEscape["vmm"], version: string): void {
  for (const known of KNOWN_ESCAPES) {
    if (known.vmm !== vmm) continue;
    const isAffected = known.affected.some(
      ([first, last]) =>
        compareVersions(first, version) <= 0 && compareVersions(version, last) <= 0,
    );
    if (!isAffected) continue;
    const { cve, what, source } = known;
    throw new VmmError(`${vmm} ${version} has ${cve}: ${what}; see ${source}`);
  }
}

/** Below, at or above 0: the first version is older, the same or newer. A part that is missing is 0. */
export function compareVersions(a: string, b: string): number {
  const [left, right] = [a.split(".").map(Number), b.split(".").map(Number)];
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
