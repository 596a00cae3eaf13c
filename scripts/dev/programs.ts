// The programs of a platform: how each is started, and what shows that it works.

import { join } from "node:path";
import type { AgentPorts } from "./ports.ts";
import type { Program } from "./processes.ts";
import { run } from "./run.ts";
import { startPostgres, startRedis } from "./services.ts";
import { type Parts, REPOSITORY } from "./settings.ts";

/** Requests under way are waited for. */
const STOP = { signal: "SIGTERM", graceMs: 35_000 } as const;

/** PostgreSQL and Redis, unless others are to be used. True: one was started. */
export async function startServices(parts: Parts): Promise<boolean> {
  const started = await Promise.all([startPostgresOf(parts), startRedisOf(parts)]);
  return started.includes(true);
}

export async function startPostgresOf(parts: Parts): Promise<boolean> {
  if (parts.choices.databaseUrl !== null) return false;
  return (await startPostgres({ ...serviceOf(parts), port: parts.ports.postgres })).started;
}

export async function startRedisOf(parts: Parts): Promise<boolean> {
  if (parts.choices.redisUrl !== null) return false;
  return (await startRedis({ ...serviceOf(parts), port: parts.ports.redis })).started;
}

function serviceOf({ dir, processes, choices, secrets }: Parts) {
  const { durable } = choices;
  return { dir: dir.path, password: secrets.servicePassword, processes, durable };
}

/** Has the control plane run, on a database that is up to date. True: it was started. */
export async function startControlPlane(parts: Parts): Promise<boolean> {
  return await parts.processes.ensure(controlPlaneProgram(parts), () => migrate(parts.cpEnv));
}

export function controlPlaneProgram({ baseUrl, cpEnv }: Pick<Parts, "baseUrl" | "cpEnv">): Program {
  const command = [process.execPath, join(REPOSITORY, "cp/main.ts")];
  return {
    ...{ name: "cp", command, env: cpEnv, cwd: REPOSITORY, stop: STOP },
    answers: () => answers200(`${baseUrl}/health`),
  };
}

/** Has the agent run; asks for a registration token only if it has no credentials. True: it was started. */
export async function startAgent(
  parts: AgentParts & Pick<Parts, "dir" | "processes">,
  registrationToken: () => Promise<string>,
): Promise<boolean> {
  const known = await isRegistered(parts.dir.agentDir);
  const envOnce = known ? {} : { WRENN_REGISTRATION_TOKEN: await registrationToken() };
  return await parts.processes.ensure({ ...agentProgram(parts), envOnce });
}

/** An agent can be started without the rest of a platform. */
type AgentParts = Pick<Parts, "agentEnv"> & { readonly ports: AgentPorts };

export function agentProgram({ ports, agentEnv }: AgentParts): Program {
  const address = `127.0.0.1:${ports.agent}`;
  const main = join(REPOSITORY, "agent/main.ts");
  const command = [process.execPath, main, "--address", address];
  return {
    ...{ name: "agent", command, env: agentEnv, cwd: REPOSITORY, stop: STOP },
    answers: () => answers200(`http://127.0.0.1:${ports.agentMetrics}/health`),
  };
}

/** Whether the agent of that directory is a host of some control plane. */
export async function isRegistered(agentDir: string): Promise<boolean> {
  return await Bun.file(join(agentDir, "host-credentials.json")).exists();
}

async function answers200(url: string): Promise<void> {
  const response = await fetch(url, { signal: AbortSignal.timeout(2_000) });
  if (!response.ok) throw new Error(`${url}: ${response.status}`);
}

async function migrate(env: Readonly<Record<string, string>>): Promise<void> {
  const command = [process.execPath, join(REPOSITORY, "cp/main.ts"), "migrate"];
  await run(command, { name: "the database can't be migrated", env });
}
