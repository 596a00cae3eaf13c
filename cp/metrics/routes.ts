// What operators read: GET /metrics for Prometheus, GET /internal/loops for people. Both ask for the
// token of WRENN_METRICS_TOKEN, and are not there without one: a peer's address says nothing behind a
// reverse proxy, so being near is no credential.

import { type Static, Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { hasScrapeToken } from "../../proto/metrics/scrape-token.ts";
import { AppError } from "../errors.ts";
import { errors } from "../openapi/error-schema.ts";
import { timestamp } from "../wire.ts";
import type { ControlPlaneMetrics, LoopReport } from "./control-plane-metrics.ts";

export interface MetricsRoutesDeps {
  readonly metrics: ControlPlaneMetrics;
  /** Null: nobody may read them. */
  readonly metricsToken: string | null;
}

const LoopList = Type.Object({
  loops: Type.Array(
    Type.Object({
      name: Type.String(),
      every_ms: Type.Integer(),
      passes: Type.Integer(),
      failures: Type.Integer(),
      seconds: Type.Number(),
      last_seconds: Type.Number(),
      last_ended_at: Type.Optional(Type.String()),
      last_error: Type.Optional(Type.String()),
      last_counts: Type.Record(Type.String(), Type.Number()),
    }),
  ),
});

/** Beside the API that clients know: they are in no document of it. */
export function metricsRoutes({ metrics, metricsToken }: MetricsRoutesDeps) {
  return new Elysia()
    .get(
      "/metrics",
      async ({ request }) => {
        assertOperator(request, metricsToken);
        return new Response(await metrics.text(), {
          headers: { "Content-Type": metrics.contentType },
        });
      },
      {
        response: { 200: Type.Any(), ...errors("unauthorized", "not_found") },
        detail: { hide: true },
      },
    )
    .get(
      "/internal/loops",
      ({ request }) => {
        assertOperator(request, metricsToken);
        return { loops: metrics.loops().map(toLoop) };
      },
      {
        response: { 200: LoopList, ...errors("unauthorized", "not_found") },
        detail: { hide: true },
      },
    );
}

function assertOperator(request: Request, token: string | null): void {
  if (token === null) {
    throw new AppError("not_found", "WRENN_METRICS_TOKEN is not set: there are no metrics to read");
  }
  if (!hasScrapeToken(request.headers.get("authorization"), token)) {
    throw new AppError("unauthorized", "the bearer token of WRENN_METRICS_TOKEN is needed");
  }
}

function toLoop(loop: LoopReport): Static<typeof LoopList>["loops"][number] {
  const { name, everyMs, passes, failures, seconds, lastSeconds, lastCounts } = loop;
  return {
    name,
    every_ms: everyMs,
    passes,
    failures,
    seconds,
    last_seconds: lastSeconds,
    ...(loop.lastEndedAt === null ? {} : { last_ended_at: timestamp(loop.lastEndedAt) }),
    ...(loop.lastError === null ? {} : { last_error: loop.lastError }),
    last_counts: { ...lastCounts },
  };
}
