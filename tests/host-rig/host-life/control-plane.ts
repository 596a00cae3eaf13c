// A control plane as `make build` makes it, on the rig's host beside the agent: its data outlives the host's starts.

import { existsSync } from "node:fs";
import { chmod, mkdir, readFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createApiKey, createHost, signUp } from "../../../scripts/dev/account.ts";
import { callAgent } from "../../../scripts/dev/agent-certificate.ts";
import { Processes, type Program } from "../../../scripts/dev/processes.ts";
import { run } from "../../../scripts/dev/run.ts";
import { startPostgres, startRedis } from "../../../scripts/dev/services.ts";
import { waitFor } from "../../harness/wait-for.ts";

const PROGRAM = resolve(import.meta.dirname, "../../../builds/wrenn-cp");
const SERVICE_PORTS = { postgres: 15_432, redis: 16_379 };
export const CONTROL_PLANE_URL = "http://127.0.0.1:18080";
const SECRET = "0123456789abcdef".repeat(4);
const ADMIN = { password: "a password of a test", name: "Admin" };
/** Of a program that was started there, on an emulated processor that others have, too; and of its database. */
const READY_TIMEOUT_MS = 600_000;
const STOP = { signal: "SIGTERM", graceMs: 35_000 } as const;

/** Has it run, unless it does: PostgreSQL and Redis, with their data in `dir`, and the program. */
export async function startControlPlane(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true });
  // PostgreSQL and Redis are users of their own.
  await chmod(dir, 0o755);
  const processes = new Processes(dir, { readyTimeoutMs: READY_TIMEOUT_MS });
  const service = { dir, password: "test", processes, durable: true };
  const postgres = await startPostgres({ ...service, port: SERVICE_PORTS.postgres });
  const redis = await startRedis({ ...service, port: SERVICE_PORTS.redis });
  const env = environment(dir, { databaseUrl: postgres.url, redisUrl: redis.url });
  const program: Program = {
    ...{ name: "cp", command: [PROGRAM], env, cwd: "/", stop: STOP },
    answers: async () => {
      const { ok, status } = await fetch(`${CONTROL_PLANE_URL}/health`);
      if (!ok) throw new Error(`/health: ${status}`);
    },
  };
  await processes.ensure(program, async () => {
    if (!existsSync(authorityDir(dir))) await run([PROGRAM, "make-ca", authorityDir(dir)]);
    await run([PROGRAM, "migrate"], { name: "the database can't be migrated", env });
  });
}

/** A client of the host's agent, past the control plane that has its data in `dir`. */
export async function agentOf(dir: string, host: { agentDir: string; address: string }) {
  const read = (name: string) => readFile(join(authorityDir(dir), name), "utf8");
  const secrets = { caCertPem: await read("ca.pem"), caKeyPem: await read("ca-key.pem") };
  return await callAgent(secrets, host);
}

const authorityDir = (dir: string) => join(dir, "authority");

/** An API key of its first account, and the token with which one agent may register. */
export async function makeAccount(dir: string): Promise<{ apiKey: string; hostToken: string }> {
  const mailDir = join(dir, "mail");
  // One that was refused may be there all the same; it is nobody's until it is activated.
  const jwt = await untilTaken("an account", (attempt) =>
    signUp(CONTROL_PLANE_URL, { ...ADMIN, email: `admin${attempt}@wrenn.localhost`, mailDir }),
  );
  const apiKey = await untilTaken("a key", () => createApiKey(CONTROL_PLANE_URL, jwt, "rig"));
  const hostToken = await untilTaken("a host", () => createHost(CONTROL_PLANE_URL, jwt));
  return { apiKey, hostToken };
}

/**
 * The answer of a call that the control plane may ask to be tried again, as it does when its database was silent for
 * seconds. Throws what the call does otherwise.
 */
export async function untilTaken<T>(
  what: string,
  call: (attempt: number) => Promise<T>,
): Promise<T> {
  let attempt = 0;
  const look = () =>
    call(attempt++).then(
      (answer) => ({ answer }),
      (error: unknown) => {
        if (!String(error).includes('"retryable":true')) throw error;
        return String(error);
      },
    );
  const seen = await waitFor(what, look, {
    holds: (seen) => typeof seen !== "string",
    ...{ timeoutMs: READY_TIMEOUT_MS, everyMs: 500 },
  });
  if (typeof seen === "string") throw new Error("unreachable: it holds");
  return seen.answer;
}

/** Ends what was started, and not what it wrote. */
export async function stopControlPlane(dir: string): Promise<void> {
  const processes = new Processes(dir);
  for (const name of ["cp", "redis", "postgres"]) {
    await processes.stop(name, { signal: "SIGINT", graceMs: 35_000 });
  }
}

function environment(
  dir: string,
  { databaseUrl, redisUrl }: { databaseUrl: string; redisUrl: string },
): Record<string, string> {
  return {
    DATABASE_URL: databaseUrl,
    REDIS_URL: redisUrl,
    WRENN_CP_LISTEN_ADDR: new URL(CONTROL_PLANE_URL).host,
    CP_PUBLIC_URL: CONTROL_PLANE_URL,
    JWT_SECRET: SECRET,
    WRENN_ENCRYPTION_KEY: SECRET,
    WRENN_CA_CERT: join(authorityDir(dir), "ca.pem"),
    WRENN_CA_KEY: join(authorityDir(dir), "ca-key.pem"),
    WRENN_MAIL_DIR: join(dir, "mail"),
    WRENN_DEFAULT_TEMPLATE: "minimal-debian",
  };
}
