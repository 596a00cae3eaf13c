// A bare Debian becomes a host by the commands of README.md, and its capsules outlive the agent's unit. What comes of
// it goes on in power-cut.dm.test.ts, reboot.dm.test.ts and removal.dm.test.ts, after starts of the machine.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFile, readdir, readFile } from "node:fs/promises";
import type { Finding } from "../../../agent/doctor/finding.ts";
import { readVmmRecord } from "../../../agent/keeper/run-records.ts";
import { waitFor } from "../../harness/wait-for.ts";
import { CONTROL_PLANE_URL, makeAccount, startControlPlane } from "./control-plane.ts";
import {
  AGENT_LOG,
  ask,
  begin,
  type Capsule,
  CONTROL_PLANE_DIR,
  DIR,
  mainPid,
  note,
  pause,
  readNotes,
  SETTINGS_FILE,
  SETUP,
  sh,
  TIMEOUT_MS,
  undo,
  untilAgentAnswers,
  untilRunning,
} from "./host.ts";

const SETTINGS = [
  `WRENN_CP_URL=${CONTROL_PLANE_URL}`,
  "WRENN_COW=dm",
  "WRENN_VMM=qemu",
  "WRENN_WARM=off",
  "WRENN_BOOT_TIMEOUT_SEC=600",
];

let hasPassed = false;

beforeAll(begin, TIMEOUT_MS);
afterAll(async () => {
  if (!hasPassed) await undo();
}, TIMEOUT_MS);

/** One after the other: the emulated host does not last well under two guests that boot. */
async function startCapsule(): Promise<string> {
  const { id } = await ask<Capsule>("POST", "/v1/capsules", { vcpus: 1, memory_mb: 256 });
  await untilRunning(id);
  return id;
}

async function appendSettings(...lines: string[]): Promise<void> {
  await appendFile(SETTINGS_FILE, lines.map((line) => `${line}\n`).join(""));
}

test(
  "from the script alone everything is green but the settings, and a second run does nothing",
  async () => {
    const first = await Bun.$`${SETUP}`.nothrow().quiet();
    expect([first.exitCode, first.stderr.toString()]).toEqual([0, ""]);
    await appendSettings(...SETTINGS);

    const second = await Bun.$`${SETUP}`.text();
    const script = "set -a; . /etc/wrenn/agent.env; exec wrenn-agent doctor --json";
    const examined = await Bun.$`bash -c ${script}`.nothrow().quiet();
    const { findings }: { findings: Finding[] } = JSON.parse(examined.stdout.toString());

    const idle = /^==> (keep \/etc\/wrenn\/agent.env,|read the (rules|units) again|next: )/;
    const lines = second.trim().split("\n");
    expect(lines.filter((line) => !idle.test(line))).toEqual([]);
    expect(findings.filter(({ status }) => status !== "ok")).toEqual([]);
    expect(examined.exitCode).toBe(0);
    expect((await Bun.$`logrotate --debug /etc/logrotate.d/wrenn`.quiet()).exitCode).toBe(0);
  },
  TIMEOUT_MS,
);

test(
  "it becomes a host of a control plane, and capsules run there under KVM",
  async () => {
    await startControlPlane(CONTROL_PLANE_DIR);
    const { apiKey, hostToken } = await makeAccount(CONTROL_PLANE_DIR);
    await appendSettings(`WRENN_REGISTRATION_TOKEN=${hostToken}`);
    await note({ ...(await readNotes()), apiKey });
    await Bun.$`systemctl start wrenn-agent`.quiet();
    await untilAgentAnswers();

    const paused = await startCapsule();
    const running = await startCapsule();
    await note({ ...(await readNotes()), paused, running });

    expect(await readFile(AGENT_LOG, "utf8")).toMatch(/"vmm":"qemu [^"]* kvm","cow":"dm"/);
    const clock = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    for (const id of [paused, running]) {
      expect(await sh(id, `echo ${id} | tee /root/id > /dev/shm/id; cat ${clock}`)).toBe(
        "kvm-clock\n",
      );
    }
  },
  TIMEOUT_MS,
);

test(
  "a capsule outlives the agent's stop, its replacement and its death",
  async () => {
    const { running: id } = await readNotes();
    const look = async () => [
      (await readVmmRecord(`${DIR}/run/${id}`))?.pid,
      await sh(id, "cat /dev/shm/id"),
    ];
    const before = await look();

    await Bun.$`systemctl restart wrenn-agent`.quiet();
    await untilAgentAnswers();
    expect(await look()).toEqual(before);

    const pid = await mainPid();
    await Bun.$`systemctl kill --kill-whom=main --signal=KILL wrenn-agent`.quiet();
    await waitFor("another agent", mainPid, {
      holds: (now) => now !== pid && now !== "0",
      timeoutMs: 120_000,
    });
    await untilAgentAnswers();
    expect(await look()).toEqual(before);
  },
  TIMEOUT_MS,
);

test("what a guest wrote on its disk is not looked into by the host", async () => {
  const disks = (await readdir("/sys/block")).filter((name) => name.startsWith("dm-"));
  const known = await Promise.all(
    disks.map((name) => Bun.$`udevadm info --query=property /sys/block/${name}`.text()),
  );

  const ours = known.filter((text) => /^DM_NAME=wrenn-|^SYSTEMD_READY=0/m.test(text));
  expect(ours.length).toBeGreaterThan(0);
  expect(known.filter((text) => /^ID_FS_/m.test(text))).toEqual([]);
});

/** Records of a line each, with a checksum, one after the other, each of them synced. */
const WRITER = [
  "i=0; while :; do i=$((i+1))",
  'line="$i $(echo $i | sha256sum | cut -c 1-16)"',
  'echo "$line" >> /root/records; sync /root/records; done',
].join("; ");

test(
  "one is paused, the other is amid its writes when the power goes",
  async () => {
    const { paused, running } = await readNotes();
    await pause(paused);
    const command = { cmd: "/bin/sh", args: ["-c", WRITER], user: "root", background: true };
    await ask("POST", `/v1/capsules/${running}/exec`, command);
    const count = () => sh(running, "wc -l < /root/records");
    await waitFor("some records", count, {
      holds: (text) => Number(text) > 20,
      timeoutMs: 300_000,
    });
    hasPassed = true;
  },
  TIMEOUT_MS,
);
