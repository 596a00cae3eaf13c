// The request log's lines about what the application never sees: requests that could not be read, clients too
// many, hosts and ports that nobody may ask or that nobody is at.

import { headerOf, type RequestHead } from "../../proto/http1/head.ts";
import {
  type Answer,
  isForward,
  isServe,
  type Refuse,
  type Router,
  type Routing,
  type Verdict,
} from "../../proto/http1/verdict.ts";
import type { Log } from "../log.ts";
import { REQUEST_ID_HEADER } from "../request-id.ts";

/** Of what a client sent, in one line. */
const TEXT_LENGTH_MAX = 200;
const REQUEST_ID_KEY = REQUEST_ID_HEADER.toLowerCase();

/** The router, with a line for each answer that it gives itself, at once or when a forward comes to nothing. */
export function logRefusals(router: Router, log: Log): Router {
  return (request, peer) => {
    const routing = router(request, peer);
    if (!(routing instanceof Promise)) return observed(routing, request, log);
    return routing.then((settled) => observed(settled, request, log));
  };
}

/** The answers to what no router is asked about, with a line for each. */
export function logRefused(refuse: Refuse, log: Log): Refuse {
  return (status, why, request) => {
    const answer = refuse(status, why, request);
    tell(log, answer, request);
    return answer;
  };
}

function observed<R extends Routing>(routing: R, request: RequestHead, log: Log): R {
  if (isServe(routing)) return routing;
  if (!isForward(routing)) {
    tell(log, routing, request);
    return routing;
  }
  const settle = <T>(outcome: T | Promise<Verdict>): T | Promise<Verdict> =>
    outcome instanceof Promise
      ? outcome.then((verdict) => observed(verdict, request, log))
      : outcome;
  return {
    ...routing,
    respond: (head, isKept) => settle(routing.respond(head, isKept)),
    explain: (failure, isKept) => {
      const outcome = settle(routing.explain(failure, isKept));
      if (!(outcome instanceof Promise)) tell(log, outcome, request);
      return outcome;
    },
  };
}

/** Without the query of an address: it may hold a token. */
function tell(log: Log, { status, headers, why }: Answer, request: RequestHead | null): void {
  const short = (text: string) => text.slice(0, TEXT_LENGTH_MAX);
  const path = request?.target.split("?", 1)[0] ?? "";
  log.info("request", {
    requestId: headerOf(headers, REQUEST_ID_KEY),
    ...(request === null
      ? {}
      : { method: short(request.method), host: short(request.authority), path: short(path) }),
    status,
    ...(why === undefined ? {} : { why }),
  });
}
