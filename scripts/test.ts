// Runs the test suites in order and closes with one line that counts all of them.
//
//   bun scripts/test.ts unit    what needs neither root nor services nor microVMs
//   bun scripts/test.ts all     everything, with counts and sizes that fit the time
//   bun scripts/test.ts soak    everything, with the full counts and sizes (WRENN_SOAK=1)
//
// Files or folders behind that (`all` may be left out) are the only ones tested, each with what its kind needs:
//
//   bun scripts/test.ts cp/capsules tests/e2e/warm.e2e.test.ts

import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { agentTag, kernelObjects } from "../tests/harness/leaks.ts";
import { closeDevDir, openDevDir } from "./dev/dev-dir.ts";
import { deletePlatform, startPlatform, stopPlatform } from "./dev/platform.ts";
import { freePort } from "./dev/ports.ts";
import { Processes } from "./dev/processes.ts";
import { startPostgres, startRedis } from "./dev/services.ts";

const ROOT = resolve(import.meta.dirname, "..");
const E2E_HOME = join(ROOT, "build/e2e");

const isMode = /^(unit|all|soak)$/.test(process.argv[2] ?? "");
const MODE = isMode ? process.argv[2] : "all";

/** Of one test that sets none of its own; guests are emulated, on a machine that does much else. */
const TEST_TIMEOUT_MS = 30_000;

/**
 * Second attempts of a test on emulated guests, whose speed is at the mercy of whatever else the machine does. The
 * first attempt's failure is printed; `make soak` makes none.
 */
const GUEST_TEST_RETRIES = MODE === "soak" ? 0 : 1;

/** Files of microVM tests at once: a guest's processor is a thread, and half of a test is waiting. */
const VM_TEST_LANES = MODE === "soak" ? 1 : 2;

interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

type Kind = "unit" | "db" | "host" | "vm" | "e2e";

const total = { passed: 0, failed: 0, skipped: 0 };
if (MODE === "soak") process.env.WRENN_SOAK = "1";
const chosen = process.argv.slice(isMode ? 3 : 2).map((path) => relative(ROOT, resolve(path)));
const files = await testFiles(chosen);

if (chosen.length === 0) {
  await suite("types", () => command(["tsc", "-p", "."]));
  await suite("lint", () => command(["biome", "ci", "--error-on-warnings", "."]));
  await suite("native code under sanitizers", () => nativeTests("native-test"));
}
// Half of these wait, or have one processor to themselves: side by side they take what the longer one does.
await Promise.all([
  some("unit", () => suite("unit", () => bunTest(files.unit))),
  MODE !== "unit" && chosen.length === 0
    ? suite("native code that needs root", () => nativeTests("native-test-root"))
    : undefined,
]);
if (MODE !== "unit") {
  await Promise.all([
    some("db", () => withServices((env) => suite("database", () => bunTest(files.db, env)))),
    some("host", () => suite("host", () => bunTest(files.host))),
  ]);
  await some("vm", () =>
    withReflinks((env) =>
      suite("microVM", () =>
        // The one that takes longest is the last by name, and must not be alone at the end.
        inLanes(files.vm.toReversed(), (file) => bunTest([file], env, GUEST_TEST_RETRIES))),
    ),
  );
  await some("e2e", () =>
    withPlatform((env) => suite("end to end", () => bunTest(files.e2e, env, GUEST_TEST_RETRIES))),
  );
}

const { passed, failed, skipped } = total;
console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);

async function suite(name: string, body: () => Promise<Counts>): Promise<void> {
  console.log(`\n==> ${name}`);
  const startedAt = Date.now();
  const counts = await body().catch((error): Counts => {
    console.error(error);
    return { passed: 0, failed: 1, skipped: 0 };
  });
  total.passed += counts.passed;
  total.failed += counts.failed;
  total.skipped += counts.skipped;
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1);
  console.log(
    `    ${name}: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped (${seconds} s)`,
  );
}

/** Runs what a kind needs: always when everything is tested, else when files of it were chosen. */
async function some(kind: Kind, body: () => Promise<void>): Promise<void> {
  if (chosen.length === 0 || files[kind].length > 0) await body();
}

/**
 * Test files by what they need, which is the word before `.test.ts`; none means nothing.
 *
 * @param chosen - Files or folders from the root; none chooses all.
 * @throws Error if one of them is no test file and has none below it.
 */
async function testFiles(chosen: readonly string[]): Promise<Record<Kind, string[]>> {
  const glob = new Bun.Glob("{cp,agent,envd,proto,rootfs,scripts,tests,sdk}/**/*.test.ts");
  const all = (await Array.fromAsync(glob.scan({ cwd: ROOT }))).sort();
  const isBelow = (file: string, path: string) => file === path || file.startsWith(`${path}/`);
  const empty = chosen.find((path) => !all.some((file) => isBelow(file, path)));
  if (empty !== undefined) throw new Error(`no test files: ${empty}`);
  const wanted = all.filter((file) => chosen.length === 0 || chosen.some((p) => isBelow(file, p)));
  const kindOf = (file: string) => /\.(db|host|vm|e2e)\.test\.ts$/.exec(file)?.[1] ?? "unit";
  const ofKind = (kind: Kind) => wanted.filter((file) => kindOf(file) === kind);
  return {
    unit: ofKind("unit"),
    db: ofKind("db"),
    host: ofKind("host"),
    vm: ofKind("vm"),
    e2e: ofKind("e2e"),
  };
}

/** One `bun test` over the files; its counts are read from the JUnit report. */
async function bunTest(
  files: string[],
  env: Record<string, string> = {},
  retries = 0,
): Promise<Counts> {
  if (files.length === 0) throw new Error("no test files");
  const report = join(ROOT, `build/junit-${crypto.randomUUID()}.xml`);
  await mkdir(join(ROOT, "build"), { recursive: true });
  const child = Bun.spawn(
    [
      ...[
        process.execPath,
        "test",
        "--only-failures",
        `--timeout=${TEST_TIMEOUT_MS}`,
        `--retry=${retries}`,
      ],
      ...["--reporter=junit", `--reporter-outfile=${report}`, ...files.map((f) => `./${f}`)],
    ],
    { cwd: ROOT, env: { ...process.env, ...env }, stdio: ["ignore", "inherit", "inherit"] },
  );
  const status = await child.exited;
  const xml = await Bun.file(report).text();
  await rm(report);
  const attributes = /<testsuites[^>]*>/.exec(xml)?.[0] ?? "";
  const count = (name: string) =>
    Number(new RegExp(` ${name}="(\\d+)"`).exec(attributes)?.[1] ?? 0);
  const failed = count("failures");
  const skipped = count("skipped");
  const passed = count("tests") - failed - skipped;
  // A file that can't be loaded fails the run but is no test of the report.
  return { passed, failed: status !== 0 && failed === 0 ? 1 : failed, skipped };
}

/** Tests each file by itself, VM_TEST_LANES of them side by side. */
async function inLanes(
  files: readonly string[],
  test: (file: string) => Promise<Counts>,
): Promise<Counts> {
  const waiting = [...files];
  const all: Counts[] = [];
  const lane = async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
      const startedAt = Date.now();
      all.push(await test(file));
      console.log(`    ${file}: ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
    }
  };
  await Promise.all(Array.from({ length: VM_TEST_LANES }, lane));
  const sum = (count: keyof Counts) => all.reduce((total, counts) => total + counts[count], 0);
  return { passed: sum("passed"), failed: sum("failed"), skipped: sum("skipped") };
}

/** C tests print a line `ok <sentence>` each; the make target fails when one of them does. */
async function nativeTests(target: string): Promise<Counts> {
  const child = Bun.spawn(["make", "--no-print-directory", target], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const output = await new Response(child.stdout).text();
  const passed = output.split("\n").filter((line) => line.startsWith("ok ")).length;
  const failed = (await child.exited) === 0 ? 0 : 1;
  if (failed > 0) console.log(output);
  return { passed, failed, skipped: 0 };
}

/** A check that is one program: it counts as one test. */
async function command(words: string[]): Promise<Counts> {
  const child = Bun.spawn(words, { cwd: ROOT, stdio: ["ignore", "inherit", "inherit"] });
  const ok = (await child.exited) === 0;
  return { passed: ok ? 1 : 0, failed: ok ? 0 : 1, skipped: 0 };
}

/** PostgreSQL and Redis of this run, in a directory that every user can enter; gone at the end. */
async function withServices(body: (env: Record<string, string>) => Promise<void>): Promise<void> {
  const dir = await mkdtemp("/var/tmp/wrenn-test-");
  await Bun.$`chmod 0755 ${dir}`;
  const processes = new Processes(dir);
  const service = { dir, password: "test", processes, durable: false };
  try {
    const [DATABASE_URL, REDIS_URL] = await Promise.all([
      startPostgres({ ...service, port: await freePort() }),
      startRedis({ ...service, port: await freePort() }),
    ]);
    await body({ DATABASE_URL, REDIS_URL });
  } finally {
    await processes.stop("postgres", { signal: "SIGINT", graceMs: 10_000 });
    await processes.stop("redis", { signal: "SIGTERM", graceMs: 10_000 });
    await rm(dir, { recursive: true, force: true });
  }
}

/** Temporary files on a file system with reflinks: each pause clones a root disk, which else is copied. */
async function withReflinks(body: (env: Record<string, string>) => Promise<void>): Promise<void> {
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
async function withPlatform(body: (env: Record<string, string>) => Promise<void>): Promise<void> {
  // Guests that the agent boots by itself, ahead of need, would be counted as left behind.
  process.env.WRENN_WARM = "off";
  await stopPlatform(E2E_HOME);
  await deletePlatform(E2E_HOME);
  const options = { home: E2E_HOME, databaseUrl: undefined, redisUrl: undefined, durable: true };
  let agent = { dir: "", tag: "" };
  try {
    await suite("platform starts", async () => {
      const progress = (line: string) => console.log(`    ${line}`);
      const { dir } = await startPlatform({ ...options, progress });
      agent = { dir: dir.agentDir, tag: await agentTag(dir.agentDir) };
      return { passed: 1, failed: 0, skipped: 0 };
    });
    await body({ DEV_DIR: E2E_HOME });
  } finally {
    await suite("platform stops and leaves nothing", async () => {
      await stopPlatform(E2E_HOME);
      const left = Object.values(await kernelObjects(agent.dir, agent.tag)).flat();
      const programs = await processesBelow(dirname(agent.dir));
      console.log([...left, ...programs].map((name) => `    left behind: ${name}`).join("\n"));
      const isClean = agent.tag !== "" && left.length + programs.length === 0;
      return { passed: isClean ? 1 : 0, failed: isClean ? 0 : 1, skipped: 0 };
    });
    await deletePlatform(E2E_HOME);
  }
}

/** Command lines of processes that name the platform's directory. */
async function processesBelow(dir: string): Promise<string[]> {
  const listed = Bun.spawnSync(["ps", "-eo", "args"]).stdout.toString().split("\n");
  return listed.filter((line) => line.includes(dir));
}
