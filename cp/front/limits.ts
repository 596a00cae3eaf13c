// Bounds of the front: on clients that nobody has asked yet who they are.

import type { FrontLimits } from "../../proto/http1/listener.ts";

/** Connections at once, and requests of HTTP/2; each costs some kilobytes. */
const CONNECTIONS_MAX = 20_000;
/** An office behind one address fits; a capsule takes 512 requests at once. */
const CONNECTIONS_PER_ADDRESS_MAX = 2_000;
/** The client's, both ends of the one to the application, and the application's to an agent. */
const OPEN_FILES_PER_CONNECTION = 4;
/** Of the program itself: database, Redis, logs, certificates, and calls of loops to agents. */
const OPEN_FILES_RESERVED = 512;
/** Of all connections: 64 KiB for each of 4,000 that are behind. */
const HELD_BYTES_MAX = 256 * 1024 * 1024;

/** What fits into a process that may have so many files open. Throws when that is next to nothing. */
export function frontLimits(openFilesMax: number): FrontLimits {
  const fitting = Math.floor((openFilesMax - OPEN_FILES_RESERVED) / OPEN_FILES_PER_CONNECTION);
  const connectionsMax = Math.min(CONNECTIONS_MAX, fitting);
  if (connectionsMax < 2) {
    throw new Error(
      `the process may have ${openFilesMax} files open, which is too few (ulimit -n)`,
    );
  }
  return {
    connectionsMax,
    connectionsPerAddressMax: Math.min(CONNECTIONS_PER_ADDRESS_MAX, Math.floor(connectionsMax / 2)),
    heldBytesMax: HELD_BYTES_MAX,
    silences: {
      firstRequestMs: 30_000,
      headMs: 30_000,
      // Above what load balancers in front keep theirs (600 s at most providers), so that they end first.
      keptAliveMs: 610_000,
      // A player that has enough for now does not read for minutes.
      stalledMs: 600_000,
    },
  };
}
