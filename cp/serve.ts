// Listening, and stopping without dropping anybody.

import { sleep } from "bun";
import type { App } from "./app.ts";
import type { Log } from "./log.ts";

/** Requests under way get this long after a signal; then their connections are cut. */
const SHUTDOWN_GRACE_MS = 30_000;
/** No request for so long means that none is on its way: clients keep idle connections open. */
const QUIET_MS = 200;
const DRAIN_POLL_MS = 20;
/** Bun's longest: a request that waits for a guest says nothing for a while. */
const IDLE_TIMEOUT_SEC = 255;
/** Above every route's own bound, so that clients get our error body and not Bun's bare one. */
const REQUEST_BODY_BYTES_MAX = 1024 ** 3;

/** Serves until SIGTERM or SIGINT, then until the requests under way are answered. */
export async function serveUntilSignal(
  app: App,
  options: { hostname: string; port: number; log: Log },
): Promise<void> {
  const { hostname, port, log } = options;
  const signal = Promise.withResolvers<string>();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => signal.resolve(name));

  app.listen({
    hostname,
    port,
    idleTimeout: IDLE_TIMEOUT_SEC,
    maxRequestBodySize: REQUEST_BODY_BYTES_MAX,
    reusePort: false,
    development: false,
  });
  const { server } = app;
  if (server === null) throw new Error("unreachable: listen makes a server");
  log.info("listening", { url: server.url.href });

  log.info("stopping", { signal: await signal.promise });
  await stop(server);
  log.info("stopped");
}

/**
 * Takes no new connections, and ends the others once there has been no request on any for a moment:
 * idle ones that clients keep open would hold a graceful stop for ever.
 */
async function stop(server: NonNullable<App["server"]>): Promise<void> {
  void server.stop();
  const deadline = performance.now() + SHUTDOWN_GRACE_MS;
  let quietSince = performance.now();
  while (performance.now() < Math.min(deadline, quietSince + QUIET_MS)) {
    await sleep(DRAIN_POLL_MS);
    if (server.pendingRequests > 0) quietSince = performance.now();
  }
  await server.stop(true);
}
