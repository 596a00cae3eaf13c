// Runs test files with `bun test`, and those that failed once more: what then passes is not broken but flaky,
// and says so by name in the last lines. Only tests that tests/may-be-flaky.json names may be.

import { mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type FileReport, type Outcome, readJunit } from "./junit.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const LIST = "tests/may-be-flaky.json";

/** Of one test that sets none of its own; guests are emulated, on a machine that does much else. */
const TEST_TIMEOUT_MS = 30_000;

/** A file among others that takes as long is named with its time. */
const SLOW_SEC = 10;

export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Tests whose attempts differ: `<file> > <name>`, with the reason of the list or the lack of one. */
  readonly flaky: readonly string[];
  /** What failed: `<file> > <name>`, of `bunTest` with the message in one line. */
  readonly failing: readonly string[];
}

export const NOTHING: Counts = { passed: 0, failed: 0, skipped: 0, flaky: [], failing: [] };

/** Of one message in the last lines; the whole of it stands where the test ran. */
const MESSAGE_CHARS = 300;

export function sum(all: readonly Counts[]): Counts {
  return all.reduce(
    (total, counts) => ({
      passed: total.passed + counts.passed,
      failed: total.failed + counts.failed,
      skipped: total.skipped + counts.skipped,
      flaky: [...total.flaky, ...counts.flaky],
      failing: [...total.failing, ...counts.failing],
    }),
    NOTHING,
  );
}

export interface BunTestOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** 1 or 2. A second attempt is one of the whole file in a process of its own: tests build on one another. */
  readonly attempts?: number;
  /** Processes that share the files, each taking the next one; 1 unless said. */
  readonly workers?: number;
  /** Whether what the tests print is dropped. */
  readonly isQuiet?: boolean;
}

/** One `bun test` over the files; one more over each that failed, if it may have a second attempt. */
export async function bunTest(
  files: readonly string[],
  options: BunTestOptions = {},
): Promise<Counts> {
  if (files.length === 0) throw new Error("no test files");
  const allowed = await mayBeFlaky();
  const first = await attempt(files, options);
  for (const [file, { seconds }] of files.length > 1 ? first.reports : []) {
    if (seconds >= SLOW_SEC) console.log(`    ${file}: ${seconds.toFixed(1)} s`);
  }
  const counts: Counts[] = [first.isExplained ? NOTHING : failure(`bun test ${files.join(" ")}`)];
  for (const file of files) {
    const before = first.reports.get(file) ?? BROKEN;
    let after = before;
    if ((options.attempts ?? 1) > 1 && hasFailed(before)) {
      console.log(`    ${file}: a second attempt`);
      after = (await attempt([file], options)).reports.get(file) ?? BROKEN;
    }
    const { failing, ...rest } = compare(file, before.tests, after.tests, allowed);
    const messageOf = (test: string) => {
      const name = test.slice(`${file} > `.length);
      const message = before.messages.get(name) ?? after.messages.get(name) ?? "";
      return `${test}: ${message.replace(/\s+/g, " ").trim().slice(0, MESSAGE_CHARS)}`;
    };
    counts.push({ ...rest, failing: failing.map(messageOf) });
  }
  return sum(counts);
}

/** The counts of one thing that failed and is no test. */
export function failure(what: string): Counts {
  return { ...NOTHING, failed: 1, failing: [what] };
}

/** A file that the report does not name: it could not be loaded, has no tests, or took the process with it. */
const BROKEN: FileReport = {
  tests: new Map([["(the file)", "failed"]]),
  messages: new Map(),
  seconds: 0,
};

/** A test counts by what its attempts agree on; where they differ it passes only if it may be flaky. */
export function compare(
  file: string,
  first: ReadonlyMap<string, Outcome>,
  second: ReadonlyMap<string, Outcome>,
  allowed: ReadonlyMap<string, string>,
): Counts {
  const names = [...new Set([...first.keys(), ...second.keys()])];
  return sum(
    names.map((name): Counts => {
      // A hook is reported only where it failed, and then the tests behind it are not.
      const missing = name.endsWith("(unnamed)") ? "passed" : first.get(name);
      const outcome = second.get(name) ?? missing ?? "failed";
      const isSame = (first.get(name) ?? outcome) === outcome;
      const test = `${file} > ${name}`;
      if (isSame && outcome === "failed") return failure(test);
      if (isSame) return { ...NOTHING, [outcome]: 1 };
      const reason = allowed.get(test);
      return reason === undefined
        ? { ...failure(test), flaky: [`${test} (not in ${LIST}: failed)`] }
        : { ...NOTHING, passed: 1, flaky: [`${test} (${reason})`] };
    }),
  );
}

/** Reasons by `<file> > <name>`. */
export async function mayBeFlaky(): Promise<Map<string, string>> {
  const list: Record<string, string> = await Bun.file(join(ROOT, LIST)).json();
  return new Map(Object.entries(list));
}

interface Attempt {
  readonly reports: ReadonlyMap<string, FileReport>;
  /** Whether a bad exit status is that of a test, or of a file that is not there. */
  readonly isExplained: boolean;
}

async function attempt(
  files: readonly string[],
  { env = {}, workers = 1, isQuiet = false }: BunTestOptions,
): Promise<Attempt> {
  await mkdir(join(ROOT, "build"), { recursive: true });
  const report = join(ROOT, `build/junit-${crypto.randomUUID()}.xml`);
  const options = ["--only-failures", `--timeout=${TEST_TIMEOUT_MS}`, "--retry=0"];
  // Modules are loaded once a worker, as they are once without workers.
  if (workers > 1) options.push(`--parallel=${workers}`, "--no-isolate");
  const output = isQuiet ? "ignore" : "inherit";
  const child = Bun.spawn(
    [
      ...[process.execPath, "test", ...options, "--reporter=junit", `--reporter-outfile=${report}`],
      ...files.map((file) => `./${file}`),
    ],
    { cwd: ROOT, env: { ...process.env, ...env }, stdio: ["ignore", output, output] },
  );
  const status = await child.exited;
  // A process that was killed leaves none.
  const isThere = await Bun.file(report).exists();
  const reports = readJunit(isThere ? await Bun.file(report).text() : "");
  await rm(report, { force: true });
  const isExplained =
    status === 0 || [...reports.values()].some(hasFailed) || files.some((f) => !reports.has(f));
  return { reports, isExplained };
}

function hasFailed({ tests }: FileReport): boolean {
  return [...tests.values()].includes("failed");
}
