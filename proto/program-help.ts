// What a program answers to --help, -h and --version. Its settings are told as .env.example tells them, which
// is the one list of them.

import example from "../.env.example" with { type: "text" };

export interface Program {
  readonly name: string;
  readonly version: string;
  /** How it is called, and what its arguments are. */
  readonly usage: string;
  /** The heading of its settings in .env.example, without what is in brackets. */
  readonly settings: string;
}

/** The answer, ended by a newline; null if nothing of the kind is asked. */
export function answerAsked(args: readonly string[], program: Program): string | null {
  const { name, version, usage, settings } = program;
  if (args.includes("--help") || args.includes("-h")) {
    return [
      `${name} ${version}\n`,
      usage.trim(),
      "\nEnvironment (what is commented out shows the default):\n",
      `${section(settings)}\n\n${section("Both")}\n`,
    ].join("\n");
  }
  return args.includes("--version") ? `${version}\n` : null;
}

/** The lines under a heading. Throws if there is none of that name. */
function section(heading: string): string {
  const [, ...parts] = example.split(/^# --- /m);
  const found = parts.find((part) => part.startsWith(heading));
  if (found === undefined) throw new Error(`unreachable: .env.example has no ${heading}`);
  return found.slice(found.indexOf("\n") + 1).trim();
}
