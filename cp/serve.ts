// Listening, and stopping without dropping anybody.

import type { App } from "./app.ts";
import type { Log } from "./log.ts";

/** Requests under way get this long after a signal; then their connections are cut. */
const SHUTDOWN_GRACE_MS = 30_000;
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
  const cut = setTimeout(() => server.stop(true), SHUTDOWN_GRACE_MS);
  await server.stop();
  clearTimeout(cut);
  log.info("stopped");
}
