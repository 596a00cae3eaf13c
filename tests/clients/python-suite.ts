// The test suites that published versions of the Python client bring with them, run against a platform. They
// come from PyPI when they are first needed and stay in build/clients; nothing of them is in the repository.

import { mkdir, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";

/** What is fetched for these tests, or made of that. */
export const DIR = resolve(import.meta.dirname, "../../build/clients");

/** Debian's. The client asks for 3.13 and its suites give the same results with 3.11. */
export const PYTHON = "/usr/bin/python3";
const TOOLS = ["pytest==9.2.0", "pytest-asyncio==1.5.0", "pytest-timeout==2.4.0", "respx==0.23.1"];

const TEST_TIMEOUT_SEC = 240;

export interface PythonClient {
  readonly version: string;
  /** Of its source distribution, which holds the tests. */
  readonly sha256: string;
}

export interface SuiteRun {
  /** Files of tests, or tests as pytest names them. */
  readonly tests: readonly string[];
  /** Where the platform is, and whose key to use. */
  readonly env: Readonly<Record<string, string>>;
}

export interface SuiteResult {
  /** Names such as `test_integration.py::TestPty::test_pty_resize`, sorted. */
  readonly passed: readonly string[];
  readonly failed: readonly string[];
  readonly skipped: readonly string[];
  /** What pytest printed. */
  readonly output: string;
}

/** Runs tests of a client's suite. Throws if the client cannot be had or pytest cannot run them. */
export async function runSuite(client: PythonClient, run: SuiteRun): Promise<SuiteResult> {
  const { python, testsDir } = await install(client);
  const report = join(DIR, `report-${crypto.randomUUID()}.xml`);
  const options = [`--timeout=${TEST_TIMEOUT_SEC}`, "--tb=short", "-q", "-p", "no:cacheprovider"];
  const child = Bun.spawn(
    [python, "-m", "pytest", ...options, `--junit-xml=${report}`, "--rootdir=.", ...run.tests],
    {
      cwd: testsDir,
      env: {
        PATH: "/usr/bin:/bin",
        LANG: "C.UTF-8",
        HOME: dirname(testsDir),
        ...run.env,
      },
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  const [output, errors] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
  ]);
  const status = await child.exited;
  // 1: tests failed, which the caller judges.
  if (status > 1) throw new Error(`pytest ended with ${status}:\n${output}${errors}`);
  const xml = await Bun.file(report).text();
  await rm(report);
  return { ...readReport(xml), output };
}

/** What pytest's JUnit report says of each test. */
function readReport(xml: string): Omit<SuiteResult, "output"> {
  const outcomes = new Map<string, "passed" | "failed" | "skipped">();
  const cases = /<testcase classname="([^"]*)" name="([^"]*)"[^>]*?(\/>|>([\s\S]*?)<\/testcase>)/g;
  for (const [, where = "", test = "", , body = ""] of xml.matchAll(cases)) {
    const [file = "", ...groups] = where.split(".").filter((part) => part !== "tests");
    const name = [`${file}.py`, ...groups, test].join("::");
    const isFailed = /^\s*<(failure|error)\b/m.test(body) || outcomes.get(name) === "failed";
    outcomes.set(name, isFailed ? "failed" : /<skipped\b/.test(body) ? "skipped" : "passed");
  }
  const named = (outcome: string) =>
    [...outcomes].flatMap(([name, its]) => (its === outcome ? [name] : [])).sort();
  return { passed: named("passed"), failed: named("failed"), skipped: named("skipped") };
}

/** The client in a virtual environment of its own, and its tests beside it. */
async function install({ version, sha256 }: PythonClient) {
  const name = `wrenn-${version}`;
  const key = new Bun.CryptoHasher("sha256").update([sha256, ...TOOLS].join("\n")).digest("hex");
  const home = join(DIR, `${name}-${key.slice(0, 8)}`);
  const found = { python: join(home, "venv/bin/python"), testsDir: join(home, name, "tests") };
  const isReady = Bun.file(join(home, "ready"));
  if (await isReady.exists()) return found;

  await rm(home, { recursive: true, force: true });
  await mkdir(home, { recursive: true });
  await call([PYTHON, "-m", "venv", join(home, "venv")], home);
  const pip = [found.python, "-m", "pip", "--quiet", "--disable-pip-version-check"];
  const client = ["--ignore-requires-python", `wrenn==${version}`];
  await call([...pip, "install", ...client, ...TOOLS], home);
  await call([...pip, "download", "--no-deps", "--no-binary=wrenn", ...client], home);
  const archive = join(home, `${name}.tar.gz`);
  const hash = new Bun.CryptoHasher("sha256").update(await Bun.file(archive).bytes());
  if (hash.digest("hex") !== sha256) throw new Error(`${archive} is not the one that is meant`);
  await call(["tar", "-xzf", archive], home);
  await isReady.write("");
  return found;
}

/** Runs a program to its end. Throws if it fails; what it prints is the test's. */
export async function call(command: string[], cwd: string): Promise<void> {
  const child = Bun.spawn(command, { cwd, stdio: ["ignore", "inherit", "inherit"] });
  const status = await child.exited;
  if (status !== 0) throw new Error(`${command.join(" ")} ended with ${status}`);
}
