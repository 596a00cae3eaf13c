// What the proxy itself answers, for programs and for people.

import { header, headerOf, type RequestHead } from "../../proto/http1/head.ts";
import type { Answer } from "../../proto/http1/verdict.ts";
import { REQUEST_ID_HEADER, requestIdOf } from "../request-id.ts";

export interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly sandboxId?: string;
  readonly port?: number;
}

/** Before somebody asks again who was told that there is too much, or that something is away. */
const RETRY_AFTER_SEC: Readonly<Partial<Record<number, number>>> = { 429: 1, 503: 1 };

/** About a port of a capsule. Clients of E2B know these fields. */
export function refuse(request: RequestHead, refusal: Refusal): Answer {
  const { status, message, sandboxId, port } = refusal;
  const requestId = requestIdOf(headerOf(request.headers, "x-request-id"));
  const answer = refusalAnswer(request, {
    ...{ status, message, requestId },
    retryAfterSec: RETRY_AFTER_SEC[status],
    body: {
      ...(sandboxId === undefined ? {} : { sandboxId }),
      message,
      ...(port === undefined ? {} : { port }),
      code: status,
      request_id: requestId,
    },
  });
  return { ...answer, headers: [...answer.headers, ANY_ORIGIN] };
}

/** Scripts of any origin may read that a capsule does not run: it says nothing secret. */
const ANY_ORIGIN = header("Access-Control-Allow-Origin", "*");

export interface RefusalTexts {
  readonly status: number;
  /** Text of ours. */
  readonly message: string;
  readonly requestId: string;
  readonly retryAfterSec: number | undefined;
  /** For programs. */
  readonly body: object;
}

/** JSON, or a page where a browser navigates. */
export function refusalAnswer(request: RequestHead | null, texts: RefusalTexts): Answer {
  const { status, retryAfterSec } = texts;
  const isPage = request !== null && wantsPage(request);
  const type = isPage ? "text/html" : "application/json";
  return {
    status,
    headers: [
      header("Content-Type", `${type}; charset=utf-8`),
      header(REQUEST_ID_HEADER, texts.requestId),
      header("Cache-Control", "no-store"),
      ...(retryAfterSec === undefined ? [] : [header("Retry-After", String(retryAfterSec))]),
    ],
    body: isPage ? page(texts) : JSON.stringify(texts.body),
    why: texts.message,
  };
}

const SCRIPT_MODES = new Set(["cors", "no-cors", "same-origin", "websocket"]);

function wantsPage({ headers }: RequestHead): boolean {
  const accept = headerOf(headers, "accept") ?? "";
  const mode = headerOf(headers, "sec-fetch-mode") ?? "";
  if (/\bjson\b/i.test(accept) || SCRIPT_MODES.has(mode)) return false;
  if (headerOf(headers, "x-requested-with") !== null) return false;
  if (mode === "navigate") return true;
  return /text\/html/i.test(accept) && /mozilla/i.test(headerOf(headers, "user-agent") ?? "");
}

/** The texts are ours: of the request nothing is in them but its id, which is harmless. */
function page({ status, message, requestId }: RefusalTexts): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${status}</title>
<style>body { font: 16px/1.5 system-ui; margin: 20vh auto; max-width: 32em; padding: 0 1em }</style>
<h1>${status}</h1>
<p>${message}</p>
<p><small>${requestId}</small></p>
</html>
`;
}
