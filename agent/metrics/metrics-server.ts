// What monitoring reads, on an address of its own: it has no certificate of ours, and nothing else answers there.

import { listenFailure } from "../../proto/address-failure.ts";
import type { ListenAddress } from "../config.ts";
import { AGENT_VERSION } from "../version.ts";
import { answerScrape, type ScrapeDeps } from "./scrape.ts";

const IDLE_TIMEOUT_SEC = 60;

/** GET /health and /metrics. Throws a sentence if the address is taken. */
export function startMetricsServer(
  { host: hostname, port }: ListenAddress,
  deps: ScrapeDeps,
): AsyncDisposable {
  try {
    const server = Bun.serve({
      ...{ hostname, port },
      idleTimeout: IDLE_TIMEOUT_SEC,
      maxRequestBodySize: 0,
      routes: {
        "/health": { GET: () => Response.json({ status: "ok", version: AGENT_VERSION }) },
        "/metrics": { GET: (request) => answerScrape(request, deps) },
      },
      fetch: () => new Response("Not found\n", { status: 404 }),
    });
    return { [Symbol.asyncDispose]: () => server.stop(true) };
  } catch (error) {
    throw listenFailure("WRENN_METRICS_LISTEN_ADDR", `${hostname}:${port}`, error);
  }
}
