// Starts a program with a wrong setting, and reads what it says.

import type { WrongSetting } from "./wrong-settings.ts";

/** One that starts all the same would run for ever. */
const TIMEOUT_MS = 60_000;

export interface Ending {
  readonly exitCode: number | null;
  /** The last line on standard error. */
  readonly last: string;
  readonly output: string;
}

/** `places` are what stands for the words in angle brackets. */
export async function startWrong(
  command: readonly string[],
  row: WrongSetting,
  o: { env: Readonly<Record<string, string>>; places: Readonly<Record<string, string>> },
): Promise<Ending> {
  const wrong = { ...row.with, [row.setting]: row.value };
  const set = Object.entries(wrong).map(([name, value]) => [name, filled(value, o.places)]);
  const child = Bun.spawn([...command], {
    env: { PATH: process.env.PATH, ...o.env, ...Object.fromEntries(set) },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: TIMEOUT_MS,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  const last = stderr.trimEnd().split("\n").at(-1) ?? "";
  return { exitCode, last, output: stdout + stderr };
}

/** The sentence with what stands for the words in angle brackets. */
export function filled(text: string, places: Readonly<Record<string, string>>): string {
  return text.replace(/<([a-z]+)>/g, (word, name) => places[name] ?? word);
}
