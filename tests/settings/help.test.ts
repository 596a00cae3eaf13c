// What each program answers when it is asked about itself, without any setting.

import { expect, test } from "bun:test";
import { resolve } from "node:path";
import { AGENT_VERSION } from "../../agent/version.ts";
import { ENVD_VERSION } from "../../envd/version.ts";
import packageJson from "../../package.json" with { type: "json" };

const ROOT = resolve(import.meta.dirname, "../..");
const TIMEOUT_MS = 60_000;

async function ask(program: string, ...args: string[]) {
  const child = Bun.spawn([process.execPath, `${ROOT}/${program}/main.ts`, ...args], {
    env: { PATH: process.env.PATH },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr] = await Promise.all([child.stdout.text(), child.stderr.text()]);
  return { stdout, stderr, status: await child.exited };
}

/** The settings of a part of .env.example. */
async function settings(...headings: string[]): Promise<string[]> {
  const example = await Bun.file(`${ROOT}/.env.example`).text();
  const parts = example.split("# --- ").filter((part) => headings.some((h) => part.startsWith(h)));
  return parts.flatMap((part) =>
    [...part.matchAll(/^(?:# )?([A-Z][A-Z0-9_]+=)/gm)].map(([, name]) => name ?? ""),
  );
}

test.each([
  ["cp", ["--help"], "Control plane", ["migrate"]],
  ["cp", ["migrate", "-h"], "Control plane", ["migrate"]],
  ["agent", ["--help"], "Host agent", ["--address", "--register", "doctor"]],
  ["agent", ["doctor", "-h"], "Host agent", ["--address", "--register", "doctor"]],
] as const)(
  "%s %p tells its arguments and its settings",
  async (program, args, heading, words) => {
    const { stdout, stderr, status } = await ask(program, ...args);

    expect([status, stderr]).toEqual([0, ""]);
    const told = [...words, ...(await settings(heading, "Both"))];
    expect(told.length).toBeGreaterThan(10);
    expect(told.filter((word) => !stdout.includes(word))).toEqual([]);
    const other = heading === "Host agent" ? "SMTP_HOST" : "WRENN_UID_BASE";
    expect(stdout).not.toContain(other);
  },
  TIMEOUT_MS,
);

test.each([
  ["cp", packageJson.version],
  ["agent", AGENT_VERSION],
  ["envd", ENVD_VERSION],
])(
  "%s --version is its version",
  async (program, version) => {
    expect(await ask(program, "--version")).toEqual({
      ...{ stdout: `${version}\n`, stderr: "", status: 0 },
    });
  },
  TIMEOUT_MS,
);

test(
  "envd --help tells all of its flags",
  async () => {
    const config = await Bun.file(`${ROOT}/envd/config.ts`).text();
    const flags = [...config.matchAll(/^ {6}"?([a-z-]+)"?: \{ type:/gm)].map(
      ([, name]) => `--${name}`,
    );

    const { stdout, stderr, status } = await ask("envd", "-h");

    expect([status, stderr]).toEqual([0, ""]);
    expect(flags).toContain("--control-peer");
    expect(flags.filter((flag) => !stdout.includes(flag))).toEqual([]);
    expect((await ask("envd", "--help")).stdout).toBe(stdout);
  },
  TIMEOUT_MS,
);

test.each([
  ["--unknown", "Unknown option '--unknown'"],
  ["stray", "Unexpected argument 'stray'"],
  ["--port", "Option '--port <value>' argument missing"],
  ["--port=http", "--port: 'http' is no port number"],
])(
  "envd %s is refused in one sentence",
  async (arg, sentence) => {
    expect(await ask("envd", arg)).toEqual({
      ...{ stdout: "", stderr: `Cannot start: ${sentence}\n`, status: 2 },
    });
  },
  TIMEOUT_MS,
);
