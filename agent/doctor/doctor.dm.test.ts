// On a host with KVM and device-mapper.

import { expect, test } from "bun:test";
import { NATIVE_DIR } from "../../tests/harness/vmm-fixture.ts";
import { Kernel } from "../native/kernel.ts";
import { probeDisks } from "./kernel-probes.ts";

test("snapshots of device-mapper are tried for real, and nothing of them is left", async () => {
  await using kernel = await Kernel.open(NATIVE_DIR);

  const findings = await probeDisks(kernel, { dir: "/var/tmp", cow: "dm" });

  expect(findings.map(({ check, status }) => [check, status])).toEqual([
    ["cow", "ok"],
    ["reflinks", "ok"],
    ["device-mapper", "ok"],
  ]);
  expect(await kernel.storage.listMapped("wrenn-doctor-")).toEqual([]);
});
