// Private PostgreSQL and Redis: Debian's programs as children, in a directory of ours, on free ports.

import { chown, mkdir, readdir, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { usersOf } from "./process-table.ts";
import type { Processes, Program } from "./processes.ts";
import { GaveUp, run } from "./run.ts";

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

export interface Started {
  readonly url: string;
  /** False: it ran already. */
  readonly started: boolean;
}

/** SQLSTATE of a password that is not the one of the cluster. */
const WRONG_PASSWORD = "28P01";

/**
 * Has PostgreSQL run as the user `postgres` (it refuses to run as root), makes the cluster and the
 * database `wrenn` on first use, and waits until it answers.
 */
export async function startPostgres(options: ServiceOptions): Promise<Started> {
  const { processes, dir } = options;
  const bin = await postgresBin();
  const data = join(dir, "postgres");
  const owner = await passwdEntry("postgres");
  if (!(await exists(join(data, "PG_VERSION"))))
    await makeCluster({ ...options, bin, data, owner });
  const program = postgresProgram(options, { bin, data, owner });
  const started = await processes.ensure(program, () => freeCluster(data));
  return { url: postgresUrl(options, "wrenn"), started };
}

function postgresProgram(
  options: ServiceOptions,
  { bin, data, owner }: { bin: string; data: string; owner: Owner },
): Program {
  return {
    name: "postgres",
    command: [
      ...setpriv(owner),
      join(bin, "postgres"),
      ...["-D", data, "-p", String(options.port), "-h", "127.0.0.1", "-k", ""],
      // Not in /dev/shm, which belongs to the machine and may be emptied under a running server.
      ...["-c", "max_connections=200", "-c", "dynamic_shared_memory_type=mmap"],
      ...(options.durable ? [] : ["-c", "fsync=off", "-c", "full_page_writes=off"]),
    ],
    env: { LC_ALL: "C.UTF-8" },
    cwd: "/",
    stop: POSTGRES_STOP,
    answers: async () => {
      try {
        await using admin = new Bun.SQL(postgresUrl(options, "postgres"), POSTGRES_PROBE);
        const rows = await admin`select 1 from pg_database where datname = 'wrenn'`;
        if (rows.length === 0) await admin`create database wrenn`;
      } catch (error) {
        if (!(error instanceof Bun.SQL.PostgresError) || error.errno !== WRONG_PASSWORD)
          throw error;
        const advice = "make dev-reset deletes both";
        throw new GaveUp(`${data} was made with another secrets.json: ${advice}`, { cause: error });
      }
    },
  };
}

const POSTGRES_STOP = { signal: "SIGINT", graceMs: 20_000 } as const;
const POSTGRES_PROBE = { max: 1, connectionTimeout: 2 } as const;

function postgresUrl({ password, port }: ServiceOptions, database: string): string {
  return `postgres://wrenn:${password}@127.0.0.1:${port}/${database}`;
}

/**
 * Made beside and renamed: initdb writes PG_VERSION first. What a start that was killed left of one, initdb
 * itself among it, ends before.
 */
async function makeCluster(
  options: ServiceOptions & { bin: string; data: string; owner: Owner },
): Promise<void> {
  const { dir, password, bin, data, owner, processes } = options;
  const partial = `${data}.new`;
  await processes.stop("initdb", INITDB_STOP);
  for (const path of [data, partial]) await rm(path, { recursive: true, force: true });
  await mkdir(partial, { recursive: true, mode: 0o700 });
  await chown(partial, owner.uid, owner.gid);
  const passwordFile = join(dir, ".postgres-password");
  try {
    await writeFile(passwordFile, password, { mode: 0o600 });
    await chown(passwordFile, owner.uid, owner.gid);
    const record = await processes.start({
      name: "initdb",
      command: [
        ...["sh", "-c", '"$@" && mv -T "$0.new" "$0"', data, ...setpriv(owner)],
        join(bin, "initdb"),
        ...["-D", partial, "-U", "wrenn", "-A", "scram-sha-256", "--pwfile", passwordFile],
        ...["-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"],
      ],
      env: {},
      cwd: "/",
    });
    await processes.ended(record, INITDB_TIMEOUT_MS);
    if (!(await exists(data))) throw new Error(await processes.explainExit("initdb"));
  } finally {
    await processes.stop("initdb", INITDB_STOP);
    await rm(passwordFile, { force: true });
  }
}

const INITDB_STOP = { signal: "SIGTERM", graceMs: 10_000 } as const;
const INITDB_TIMEOUT_MS = 120_000;

/**
 * The server of before has ended. Its note of its pid may name another process of the same user by now,
 * and then the next server would not start.
 */
async function freeCluster(data: string): Promise<void> {
  if ((await usersOf(data)).length === 0) await rm(join(data, "postmaster.pid"), { force: true });
}

/** Has Redis run as the user `redis` with its data on disk, waits until it answers. */
export async function startRedis(options: ServiceOptions): Promise<Started> {
  const { dir, port, password, processes } = options;
  const owner = await passwdEntry("redis");
  const data = join(dir, "redis");
  await mkdir(data, { recursive: true, mode: 0o700 });
  await chown(data, owner.uid, owner.gid);
  const config = [
    `port ${port}`,
    "bind 127.0.0.1",
    `requirepass ${password}`,
    `dir ${data}`,
    `appendonly ${options.durable ? "yes" : "no"}`,
    'save ""',
  ].join("\n");
  const configPath = join(data, "redis.conf");
  await writeFile(configPath, config, { mode: 0o600 });
  await chown(configPath, owner.uid, owner.gid);
  const url = `redis://:${password}@127.0.0.1:${port}/0`;
  const started = await processes.ensure({
    name: "redis",
    // The port is in the file, too: with another one it is another program.
    command: [...setpriv(owner), "redis-server", configPath, "--port", String(port)],
    env: {},
    cwd: "/",
    stop: REDIS_STOP,
    answers: async () => {
      const client = new Bun.RedisClient(url, { autoReconnect: false, connectionTimeout: 1_000 });
      try {
        await client.send("PING", []);
      } finally {
        client.close();
      }
    },
  });
  return { url, started };
}

const REDIS_STOP = { signal: "SIGTERM", graceMs: 10_000 } as const;

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
  const names = await readdir(POSTGRES_ROOT).catch(() => []);
  const versions = names.map(Number).filter((version) => version > 0);
  if (versions.length === 0) {
    throw new Error(`there is no PostgreSQL in ${POSTGRES_ROOT}: apt-get install postgresql`);
  }
  return join(POSTGRES_ROOT, String(Math.max(...versions)), "bin");
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
