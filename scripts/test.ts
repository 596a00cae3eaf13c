// Runs the test suites, beside each other what can be, and closes with one line that counts all of them.
//
//   bun scripts/test.ts unit    what needs neither root nor services nor microVMs
//   bun scripts/test.ts all     everything, with counts and sizes that fit the time
//   bun scripts/test.ts soak    everything, with the full counts and sizes (WRENN_SOAK=1), and the short run of
//                               a nested host with KVM and device-mapper (tests/host-rig): it takes ten minutes
//                               of a whole processor, and that host's disk is made first
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

/** Of files without guests: half of a test is waiting, for a time limit or another program. */
const WORKERS = MODE === "soak" ? 1 : 2;

/** The status of tests/host-rig/main.ts that says nothing about what was to be tested. */
const RIG_FAILED = 2;

/** Nothing keeps it from starting. */
const READY = Promise.resolve();

/** Of the microVM tests those that take more than a minute, the longest first. */
const SLOWEST = [
  "agent/capsules/lost-process.vm.test.ts",
  "tests/envd/in-capsule.vm.test.ts",
  "agent/capsules/damage.vm.test.ts",
  "agent/capsules/journal-writes.vm.test.ts",
  "agent/capsules/room-runs-out.vm.test.ts",
  "agent/snapshots/snapshots.vm.test.ts",
  "agent/templates/warm.vm.test.ts",
  "agent/capsules/adoption.vm.test.ts",
  "agent/capsules/pause-crash.vm.test.ts",
  "agent/capsules/interleavings.vm.test.ts",
  "agent/capsules/no-room.vm.test.ts",
  "scripts/dev/platform.vm.test.ts",
  "agent/capsules/crash.vm.test.ts",
  "agent/capsules/copy-crash.vm.test.ts",
  "agent/capsules/copies.vm.test.ts",
];

type Kind = "unit" | "db" | "host" | "vm" | "e2e" | "real";

const KINDS = /\.(db|host|vm|e2e|dm|kvm)\.test\.ts$/;

if (MODE === "soak") process.env.WRENN_SOAK = "1";
const totals = new Totals();
const chosen = process.argv.slice(isMode ? 3 : 2).map((path) => relative(ROOT, resolve(path)));
const files = await testFiles(chosen).catch((error: Error) => {
  console.error(`Cannot test: ${error.message}`);
  process.exit(1);
});

// What boots no guest goes in two rows, which take about the same time.
await Promise.all([
  (async () => {
    if (chosen.length === 0) await checks();
    await some("host", () => totals.suite("host", () => bunTest(files.host)));
  })(),
  (async () => {
    const options = { workers: WORKERS };
    await some("unit", () => totals.suite("unit", () => bunTest(files.unit, options)));
    await some("db", () =>
      withServices((env) => totals.suite("database", () => bunTest(files.db, { ...options, env }))),
    );
  })(),
]);
// Guests wait for half of a test, too: three lanes keep two processors busy. One of them is that of the
// end-to-end tests, which share one platform, and takes microVM tests when it is through with these.
if (MODE === "soak") {
  await microVmTests([READY]);
  await endToEndTests();
} else {
  const endToEnd = endToEndTests();
  await Promise.all([endToEnd, microVmTests([READY, READY, endToEnd])]);
}
if (MODE === "soak") {
  await some("real", () =>
    totals.suite("nested host", () => nested(chosen.length > 0 ? files.real : [])),
  );
}

process.exit(totals.close() ? 0 : 1);

/** Lanes take one file after the other once that holds which they wait for. */
async function microVmTests(lanes: readonly Promise<void>[]): Promise<void> {
  await some("vm", () =>
    withReflinks((env) => {
      const queue = slowestFirst(files.vm);
      const lane = async (isFree: Promise<void>) => {
        await isFree;
        return await oneByOne(queue, env);
      };
      return totals.suite("microVM", async () => sum(await Promise.all(lanes.map(lane))));
    }),
  );
}

/** One after the other: some kill parts of the platform, or count what is left on it. */
async function endToEndTests(): Promise<void> {
  await some("e2e", () =>
    withPlatform(totals, "1", (env) =>
      totals.suite("end to end", () => oneByOne([...files.e2e], env)),
    ),
  );
}

/** What is no test file. */
async function checks(): Promise<void> {
  await totals.suite("types", () => command(["tsc", "-p", "."]));
  await totals.suite("lint", () => command(["biome", "ci", "--error-on-warnings", "."]));
  await totals.suite("native code under sanitizers", () => nativeTests("native-test"));
  if (MODE === "unit") return;
  await totals.suite("native code that needs root", () => nativeTests("native-test-root"));
}

/** Runs what a kind needs: when everything of the mode is tested, or files of it were chosen. */
async function some(kind: Kind, body: () => Promise<void>): Promise<void> {
  if (MODE === "unit" && kind !== "unit") return;
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
  if (empty !== undefined) throw new Error(`there is no test file at or below ${empty}`);
  const wanted = all.filter((file) => chosen.length === 0 || chosen.some((p) => isBelow(file, p)));
  const kindOf = (file: string) => KINDS.exec(file)?.[1]?.replace(/^(dm|kvm)$/, "real") ?? "unit";
  const ofKind = (kind: Kind) => wanted.filter((file) => kindOf(file) === kind);
  return {
    unit: ofKind("unit"),
    db: ofKind("db"),
    host: ofKind("host"),
    vm: ofKind("vm"),
    e2e: ofKind("e2e"),
    real: ofKind("real"),
  };
}

/** The files in the order in which lanes take them: none of the long ones is to be alone at the end. */
function slowestFirst(files: readonly string[]): string[] {
  const known = SLOWEST.filter((file) => files.includes(file));
  return [...known, ...files.filter((file) => !known.includes(file))];
}

/** Tests each file that is still in the queue when its turn comes. */
async function oneByOne(queue: string[], env: Readonly<Record<string, string>>): Promise<Counts> {
  const all: Counts[] = [];
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const startedAtMs = performance.now();
    all.push(await bunTest([file], { ...GUEST_TESTS, env }));
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

/** Each file counts as one test, and so does a rig that could not do its part. None: what its short run has. */
async function nested(files: readonly string[]): Promise<Counts> {
  const child = Bun.spawn([process.execPath, "tests/host-rig/main.ts", "short", ...files], {
    cwd: ROOT,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const output = await new Response(child.stdout).text();
  console.log(output.trimEnd());
  const passed = Number(/^(\d+) passed, /m.exec(output)?.[1] ?? 0);
  const status = await child.exited;
  if (status === 0) return { ...NOTHING, passed };
  const what = status === RIG_FAILED ? "the rig could not do its part" : "tests failed in the rig";
  return { ...failure(`tests/host-rig/main.ts: ${what}; see build/host-rig/results`), passed };
}

/** A check that is one program: it counts as one test. */
async function command(words: string[]): Promise<Counts> {
  const child = Bun.spawn(words, { cwd: ROOT, stdio: ["ignore", "inherit", "inherit"] });
  return (await child.exited) === 0 ? { ...NOTHING, passed: 1 } : failure(words.join(" "));
}
