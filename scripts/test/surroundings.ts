// What kinds of tests need around them: services, a file system with reflinks, a whole platform.

import { mkdtemp, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { agentTag, kernelObjects } from "../../tests/harness/leaks.ts";
import { closeDevDir, openDevDir } from "../dev/dev-dir.ts";
import { startPlatform } from "../dev/platform.ts";
import { freePort } from "../dev/ports.ts";
import { Processes } from "../dev/processes.ts";
import { startPostgres, startRedis } from "../dev/services.ts";
import { PRIVATE } from "../dev/settings.ts";
import { deletePlatform, stopPlatform } from "../dev/stop-platform.ts";
import { NOTHING } from "./bun-test.ts";
import type { Totals } from "./totals.ts";

const ROOT = resolve(import.meta.dirname, "../..");

type Body = (env: Readonly<Record<string, string>>) => Promise<void>;

/** PostgreSQL and Redis of this run, in a directory that every user can enter; gone at the end. */
export async function withServices(body: Body): Promise<void> {
  const dir = await mkdtemp("/var/tmp/wrenn-test-");
  await Bun.$`chmod 0755 ${dir}`;
  const processes = new Processes(dir);
  const service = { dir, password: "test", processes, durable: false };
  try {
    const [postgres, redis] = await Promise.all([
      startPostgres({ ...service, port: await freePort() }),
      startRedis({ ...service, port: await freePort() }),
    ]);
    await body({ DATABASE_URL: postgres.url, REDIS_URL: redis.url });
  } finally {
    await processes.stop("postgres", { signal: "SIGINT", graceMs: 10_000 });
    await processes.stop("redis", { signal: "SIGTERM", graceMs: 10_000 });
    await rm(dir, { recursive: true, force: true });
  }
}

/** Temporary files on a file system with reflinks: each pause clones a root disk, which else is copied. */
export async function withReflinks(body: Body): Promise<void> {
  const home = join(ROOT, "build/vm-tests");
  const dir = await openDevDir(home);
  try {
    await body({ TMPDIR: dir.agentDir });
  } finally {
    await closeDevDir(dir);
    await rm(home, { recursive: true, force: true });
  }
}

/**
 * A fresh platform of this run, as `make dev-up` makes it; then it is stopped, which must leave nothing on the
 * machine, and deleted.
 */
export async function withPlatform(totals: Totals, name: string, body: Body): Promise<void> {
  const home = join(ROOT, `build/e2e-${name}`);
  await stopPlatform(home);
  await deletePlatform(home);
  let agent = { dir: "", tag: "" };
  try {
    await totals.suite(`platform ${name} starts`, async () => {
      const progress = (line: string) => console.log(`    ${name}: ${line}`);
      // Tests beside this one start platforms, too, and may do so while its programs are killed.
      const choices = { ...PRIVATE, durable: false };
      const options = { home, choices, progress, hasUsualPorts: false };
      const { dir } = await startPlatform(options);
      agent = { dir: dir.agentDir, tag: await agentTag(dir.agentDir) };
      return { ...NOTHING, passed: 1 };
    });
    if (agent.tag !== "") await body({ DEV_DIR: home });
  } finally {
    await totals.suite(`platform ${name} stops and leaves nothing`, async () => {
      await stopPlatform(home);
      if (agent.tag === "") throw new Error("it never ran: what is its own is not known");
      const left = Object.values(await kernelObjects(agent.dir, agent.tag)).flat();
      const programs = await processesBelow(dirname(agent.dir));
      for (const object of [...left, ...programs]) console.log(`    left behind: ${object}`);
      return { ...NOTHING, [left.length + programs.length === 0 ? "passed" : "failed"]: 1 };
    });
    await deletePlatform(home);
  }
}

/** Command lines of processes that name the platform's directory. */
async function processesBelow(dir: string): Promise<string[]> {
  const listed = Bun.spawnSync(["ps", "-eo", "args"]).stdout.toString().split("\n");
  return listed.filter((line) => line.includes(dir));
}
