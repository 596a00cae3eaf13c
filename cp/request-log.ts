// Around every request: its id, its line in the log, and the base paths that old clients send.

import { answerInScope } from "../proto/answer-scope.ts";
import { stripCompatBase } from "./compat.ts";
import type { Log } from "./log.ts";
import type { ControlPlaneMetrics } from "./metrics/control-plane-metrics.ts";
import { REQUEST_ID_HEADER, requestIdOf } from "./request-id.ts";
import { servedAsOrigin } from "./request-origin.ts";

const API_PREFIX = /^(https?:\/\/[^/]+)\/api(?=\/|\?|$)/;

/** The ids of the requests under way, for other lines about them. */
export type RequestIds = WeakMap<Request, string>;

export interface RequestLogDeps {
  readonly log: Log;
  readonly requestIds: RequestIds;
}

export interface RequestObserverDeps extends RequestLogDeps {
  /** The patterns of the routes that the requests under way have found. */
  readonly routes: WeakMap<Request, string>;
  readonly metrics: Pick<ControlPlaneMetrics, "observeRequest">;
}

/**
 * A wrapper of the application's `fetch`. The answer names the request's id, which is the client's own
 * if it sent a harmless one.
 */
export function observeRequests({ log, requestIds, routes, metrics }: RequestObserverDeps) {
  return (next: (request: Request) => unknown) => {
    return async (request: Request): Promise<unknown> => {
      const startedAt = performance.now();
      stripBasePaths(request);
      const requestId = requestIdOf(request.headers.get(REQUEST_ID_HEADER));
      requestIds.set(request, requestId);
      const serve = () => servedAsOrigin(request, requestId, () => next(request));
      const response = await answerInScope(request.signal, serve);
      // An upgrade to a WebSocket has no answer.
      const status = response instanceof Response ? response.status : 101;
      const durationMs = performance.now() - startedAt;
      const served = { method: request.method, route: routes.get(request), status };
      metrics.observeRequest({ ...served, seconds: durationMs / 1000 });
      if (!(response instanceof Response)) return response;
      response.headers.set(REQUEST_ID_HEADER, requestId);
      log.info("request", {
        requestId,
        method: request.method,
        path: new URL(request.url).pathname,
        status: response.status,
        durationMs: Math.round(durationMs * 1000) / 1000,
      });
      return response;
    };
  };
}

/**
 * SDKs call `<base>/api/v1/…`, the first of them below `/compat/0.1`; routes know `/v1/…` only. The
 * request itself stays the same object, for only the server's own request can be upgraded to a WebSocket.
 */
function stripBasePaths(request: Request): void {
  const stripped = stripCompatBase(request, request.url).replace(API_PREFIX, "$1");
  if (stripped === request.url) return;
  const url = stripped.replace(/^(https?:\/\/[^/?]+)(\?|$)/, "$1/$2");
  Object.defineProperty(request, "url", { value: url, enumerable: true });
}
