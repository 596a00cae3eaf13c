// What the proxy itself answers, for programs and for people.

import { header, headerOf, type RequestHead } from "../../proto/http1/head.ts";
import type { Answer } from "../../proto/http1/verdict.ts";

export interface Refusal {
  readonly status: number;
  readonly message: string;
  readonly sandboxId?: string;
  readonly port?: number;
}

/** JSON, or a page where a browser navigates. Clients of E2B know these fields. */
export function refuse(request: RequestHead, refusal: Refusal): Answer {
  const { status, message, sandboxId, port } = refusal;
  if (wantsPage(request)) {
    return {
      status,
      headers: [header("Content-Type", "text/html; charset=utf-8"), ...HEADERS],
      body: page(status, message),
    };
  }
  const body = {
    ...(sandboxId === undefined ? {} : { sandboxId }),
    message,
    ...(port === undefined ? {} : { port }),
    code: status,
  };
  return {
    status,
    headers: [header("Content-Type", "application/json; charset=utf-8"), ...HEADERS],
    body: JSON.stringify(body),
  };
}

/** Scripts of any origin may read that a capsule does not run: it says nothing secret. */
const HEADERS = [header("Cache-Control", "no-store"), header("Access-Control-Allow-Origin", "*")];

const SCRIPT_MODES = new Set(["cors", "no-cors", "same-origin", "websocket"]);

function wantsPage({ headers }: RequestHead): boolean {
  const accept = headerOf(headers, "accept") ?? "";
  const mode = headerOf(headers, "sec-fetch-mode") ?? "";
  if (/\bjson\b/i.test(accept) || SCRIPT_MODES.has(mode)) return false;
  if (headerOf(headers, "x-requested-with") !== null) return false;
  if (mode === "navigate") return true;
  return /text\/html/i.test(accept) && /mozilla/i.test(headerOf(headers, "user-agent") ?? "");
}

/** The texts are ours: nothing of the request is in them. */
function page(status: number, message: string): string {
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${status}</title>
<style>body { font: 16px/1.5 system-ui; margin: 20vh auto; max-width: 32em; padding: 0 1em }</style>
<h1>${status}</h1>
<p>${message}</p>
</html>
`;
}
