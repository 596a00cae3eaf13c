// GET /metrics: for whoever has the token of WRENN_METRICS_TOKEN, and not there without one.

import { hasScrapeToken } from "../../proto/metrics/scrape-token.ts";
import type { AgentMetrics } from "./agent-metrics.ts";

export interface ScrapeDeps {
  readonly metrics: AgentMetrics;
  /** Null: nobody may read them. */
  readonly metricsToken: string | null;
}

/** The answer to a request for the agent's metrics. */
export async function answerScrape(
  request: Request,
  { metrics, metricsToken }: ScrapeDeps,
): Promise<Response> {
  if (metricsToken === null) return new Response("Not found\n", { status: 404 });
  if (!hasScrapeToken(request.headers.get("authorization"), metricsToken)) {
    return new Response("Unauthorized\n", {
      status: 401,
      headers: { "WWW-Authenticate": "Bearer" },
    });
  }
  return new Response(await metrics.text(), { headers: { "Content-Type": metrics.contentType } });
}
