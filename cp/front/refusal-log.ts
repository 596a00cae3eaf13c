// The request log's lines about what the application never sees: requests that could not be read, clients too
// many, hosts and ports that nobody may ask or that nobody is at.

import { headerOf } from "../../proto/http1/head.ts";
import type { Answered } from "../../proto/http1/verdict.ts";
import type { Log } from "../log.ts";
import { REQUEST_ID_HEADER } from "../request-id.ts";

/** Of what a client sent, in one line. */
const TEXT_LENGTH_MAX = 200;
const REQUEST_ID_KEY = REQUEST_ID_HEADER.toLowerCase();

/** A line for each answer that the front gives itself, without the query of an address: it may hold a token. */
export function refusalLog(log: Log): Answered {
  const short = (text: string) => text.slice(0, TEXT_LENGTH_MAX);
  return ({ status, headers, why }, request) => {
    const path = request?.target.split("?", 1)[0] ?? "";
    log.info("request", {
      requestId: headerOf(headers, REQUEST_ID_KEY),
      ...(request === null
        ? {}
        : { method: short(request.method), host: short(request.authority), path: short(path) }),
      status,
      ...(why === undefined ? {} : { why }),
    });
  };
}
