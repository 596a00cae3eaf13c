// The limits as the kernel enforces them, on whichever cgroup version this machine has.
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { dirname } from "node:path";
import { type CapsuleCgroup, Cgroups } from "./cgroups.ts";

const MIB = 1024 * 1024;
const LIMITS = { memoryBytes: 64 * MIB, cpus: 1, pids: 20 };
let cgroups: Cgroups;

beforeEach(async () => {
  cgroups = await Cgroups.open("tcg0");
});
afterEach(async () => {
  await cgroups.removeAll();
});

/** Runs a shell script inside the group. */
function run(cgroup: CapsuleCgroup, script: string) {
  const join = cgroup.procsFiles.map((file) => `echo 0 > ${file}`).join(" && ");
  return Bun.spawn(["sh", "-c", `${join} && { ${script}; }`], {
    stdio: ["ignore", "pipe", "ignore"],
  });
}

describe("a capsule's group", () => {
  test("ends what takes more memory than its limit", async () => {
    const cgroup = await cgroups.create({ capsuleId: "cl-memory", ...LIMITS });

    // tail keeps the whole of a line, and zeros have no line ends.
    const child = run(cgroup, "exec tail /dev/zero");

    await child.exited;
    expect(child.signalCode).toBe("SIGKILL");
  });

  test("refuses more processes than its limit", async () => {
    const cgroup = await cgroups.create({ capsuleId: "cl-pids", ...LIMITS });

    const child = run(cgroup, "for i in $(seq 100); do sleep 30 >&- & done; echo all");

    await child.exited;
    expect(await new Response(child.stdout).text()).not.toContain("all");
  });

  test("gives no more processor time than its limit", async () => {
    const limits = { ...LIMITS, cpus: 0.1 };
    const cgroup = await cgroups.create({ capsuleId: "cl-cpu", ...limits });

    const child = run(cgroup, "exec timeout 1.5 sh -c 'while :; do :; done'");

    await child.exited;
    const used = child.resourceUsage()?.cpuTime.total ?? 0n;
    expect(Number(used) / 1e6).toBeLessThan(0.5);
  });

  test("is removed with what still runs in it, and again", async () => {
    const cgroup = await cgroups.create({ capsuleId: "cl-busy", ...LIMITS });
    const child = run(cgroup, "sleep 60 & sleep 60 & echo ready; wait");
    await child.stdout.getReader().read();

    await cgroups.remove("cl-busy");
    await cgroups.remove("cl-busy");

    await child.exited;
    expect(child.signalCode).toBe("SIGKILL");
    expect(cgroup.procsFiles.filter((file) => existsSync(dirname(file)))).toEqual([]);
  });

  test("is there for an agent that starts anew", async () => {
    const cgroup = await cgroups.create({ capsuleId: "cl-kept", ...LIMITS });
    const later = await Cgroups.open("tcg0");

    expect(await later.list()).toEqual(["cl-kept"]);
    expect(later.adopt("cl-kept")).toEqual(cgroup);
  });

  test("goes with all others of its tag", async () => {
    const { procsFiles } = await cgroups.create({ capsuleId: "cl-a", ...LIMITS });
    await cgroups.create({ capsuleId: "cl-b", ...LIMITS });

    await cgroups.removeAll();

    expect(await cgroups.list()).toEqual([]);
    expect(procsFiles.filter((file) => existsSync(dirname(dirname(file))))).toEqual([]);
  });
});
