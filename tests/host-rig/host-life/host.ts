// The host whose life the tests of this folder follow, from a bare Debian to its removal: its places, its control
// plane's API, and what one test has to know of those before it, across the machine's starts.

import { existsSync } from "node:fs";
import { readFile, rm } from "node:fs/promises";
import { resolve } from "node:path";
import { api } from "../../../scripts/dev/account.ts";
import { waitFor } from "../../harness/wait-for.ts";
import { agentOf, CONTROL_PLANE_URL, stopControlPlane, untilTaken } from "./control-plane.ts";

export const SETUP = resolve(import.meta.dirname, "../../../scripts/setup-host.sh");
export const DIR = "/var/lib/wrenn";
export const SETTINGS_FILE = "/etc/wrenn/agent.env";
/** Where its control plane has its data. */
export const CONTROL_PLANE_DIR = "/var/lib/wrenn-rig";
export const FORWARDING = "/proc/sys/net/ipv4/ip_forward";
export const AGENT_LOG = "/var/log/wrenn/agent.log";
export const TIMEOUT_MS = 900_000;
/** A guest of a guest takes half a minute for its boot, and many times that where the machine does much else. */
const START_TIMEOUT_MS = 600_000;

const NOTES = "/root/.wrenn-host-life";

export interface Notes {
  readonly forwardingBefore: string;
  readonly apiKey: string;
  /** Capsules, by what is done to them. */
  readonly paused: string;
  readonly running: string;
}

export interface Capsule {
  readonly id: string;
  readonly status: string;
  readonly durable_at?: string;
  readonly reason?: string;
  readonly metadata?: Record<string, string>;
}

export async function agentClient() {
  return await agentOf(CONTROL_PLANE_DIR, { agentDir: DIR, address: "127.0.0.1:50051" });
}

/** Begins on a machine that is no host. Throws on one that is, unless these tests made it one. */
export async function begin(): Promise<void> {
  // Left when the machine's kernel panicked.
  if (existsSync(NOTES)) await undo();
  if (existsSync(DIR)) throw new Error(`this machine is a host already: there is ${DIR}`);
  const forwardingBefore = await readFile(FORWARDING, "utf8");
  await note({ forwardingBefore, apiKey: "", paused: "", running: "" });
}

/** Throws if no test has begun. */
export function readNotes(): Promise<Notes> {
  return Bun.file(NOTES).json();
}

/** They outlive the machine's power. */
export async function note(notes: Notes): Promise<void> {
  await Bun.write(NOTES, JSON.stringify(notes));
  await Bun.$`sync ${NOTES}`;
}

/** Leaves the machine as it was, whatever has failed; one that was a host before is left alone. */
export async function undo(): Promise<void> {
  if (!existsSync(NOTES)) return;
  await Bun.$`systemctl stop wrenn-agent`.nothrow().quiet();
  await stopControlPlane(CONTROL_PLANE_DIR);
  await Bun.$`umount ${DIR}/run`.nothrow().quiet();
  await Bun.$`${SETUP} --remove`.nothrow().quiet();
  for (const path of [DIR, CONTROL_PLANE_DIR, "/etc/wrenn", "/var/log/wrenn", NOTES]) {
    await rm(path, { recursive: true, force: true });
  }
}

export async function untilAgentAnswers(): Promise<void> {
  const look = async () => {
    try {
      await (await agentClient()).listSandboxes({});
      return "an answer";
    } catch (error) {
      return String(error);
    }
  };
  const holds = (seen: string) => seen === "an answer";
  await waitFor("the agent", look, { holds, timeoutMs: START_TIMEOUT_MS, everyMs: 200 });
}

/** The agent's, by systemd; "0" when it does not run. */
export async function mainPid(): Promise<string> {
  return (await Bun.$`systemctl show --property=MainPID --value wrenn-agent`.text()).trim();
}

/** The control plane's answer. Throws with its words on any error that another try would not mend. */
export async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const { apiKey } = await readNotes();
  const call = () => api<T>(CONTROL_PLANE_URL, path, { method, apiKey, body });
  return untilTaken(`${method} ${path}`, call);
}

/** Throws with the reason once the capsule is in error. */
function untilCapsule(
  id: string,
  what: string,
  holds: (capsule: Capsule) => boolean,
): Promise<Capsule> {
  const look = () => ask<Capsule>("GET", `/v1/capsules/${id}`);
  return waitFor(`${id} to be ${what}`, look, {
    holds: (capsule) => {
      if (capsule.status === "error") throw new Error(`${id}: ${capsule.reason}`);
      return holds(capsule);
    },
    ...{ timeoutMs: START_TIMEOUT_MS, everyMs: 500 },
  });
}

export function untilRunning(id: string): Promise<Capsule> {
  return untilCapsule(id, "running", ({ status }) => status === "running");
}

/** Until it runs; what it came from. */
export async function resume(id: string): Promise<string | undefined> {
  await ask("POST", `/v1/capsules/${id}/resume`);
  return (await untilRunning(id)).metadata?.resumed_from;
}

/** Until its memory is on the disk. */
export async function pause(id: string): Promise<void> {
  await ask("POST", `/v1/capsules/${id}/pause`);
  await untilCapsule(id, "durable", ({ durable_at }) => durable_at !== undefined);
}

/** By the unit, which starts with the machine, for the control plane that knows it. */
export async function untilOnline(): Promise<void> {
  await untilAgentAnswers();
  const look = () => ask<{ status: string }[]>("GET", "/v1/hosts");
  const statuses = (hosts: { status: string }[]) => hosts.map(({ status }) => status);
  await waitFor("the host to be online", look, {
    holds: (hosts) => statuses(hosts).join() === "online",
    ...{ timeoutMs: START_TIMEOUT_MS, everyMs: 500 },
  });
}

/** What a script prints in a capsule. Throws if it fails. */
export async function sh(id: string, script: string): Promise<string> {
  const command = { cmd: "/bin/sh", args: ["-c", script], user: "root", timeout_sec: 100 };
  const path = `/v1/capsules/${id}/exec`;
  const { stdout, exit_code } = await ask<{ stdout: string; exit_code: number }>(
    "POST",
    path,
    command,
  );
  if (exit_code !== 0) throw new Error(`${script}: status ${exit_code}, ${stdout}`);
  return stdout;
}
