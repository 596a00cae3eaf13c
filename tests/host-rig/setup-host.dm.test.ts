// A machine becomes a host by scripts/setup-host.sh, as README.md tells it; its capsules outlive the agent's unit; and
// what was set up goes again. On the rig's host, or with NATIVE=1 on this machine: it is no host before.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { appendFile, readdir, readFile, rm } from "node:fs/promises";
import { resolve } from "node:path";
import type { Finding } from "../../agent/doctor/finding.ts";
import { readVmmRecord } from "../../agent/keeper/run-records.ts";
import { AgentClients } from "../../cp/agents/agent-clients.ts";
import { encodeId, newId } from "../../proto/ids.ts";
import { MINIMAL_DEBIAN, PLATFORM_TEAM } from "../harness/agent-process.ts";
import { waitFor } from "../harness/wait-for.ts";

const SETUP = resolve(import.meta.dirname, "../../scripts/setup-host.sh");
const DIR = "/var/lib/wrenn";
const ADDRESS = "127.0.0.1:50051";
const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
const TIMEOUT_MS = 900_000;
const START_TIMEOUT_MS = 180_000;
const SETTINGS = [
  "WRENN_CP_URL=http://127.0.0.1:9",
  `WRENN_ADVERTISE_ADDR=${ADDRESS}`,
  "WRENN_COW=dm",
  "WRENN_WARM=off",
  "WRENN_BOOT_TIMEOUT_SEC=600",
];

const client = new AgentClients().at(ADDRESS);
const id = encodeId("capsule", newId("capsule"));
let forwardingBefore: string;
/** Left by this test when the machine's kernel panicked under it. */
const MARK = "/root/.wrenn-setup-test";
/** A machine that was a host before is left alone, whatever fails. */
let begun = false;

beforeAll(async () => {
  if (existsSync(MARK)) await undo();
  if (existsSync(DIR)) throw new Error(`this machine is a host already: there is ${DIR}`);
  forwardingBefore = await readFile(FORWARDING, "utf8");
  await Bun.write(MARK, "");
  begun = true;
});
afterAll(async () => {
  if (begun) await undo();
});

async function undo(): Promise<void> {
  await Bun.$`systemctl stop wrenn-agent`.nothrow().quiet();
  await Bun.$`umount ${DIR}/run`.nothrow().quiet();
  await Bun.$`${SETUP} --remove`.nothrow().quiet();
  for (const path of [DIR, "/etc/wrenn", "/var/log/wrenn", MARK]) {
    await rm(path, { recursive: true, force: true });
  }
}

const answers = () =>
  client.listSandboxes({}).then(
    () => true,
    () => false,
  );
const untilUp = () => waitFor("the agent to answer", answers, { timeoutMs: START_TIMEOUT_MS });
const vmm = async () => (await readVmmRecord(`${DIR}/run/${id}`))?.pid;
const mainPid = async () =>
  (await Bun.$`systemctl show --property=MainPID --value wrenn-agent`.text()).trim();
const word = async () => {
  const command = { sandboxId: id, cmd: "/bin/cat", args: ["/dev/shm/word"] };
  return new TextDecoder().decode((await client.exec(command)).stdout);
};

test(
  "from the script alone everything is green but the settings, and a second run does nothing",
  async () => {
    const first = await Bun.$`${SETUP}`.nothrow().quiet();
    await appendFile("/etc/wrenn/agent.env", SETTINGS.map((line) => `${line}\n`).join(""));
    const second = await Bun.$`${SETUP}`.text();
    const script = "set -a; . /etc/wrenn/agent.env; exec wrenn-agent doctor --json";
    const examined = await Bun.$`bash -c ${script}`.nothrow().quiet();
    const { findings }: { findings: Finding[] } = JSON.parse(examined.stdout.toString());

    expect([first.exitCode, first.stderr.toString()]).toEqual([0, ""]);
    const idle = /^==> (keep \/etc\/wrenn\/agent.env,|read the (rules|units) again|next: )/;
    expect(
      second
        .trim()
        .split("\n")
        .filter((line) => !idle.test(line)),
    ).toEqual([]);
    expect(findings.filter(({ status }) => status !== "ok")).toEqual([]);
    expect(examined.exitCode).toBe(0);
    expect((await Bun.$`logrotate --debug /etc/logrotate.d/wrenn`.quiet()).exitCode).toBe(0);
  },
  TIMEOUT_MS,
);

test(
  "a capsule of the unit outlives its stop, its replacement and its death",
  async () => {
    const credentials = { host_id: `host-${"0".repeat(25)}`, jwt: "-", refresh_token: "-" };
    await Bun.write(`${DIR}/host-credentials.json`, JSON.stringify(credentials));
    await Bun.$`systemctl start wrenn-agent`.quiet();
    await untilUp();
    await client.createSandbox({
      ...{ sandboxId: id, operationId: crypto.randomUUID(), vcpus: 1, memoryMb: 256 },
      ...{ teamId: PLATFORM_TEAM, templateTeamId: PLATFORM_TEAM, templateId: MINIMAL_DEBIAN },
      ...{ defaultUser: "root", envdAccessToken: "0123456789abcdef".repeat(4) },
    });
    const script = "echo kept > /dev/shm/word";
    await client.exec({ sandboxId: id, cmd: "/bin/sh", args: ["-c", script] });
    const before = await vmm();

    await Bun.$`systemctl restart wrenn-agent`.quiet();
    await untilUp();
    const restarted = [await vmm(), await word()];
    const pid = await mainPid();
    await Bun.$`systemctl kill --kill-whom=main --signal=KILL wrenn-agent`.quiet();
    await waitFor("another agent", mainPid, { holds: (now) => now !== pid && now !== "0" });
    await untilUp();

    expect(restarted).toEqual([before, "kept\n"]);
    expect([await vmm(), await word()]).toEqual([before, "kept\n"]);
  },
  TIMEOUT_MS,
);

test("what a guest wrote on its disk is not looked into by the host", async () => {
  const disks = (await readdir("/sys/block")).filter((name) => name.startsWith("dm-"));
  const known = await Promise.all(
    disks.map((name) => Bun.$`udevadm info --query=property /sys/block/${name}`.text()),
  );

  expect(
    known.filter((text) => /^DM_NAME=wrenn-|^SYSTEMD_READY=0/m.test(text)).length,
  ).toBeGreaterThan(0);
  expect(known.filter((text) => /^ID_FS_/m.test(text))).toEqual([]);
});

test(
  "it is not removed from under a capsule, and goes without a trace after it",
  async () => {
    const early = await Bun.$`${SETUP} --remove`.nothrow().quiet();
    await client.terminate({});
    await waitFor("the end of the agent", mainPid, {
      holds: (pid) => pid === "0",
      timeoutMs: 120_000,
    });
    const removed = await Bun.$`${SETUP} --remove`.nothrow().quiet();

    expect([early.exitCode, early.stderr.toString()]).toEqual([
      1,
      "Cannot set up: capsules run here; destroy them, or pause them, first.\n",
    ]);
    expect([removed.exitCode, removed.stderr.toString()]).toEqual([0, ""]);
    expect(existsSync("/usr/local/lib/wrenn")).toBe(false);
    expect(existsSync("/etc/systemd/system/wrenn-agent.service")).toBe(false);
    expect(await readFile(FORWARDING, "utf8")).toBe(forwardingBefore);
    // Somebody's settings are in it.
    expect(existsSync("/etc/wrenn/agent.env")).toBe(true);
    await rm("/etc/wrenn", { recursive: true });
  },
  TIMEOUT_MS,
);
