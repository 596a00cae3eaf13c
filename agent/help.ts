// What the host agent says of itself.

import { answerAsked } from "../proto/program-help.ts";
import { AGENT_VERSION } from "./version.ts";

const USAGE = `
The host agent: runs the capsules of a host. Needs root.

  wrenn-agent --address <host:port> [--register <token>]
      serves, until SIGTERM; capsules go on without it

      --address <host:port>  where the control plane reaches this agent
      --register <token>     of its first start only: the host's one-time token. Better in the
                             environment (WRENN_REGISTRATION_TOKEN): everybody reads arguments
  wrenn-agent doctor [--json]
      whether this machine can be a host, and what to do about it; status 1 if it cannot
  wrenn-agent --help     this text (-h)
  wrenn-agent --version  its version
`;

/** The answer to --help, -h or --version; null if none of them is among the arguments. */
export function answerHelp(args: readonly string[]): string | null {
  const version = AGENT_VERSION;
  return answerAsked(args, { name: "wrenn-agent", version, usage: USAGE, settings: "Host agent" });
}
