// Private PostgreSQL and Redis: Debian's programs as children, in a directory of ours, on free ports.

import { chown, mkdir, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Processes } from "./processes.ts";

const READY_TIMEOUT_MS = 30_000;
const POSTGRES_ROOT = "/usr/lib/postgresql";

export interface ServiceOptions {
  /** Parent of the data directory; every user must be able to enter it. */
  readonly dir: string;
  readonly port: number;
  readonly password: string;
  readonly processes: Processes;
  /** False where the data is thrown away anyway: tests. */
  readonly durable: boolean;
}

/**
 * Starts PostgreSQL as the user `postgres` (it refuses to run as root), makes the cluster and the
 * database `wrenn` on first use, and waits until it answers. Returns its URL.
 */
export async function startPostgres(options: ServiceOptions): Promise<string> {
  const bin = await postgresBin();
  const data = join(options.dir, "postgres");
  const owner = await passwdEntry("postgres");
  const asPostgres = setpriv(owner);
  if (!(await exists(join(data, "PG_VERSION")))) {
    await rm(data, { recursive: true, force: true });
    await mkdir(data, { recursive: true, mode: 0o700 });
    await chown(data, owner.uid, owner.gid);
    const passwordFile = join(options.dir, ".postgres-password");
    await writeFile(passwordFile, options.password, { mode: 0o600 });
    await chown(passwordFile, owner.uid, owner.gid);
    await run([
      ...asPostgres,
      join(bin, "initdb"),
      ...["-D", data, "-U", "wrenn", "-A", "scram-sha-256", "--pwfile", passwordFile],
      ...["-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"],
    ]);
    await rm(passwordFile);
  }

  const log = join(options.dir, "logs", "postgres.log");
  await mkdir(join(options.dir, "logs"), { recursive: true });
  const program = {
    name: "postgres",
    command: [
      ...asPostgres,
      join(bin, "postgres"),
      ...["-D", data, "-p", String(options.port), "-h", "127.0.0.1", "-k", ""],
      // Not in /dev/shm, which belongs to the machine and may be emptied under a running server.
      ...["-c", "max_connections=200", "-c", "dynamic_shared_memory_type=mmap"],
      ...(options.durable ? [] : ["-c", "fsync=off", "-c", "full_page_writes=off"]),
    ],
    env: { LC_ALL: "C.UTF-8" },
    cwd: "/",
  };
  const url = (database: string) =>
    `postgres://wrenn:${options.password}@127.0.0.1:${options.port}/${database}`;
  await waitFor(`PostgreSQL (log: ${log})`, async () => {
    // After a crash it ends at once while children of the old one still hold its shared memory.
    if (!(await options.processes.running("postgres"))) await options.processes.start(program);
    await using admin = new Bun.SQL(url("postgres"), { max: 1, connectionTimeout: 2 });
    const rows = await admin`select 1 from pg_database where datname = 'wrenn'`;
    if (rows.length === 0) await admin`create database wrenn`;
  });
  return url("wrenn");
}

/** Starts Redis as the user `redis` with its data on disk, waits until it answers. Returns its URL. */
export async function startRedis(options: ServiceOptions): Promise<string> {
  const owner = await passwdEntry("redis");
  const data = join(options.dir, "redis");
  await mkdir(data, { recursive: true, mode: 0o700 });
  await chown(data, owner.uid, owner.gid);
  const config = [
    `port ${options.port}`,
    "bind 127.0.0.1",
    `requirepass ${options.password}`,
    `dir ${data}`,
    `appendonly ${options.durable ? "yes" : "no"}`,
    'save ""',
  ].join("\n");
  const configPath = join(data, "redis.conf");
  await writeFile(configPath, config, { mode: 0o600 });
  await chown(configPath, owner.uid, owner.gid);
  await options.processes.start({
    name: "redis",
    command: [...setpriv(owner), "redis-server", configPath],
    env: {},
    cwd: "/",
  });

  const url = `redis://:${options.password}@127.0.0.1:${options.port}/0`;
  await waitFor("Redis", async () => {
    const client = new Bun.RedisClient(url, { autoReconnect: false, connectionTimeout: 1_000 });
    try {
      await client.send("PING", []);
    } finally {
      client.close();
    }
  });
  return url;
}

/** Thrown by an attempt that knows that further ones are in vain. */
export class GaveUp extends Error {}

/** Tries until it does not throw; after 30 s says what is not there, with the last error as cause. */
export async function waitFor(
  what: string,
  attempt: () => Promise<void>,
  timeoutMs = READY_TIMEOUT_MS,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    try {
      return await attempt();
    } catch (cause) {
      if (cause instanceof GaveUp) throw cause;
      if (Date.now() > deadline) {
        throw new Error(`${what} does not answer after ${timeoutMs / 1000} s: ${cause}`, { cause });
      }
      await Bun.sleep(25);
    }
  }
}

/** Runs a program to its end; throws with what it printed when it fails. */
export async function run(command: readonly string[]): Promise<string> {
  const child = Bun.spawn([...command], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  const [stdout, stderr, status] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (status !== 0) throw new Error(`${command.join(" ")} failed (${status}): ${stderr.trim()}`);
  return stdout;
}

interface Owner {
  readonly uid: number;
  readonly gid: number;
}

function setpriv(owner: Owner): string[] {
  return ["setpriv", `--reuid=${owner.uid}`, `--regid=${owner.gid}`, "--clear-groups", "--"];
}

async function passwdEntry(user: string): Promise<Owner> {
  const line = (await run(["getent", "passwd", user])).trim();
  const [, , uid, gid] = line.split(":");
  return { uid: Number(uid), gid: Number(gid) };
}

/** The directory of the newest installed PostgreSQL. */
async function postgresBin(): Promise<string> {
  const versions = (await readdir(POSTGRES_ROOT)).map(Number).filter((v) => v > 0);
  if (versions.length === 0) throw new Error(`No PostgreSQL server in ${POSTGRES_ROOT}`);
  return join(POSTGRES_ROOT, String(Math.max(...versions)), "bin");
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
