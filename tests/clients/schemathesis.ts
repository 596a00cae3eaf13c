// Schemathesis: asks an API whatever its OpenAPI document allows and what it does not, and holds the answers against
// the document. It comes from PyPI when it is first needed and stays in build/clients.

import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { call, DIR, PYTHON } from "./python-suite.ts";

/** Every package with its exact version. */
const PACKAGES = join(import.meta.dirname, "schemathesis-packages.txt");
const SEED = 20_261;
/** What an answer must not be: what its route does not document, and a failure of ours. */
const CHECKS = [
  ...["not_a_server_error", "status_code_conformance", "content_type_conformance"],
  ...["response_headers_conformance", "response_schema_conformance"],
];

export interface Questions {
  readonly url: string;
  /** Who asks: the lines of a header each. */
  readonly headers: readonly string[];
  /** Of each operation. */
  readonly examplesMax: number;
  /** Also what the document itself leads to, such as each bound of each field: hundreds for each operation. */
  readonly isThorough: boolean;
  /** Regular expressions of paths: these alone, and not these. */
  readonly only?: string;
  readonly without?: string;
}

/** What it found to be wrong, in its own words; null: nothing. Throws if it can't be had or can't ask. */
export async function askAnything(questions: Questions): Promise<string | null> {
  const home = await install();
  const config = join(home, `${crypto.randomUUID()}.toml`);
  // 501 is what is not there, 503 a host that is full: the document says so where it is.
  const expected = '["2xx", "3xx", "4xx", "501", "503"]';
  await Bun.write(config, `[checks.not_a_server_error]\nexpected-statuses = ${expected}\n`);
  const { url, headers, examplesMax, isThorough, only, without } = questions;
  const phases = isThorough ? "examples,coverage,fuzzing" : "fuzzing";
  const child = Bun.spawn(
    [
      ...[join(home, "venv/bin/schemathesis"), `--config-file=${config}`, "run"],
      ...[`${url}/openapi.json`, `--url=${url}`, `--checks=${CHECKS.join(",")}`],
      ...[
        `--phases=${phases}`,
        `--seed=${SEED}`,
        `--max-examples=${examplesMax}`,
        "--generation-database=none",
      ],
      ...["--no-color", "--no-shrink", "--continue-on-failure"],
      ...["--max-redirects=0", "--request-timeout=20", "--warnings=off"],
      ...["--suppress-health-check=all", "--output-sanitize=false"],
      ...headers.flatMap((header) => ["--header", header]),
      ...(only === undefined ? [] : ["--include-path-regex", only]),
      ...(without === undefined ? [] : ["--exclude-path-regex", without]),
    ],
    { cwd: home, env: { PATH: "/usr/bin:/bin", HOME: home, LANG: "C.UTF-8" }, stderr: "pipe" },
  );
  const [told, errors] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  const status = await child.exited;
  await rm(config);
  // 1: it found something.
  if (status > 1) throw new Error(`Schemathesis ended with ${status}:\n${told}${errors}`);
  return status === 0 ? null : told;
}

async function install(): Promise<string> {
  const packages = await Bun.file(PACKAGES).text();
  const key = new Bun.CryptoHasher("sha256").update(packages).digest("hex").slice(0, 8);
  const home = join(DIR, `schemathesis-${key}`);
  const isReady = Bun.file(join(home, "ready"));
  if (await isReady.exists()) return home;

  await rm(home, { recursive: true, force: true });
  await mkdir(home, { recursive: true });
  await call([PYTHON, "-m", "venv", join(home, "venv")], home);
  const pip = [
    join(home, "venv/bin/python"),
    "-m",
    "pip",
    "--quiet",
    "--disable-pip-version-check",
  ];
  await call([...pip, "install", "--no-deps", "-r", PACKAGES], home);
  await isReady.write("");
  return home;
}
