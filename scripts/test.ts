// Runs the test suites in order and closes with one line that counts all of them.
//
//   bun scripts/test.ts unit    what needs neither root nor services nor microVMs
//   bun scripts/test.ts all     everything, with counts and sizes that fit the time
//   bun scripts/test.ts soak    everything, with the full counts and sizes (WRENN_SOAK=1), and device-mapper's
//                               on a nested host (tests/host-rig)
//
// Files or folders behind that (`all` may be left out) are the only ones tested, each with what its kind needs:
//
//   bun scripts/test.ts cp/capsules tests/e2e/warm.e2e.test.ts

import { relative, resolve } from "node:path";
import { bunTest, type Counts, failure, NOTHING, sum } from "./test/bun-test.ts";
import { withPlatform, withReflinks, withServices } from "./test/surroundings.ts";
import { secondsSince, Totals } from "./test/totals.ts";

const ROOT = resolve(import.meta.dirname, "..");

const isMode = /^(unit|all|soak)$/.test(process.argv[2] ?? "");
const MODE = isMode ? process.argv[2] : "all";

/** Emulated guests are at the mercy of whatever else the machine does; `make soak` shows what that hides. */
const GUEST_TESTS = { attempts: MODE === "soak" ? 1 : 2 };

/** Files of tests with guests at once: a guest's processor is a thread, and half of a test is waiting. */
const GUEST_TEST_LANES = MODE === "soak" ? 1 : 2;

type Kind = "unit" | "db" | "host" | "vm" | "e2e" | "dm";

if (MODE === "soak") process.env.WRENN_SOAK = "1";
const totals = new Totals();
const chosen = process.argv.slice(isMode ? 3 : 2).map((path) => relative(ROOT, resolve(path)));
const files = await testFiles(chosen);

if (chosen.length === 0) {
  await totals.suite("types", () => command(["tsc", "-p", "."]));
  await totals.suite("lint", () => command(["biome", "ci", "--error-on-warnings", "."]));
  await totals.suite("native code under sanitizers", () => nativeTests("native-test"));
}
// Half of these wait, or have one processor to themselves: side by side they take what the longer one does.
await Promise.all([
  some("unit", () => totals.suite("unit", () => bunTest(files.unit))),
  MODE !== "unit" && chosen.length === 0
    ? totals.suite("native code that needs root", () => nativeTests("native-test-root"))
    : undefined,
]);
if (MODE !== "unit") {
  await Promise.all([
    some("db", () =>
      withServices((env) => totals.suite("database", () => bunTest(files.db, { env }))),
    ),
    some("host", () => totals.suite("host", () => bunTest(files.host))),
  ]);
  await some("vm", () =>
    withReflinks((env) => {
      // The one that takes longest is the last by name, and must not be alone at the end.
      const queue = files.vm.toReversed();
      const lane = () => oneByOne(queue, (file) => bunTest([file], { ...GUEST_TESTS, env }));
      return totals.suite("microVM", async () => sum(await inLanes(queue.length, lane)));
    }),
  );
  // One after the other: some kill parts of the platform, or count what is left on it, and two platforms that
  // start at the same moment may choose the same port.
  await some("e2e", () =>
    withPlatform(totals, "1", (env) => {
      const test = (file: string) => bunTest([file], { ...GUEST_TESTS, env });
      return totals.suite("end to end", () => oneByOne([...files.e2e], test));
    }),
  );
}
if (MODE === "soak") {
  await some("dm", () => totals.suite("device-mapper, on a nested host", () => nested(files.dm)));
}

process.exit(totals.close() ? 0 : 1);

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
  const kindOf = (file: string) => /\.(db|host|vm|e2e|dm|kvm)\.test\.ts$/.exec(file)?.[1] ?? "unit";
  const ofKind = (kind: Kind) => wanted.filter((file) => kindOf(file) === kind);
  return {
    unit: ofKind("unit"),
    db: ofKind("db"),
    host: ofKind("host"),
    vm: ofKind("vm"),
    e2e: ofKind("e2e"),
    dm: ofKind("dm"),
  };
}

/** As many at once as there are lanes, or files. */
async function inLanes<T>(files: number, lane: (number: number) => Promise<T>): Promise<T[]> {
  const lanes = Math.min(GUEST_TEST_LANES, files);
  return await Promise.all(Array.from({ length: lanes }, (_, index) => lane(index + 1)));
}

/** Tests each file that is still in the queue when its turn comes. */
async function oneByOne(queue: string[], test: (file: string) => Promise<Counts>): Promise<Counts> {
  const all: Counts[] = [];
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const startedAtMs = performance.now();
    all.push(await test(file));
    console.log(`    ${file}: ${secondsSince(startedAtMs)} s`);
  }
  return sum(all);
}

/** C tests print a line `ok <sentence>` each; the make target fails when one of them does. */
async function nativeTests(target: string): Promise<Counts> {
  const child = Bun.spawn(["make", "--no-print-directory", target], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const output = await new Response(child.stdout).text();
  const passed = output.split("\n").filter((line) => line.startsWith("ok ")).length;
  if ((await child.exited) === 0) return { ...NOTHING, passed };
  console.log(output);
  const lines = output.split("\n").filter((line) => line !== "" && !line.startsWith("ok "));
  return { ...failure(`make ${target}: ${lines.slice(-3).join(" ")}`), passed };
}

/** Each file counts as one test, and so does a rig that could not do its part. */
async function nested(files: readonly string[]): Promise<Counts> {
  const child = Bun.spawn([process.execPath, "tests/host-rig/main.ts", "short", ...files], {
    cwd: ROOT,
    stdio: ["ignore", "inherit", "inherit"],
  });
  const isPassed = (await child.exited) === 0;
  if (!isPassed) return failure("tests/host-rig/main.ts: see build/host-rig/results");
  return { ...NOTHING, passed: files.length };
}

/** A check that is one program: it counts as one test. */
async function command(words: string[]): Promise<Counts> {
  const child = Bun.spawn(words, { cwd: ROOT, stdio: ["ignore", "inherit", "inherit"] });
  return (await child.exited) === 0 ? { ...NOTHING, passed: 1 } : failure(words.join(" "));
}
