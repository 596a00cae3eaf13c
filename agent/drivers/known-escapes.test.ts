import { expect, test } from "bun:test";
import { compareVersions, refuseKnownEscapes } from "./known-escapes.ts";

const VERSIONS: [Parameters<typeof refuseKnownEscapes>[0], string, string | null][] = [
  ["firecracker", "1.12.1", null],
  ["firecracker", "1.13.0", "CVE-2026-5747"],
  ["firecracker", "1.13.2", "CVE-2026-5747"],
  ["firecracker", "1.14.3", "CVE-2026-5747"],
  ["firecracker", "1.14.4", null],
  ["firecracker", "1.15.0", "CVE-2026-5747"],
  ["firecracker", "1.15.1", null],
  ["firecracker", "1.16.1", null],
  ["cloud-hypervisor", "50.0", "CVE-2026-27211"],
  ["cloud-hypervisor", "50.2", "CVE-2026-45782"],
  ["cloud-hypervisor", "51.1.0", "CVE-2026-45782"],
  ["cloud-hypervisor", "51.2", null],
  ["cloud-hypervisor", "52.0.0", null],
];
for (const [vmm, version, cve] of VERSIONS) {
  test(`${vmm} ${version} is ${cve === null ? "taken" : `refused for ${cve}`}`, () => {
    const refuse = () => refuseKnownEscapes(vmm, version);

    if (cve === null) expect(refuse()).toBeUndefined();
    else expect(refuse).toThrow(`${vmm} ${version} has ${cve}: a guest can`);
  });
}

test("versions are compared by number, and a missing part is 0", () => {
  expect(compareVersions("1.9.0", "1.12.0")).toBeLessThan(0);
  expect(compareVersions("52.0", "52.0.0")).toBe(0);
  expect(compareVersions("2", "1.99.99")).toBeGreaterThan(0);
});
