// Loop: ends the connections of callers who may not act for their team any more.
//
// Every control plane does it for its own clients; without any it reads nothing.

import type { OpenStreams } from "../auth/open-streams.ts";
import type { Loop } from "./driver.ts";

/** With the longest jitter and a query, within a second of the change. */
const EVERY_MS = 500;

export function endRevokedStreamsLoop(openStreams: OpenStreams): Loop {
  return {
    name: "end-revoked-streams",
    everyMs: EVERY_MS,
    run: async () => await openStreams.check(),
  };
}
