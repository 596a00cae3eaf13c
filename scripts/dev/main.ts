// The development platform's commands: `dev` (foreground), `up`, `down`, `reset`, and `cp` and `agent`
// (reloading on changes). See `make help`. `supervisor` and `guard` are what `up` leaves behind.

import { join, resolve } from "node:path";
import { type BroughtUp, bringUp } from "./bring-up.ts";
import { findDevDir, locateDevDir } from "./dev-dir.ts";
import { hotReload } from "./hot-reload.ts";
import { NewLines } from "./new-lines.ts";
import { lockPlatform } from "./operation-lock.ts";
import { Processes } from "./processes.ts";
import { messageOf } from "./run.ts";
import { AGENT_CHOICES, type Platform } from "./settings.ts";
import { deletePlatform, type Fate, stopPlatform, stopSupervisors } from "./stop-platform.ts";
import { supervise } from "./supervise.ts";

const home = resolve(process.env.DEV_DIR || ".dev");
const startedAtMs = Number(process.env.WRENN_STARTED_AT_MS) || Date.now();
const FOLLOW_EVERY_MS = 500;

try {
  process.exitCode = await main(process.argv[2]);
} catch (error) {
  console.error(`Cannot continue: ${messageOf(error)}`);
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
      await down("pause");
      return 0;
    case "reset":
      await down("destroy");
      await deletePlatform(home);
      return 0;
    case "cp":
    case "agent":
      await hotReload(home, command);
      return 0;
    case "supervisor":
    case "guard":
      await supervise(home, command);
      return 0;
    default:
      throw new Error("usage: bun scripts/dev/main.ts dev|up|down|reset|cp|agent");
  }
}

/** Whatever fails, Ctrl-C included, nothing is left running that did not run before. */
async function up(interruption = interruptions()): Promise<Platform> {
  const progress = (line: string) => {
    if (interruption.happened) throw new Error("interrupted");
    console.log(`==> ${line}`);
  };
  const agent = Object.fromEntries(
    AGENT_CHOICES.map((name) => [name, process.env[name] ?? ""]).filter(
      ([, value]) => value !== "",
    ),
  );
  const { DATABASE_URL, REDIS_URL } = process.env;
  const choices = { databaseUrl: DATABASE_URL || null, redisUrl: REDIS_URL || null, agent };
  const brought = await bringUp({ home, choices: { ...choices, durable: true }, progress });
  print(brought);
  return brought.platform;
}

function print({ platform, first, warmth }: BroughtUp): void {
  if (first === null) {
    console.log("\n    It runs already (make dev-down stops it).\n");
  } else {
    const seconds = ((Date.now() - startedAtMs) / 1000).toFixed(1);
    console.log(`\n    $ ${first.command}`);
    console.log(`    ${first.output.replaceAll("\n", "\n    ")}`);
    console.log(`    (inside a microVM, ${seconds} s after the start)\n`);
    if (warmth === "warming") {
      console.log("    Creates boot their guest until one that has booted is kept for them.\n");
    }
  }
  console.log(`    API      ${platform.baseUrl}  (docs: ${platform.baseUrl}/docs)`);
  console.log(`    API key  ${platform.account.apiKey}`);
  console.log(`    Login    ${platform.account.email}  ${platform.account.password}`);
  console.log(`    Shell    source ${join(home, "env")}\n`);
}

/** Up, then waits for Ctrl-C and stops everything, or until somebody else has. */
async function foreground(): Promise<number> {
  const interruption = interruptions();
  const platform = await up(interruption);
  const events = await NewLines.after(platform.processes.logPath("supervisor"));
  console.log("    Ctrl-C stops it.");
  while (!interruption.happened) {
    for (const line of await events.read()) console.log(`==> ${line}`);
    if ((await findDevDir(home)) === null) {
      console.log("==> it was stopped");
      return 0;
    }
    await Promise.race([interruption.promise, Bun.sleep(FOLLOW_EVERY_MS)]);
  }
  console.log("\n==> stopping");
  await down("pause");
  return 0;
}

async function down(fate: Fate): Promise<void> {
  const { path } = await locateDevDir(home);
  // One of them may be starting something, which is of no use now.
  await stopSupervisors(new Processes(path));
  using _lock = await lockPlatform(path, {
    name: fate === "pause" ? "make dev-down" : "make dev-reset",
    waiting: (holder) => console.log(`==> waiting for ${holder}`),
  });
  for (const note of await stopPlatform(home, fate)) console.log(`    ${note}`);
}

interface Interruption {
  readonly promise: Promise<void>;
  readonly happened: boolean;
}

/** Notes them from now on instead of ending at once. */
function interruptions(): Interruption {
  const { promise, resolve } = Promise.withResolvers<void>();
  let happened = false;
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      happened = true;
      resolve();
    });
  }
  return {
    promise,
    get happened() {
      return happened;
    },
  };
}
