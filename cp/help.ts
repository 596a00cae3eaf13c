// What the control plane says of itself.

import packageJson from "../package.json" with { type: "json" };
import { answerAsked } from "../proto/program-help.ts";

const USAGE = `
The control plane: its API, and the front to ports of capsules.

  wrenn-cp            serves, until SIGTERM
  wrenn-cp migrate    brings the database up to date
  wrenn-cp make-ca <directory>
                      makes the authority that certifies this installation's hosts
  wrenn-cp --help     this text (-h)
  wrenn-cp --version  its version
`;

/** The answer to --help, -h or --version; null if none of them is among the arguments. */
export function answerHelp(args: readonly string[]): string | null {
  const { version } = packageJson;
  return answerAsked(args, { name: "wrenn-cp", version, usage: USAGE, settings: "Control plane" });
}
