// Stops a platform from whatever state it is in: whole, half started, with any of its programs killed, with
// files of it gone. What can't be done is said, and does not keep the rest from being done.

import { readdir, rm, rmdir } from "node:fs/promises";
import { join } from "node:path";
import { callAgent, renewAgentCertificate } from "./agent-certificate.ts";
import { findRemains, isNothing, removeRemains } from "./agent-remains.ts";
import { checkHome, closeDevDir, type DevDir, locateDevDir } from "./dev-dir.ts";
import { anyFreePort, savedPorts } from "./ports.ts";
import { type ProcessIdentity, variableOf } from "./process-table.ts";
import { Processes } from "./processes.ts";
import { isRegistered, startAgent } from "./programs.ts";
import { messageOf } from "./run.ts";
import { agentEnv, type Choices, readJson, savedSecrets } from "./settings.ts";

/** An agent pauses its capsules one after the other; each writes its memory. */
const TERMINATE_TIMEOUT_MS = 600_000;
const POLL_MS = 50;
const TERM = { signal: "SIGTERM", graceMs: 10_000 } as const;
/** They start others, so they end before others do. */
const SUPERVISORS = ["reloader", "guard", "supervisor"] as const;

/** What becomes of capsules that run; paused ones stay in any case. */
export type Fate = "pause" | "destroy";

/**
 * Stops everything in order: the agent pauses its capsules, or destroys them, and removes every kernel
 * object, then the programs end, then the mounts go. Returns sentences about what stays a while longer.
 * Throws what could not be stopped, after all the rest was.
 */
export async function stopPlatform(home: string, fate: Fate = "destroy"): Promise<string[]> {
  const dir = await locateDevDir(home);
  const processes = new Processes(dir.path);
  const failures: unknown[] = [];
  const attempt = async (work: () => Promise<unknown>) => {
    await work().catch((error: unknown) => failures.push(error));
  };

  await attempt(() => stopSupervisors(processes));
  await attempt(() => processes.stop("cp", { signal: "SIGTERM", graceMs: 35_000 }));
  await attempt(() => endAgent({ dir, processes }, fate));
  await Promise.all([
    attempt(() => processes.stop("postgres", { signal: "SIGINT", graceMs: 20_000 })),
    attempt(() => processes.stop("redis", TERM)),
  ]);
  for (const name of await processes.names()) await attempt(() => processes.stop(name, TERM));
  if (failures.length > 0) throw new Error(failures.map(messageOf).join("; "), { cause: failures });
  return await closeDevDir(dir);
}

/**
 * Deletes all data of a stopped platform, and its directory unless that is a link to another one or a mount
 * of its own. Throws when there are files that are not a platform's.
 */
export async function deletePlatform(home: string): Promise<void> {
  await checkHome(home);
  const names = await readdir(home).catch(() => []);
  for (const name of names) await rm(join(home, name), { recursive: true, force: true });
  await rmdir(home).catch((error: NodeJS.ErrnoException) => {
    if (!["ENOENT", "ENOTDIR", "EBUSY"].includes(error.code ?? "")) throw error;
  });
}

/** Ends what would start others again. */
export async function stopSupervisors(processes: Processes): Promise<void> {
  for (const name of SUPERVISORS) await processes.stop(name, TERM);
}

type AgentPlace = { readonly dir: DevDir; readonly processes: Processes };

/**
 * Has an agent leave nothing on the machine: the one that runs, else, since only an agent knows what its
 * journal names, one that is started for it. Where none can, what is left is removed by name, unless
 * microVMs are among it that are to be paused: then it stays, and that is thrown.
 */
async function endAgent(place: AgentPlace, fate: Fate): Promise<void> {
  const { dir, processes } = place;
  let reason = "";
  for (const isFresh of [false, true]) {
    try {
      if (await terminate(place, { fate, isFresh })) return;
    } catch (error) {
      reason = messageOf(error);
    }
    await processes.stop("agent", TERM);
  }
  const remains = await findRemains(dir.agentDir);
  // A keeper each; without one a VMM ends.
  const count = remains.keepers.length;
  if (fate === "pause" && count > 0) {
    const what = `${count} ${count === 1 ? "microVM runs" : "microVMs run"} on without an agent`;
    throw new Error(`${what} (${reason}); make dev-up tries again, make dev-reset destroys them`);
  }
  await removeRemains(remains);
}

/** False: no agent runs, and a fresh one was not wanted or has nothing to do it with. */
async function terminate(
  place: AgentPlace,
  { fate, isFresh }: { fate: Fate; isFresh: boolean },
): Promise<boolean> {
  const { dir, processes } = place;
  if (isFresh) {
    if (isNothing(await findRemains(dir.agentDir))) return true;
    if (!(await isRegistered(dir.agentDir))) return false;
    await startCleaner(place);
  }
  const record = await processes.running("agent");
  if (record === null) return false;
  const address = (await variableOf(record.pid, "WRENN_HOST_LISTEN_ADDR")) ?? "";
  const secrets = await savedSecrets(dir.path);
  const client = await callAgent(secrets, { agentDir: dir.agentDir, address });
  await client.terminate({ pause: fate === "pause" }, { timeoutMs: 10_000 });
  await untilTerminated(place, record);
  return true;
}

/** With the settings that the platform's own agent had, as far as they are known. */
async function startCleaner({ dir, processes }: AgentPlace): Promise<void> {
  const saved = await savedPorts(dir.path);
  const agent = saved?.agent ?? (await anyFreePort(`${dir.path} agent`));
  const agentMetrics = saved?.agentMetrics ?? (await anyFreePort(`${dir.path} agentMetrics`));
  const ports = { agent, agentMetrics };
  await renewAgentCertificate(await savedSecrets(dir.path), dir.agentDir);
  const choices = await readJson<Choices>(`${dir.path}/choices.json`);
  const env = agentEnv({ dir, ports, choices: choices?.agent ?? {} });
  const parts = { dir, processes, ports, agentEnv: env };
  await startAgent(parts, () => Promise.reject(new Error("it is not registered")));
}

/** A program that is reloaded on changes does not end; that it has removed everything shows, too. */
async function untilTerminated({ dir, processes }: AgentPlace, record: ProcessIdentity) {
  const deadline = performance.now() + TERMINATE_TIMEOUT_MS;
  while (!(await processes.ended(record, 1_000))) {
    if (isNothing(await findRemains(dir.agentDir))) break;
    if (performance.now() > deadline) {
      throw new Error(`the agent still runs after ${TERMINATE_TIMEOUT_MS / 1000} s`);
    }
    await Bun.sleep(POLL_MS);
  }
}
