// The development platform's commands: `dev` (foreground), `up`, `down`, `reset`, and `cp` and `agent`
// (reloading on changes). See `make help`.

import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { runFirstCapsule } from "./first-capsule.ts";
import { hotReload } from "./hot-reload.ts";
import {
  AlreadyRunning,
  deletePlatform,
  type Platform,
  startPlatform,
  stopPlatform,
} from "./platform.ts";

const home = resolve(process.env.DEV_DIR ?? ".dev");
const startedAtMs = Number(process.env.WRENN_STARTED_AT_MS ?? Date.now());
const WATCHED = ["cp", "agent"] as const;

try {
  process.exitCode = await main(process.argv[2]);
} catch (error) {
  console.error(`Cannot continue: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}

async function main(command: string | undefined): Promise<number> {
  if (process.getuid?.() !== 0) throw new Error("root is needed (microVM networking, cgroups)");
  switch (command) {
    case "dev":
      return foreground();
    case "up":
      await up();
      return 0;
    case "down":
      await stopPlatform(home, "pause");
      return 0;
    case "cp":
    case "agent":
      await hotReload(home, command);
      return 0;
    case "reset":
      await stopPlatform(home);
      await deletePlatform(home);
      return 0;
    default:
      throw new Error("usage: bun scripts/dev/main.ts dev|up|down|reset|cp|agent");
  }
}

/** Starts the platform and runs the first capsule; whatever fails, nothing is left running. */
async function up(interrupted: () => boolean = () => false): Promise<Platform> {
  await mkdir(home, { recursive: true });
  const progress = (line: string) => {
    if (interrupted()) throw new Error("interrupted");
    console.log(`==> ${line}`);
  };
  try {
    const platform = await startPlatform({
      home,
      databaseUrl: process.env.DATABASE_URL,
      redisUrl: process.env.REDIS_URL,
      durable: true,
      progress,
    });
    progress("running a first capsule");
    const first = await runFirstCapsule(platform);
    const seconds = ((Date.now() - startedAtMs) / 1000).toFixed(1);
    console.log(`\n    $ ${first.command}`);
    console.log(`    ${first.output.replaceAll("\n", "\n    ")}`);
    console.log(`    (inside a microVM, ${seconds} s after the start)\n`);
    printAccess(platform);
    return platform;
  } catch (error) {
    if (!(error instanceof AlreadyRunning)) await stopPlatform(home);
    throw error;
  }
}

function printAccess(platform: Platform): void {
  console.log(`    API      ${platform.baseUrl}  (docs: ${platform.baseUrl}/docs)`);
  console.log(`    API key  ${platform.account.apiKey}`);
  console.log(`    Login    ${platform.account.email}  ${platform.account.password}`);
  console.log(`    Shell    source ${join(home, "env")}\n`);
}

/** Up, then waits for Ctrl-C or for a part that ends by itself; either way everything is stopped. */
async function foreground(): Promise<number> {
  const interrupt = Promise.withResolvers<"interrupted">();
  let isInterrupted = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      isInterrupted = true;
      interrupt.resolve("interrupted");
    });
  }
  const platform = await up(() => isInterrupted);
  console.log("    Ctrl-C stops it.");
  const end = await Promise.race([interrupt.promise, firstEnd(platform)]);
  console.log(end === "interrupted" ? "\n==> stopping" : `\n${end}\n==> stopping the rest`);
  await stopPlatform(home, "pause");
  return end === "interrupted" ? 0 : 1;
}

async function firstEnd(platform: Platform): Promise<string> {
  for (;;) {
    for (const name of WATCHED) {
      if (!(await platform.processes.running(name))) return platform.processes.explainExit(name);
    }
    await Bun.sleep(1_000);
  }
}
