// What an answer of a provider means.

import type { OutboundAnswer } from "../outbound/outbound.ts";
import type { Provider } from "./channel.ts";

/** A receiver that wants to be left alone for longer is asked again then. */
const RETRY_AFTER_SEC_MAX = 900;
const RETRY_AFTER_SEC_USUAL = 30;

export type Verdict =
  | { readonly kind: "delivered"; readonly status: number | null }
  /** Too many at a time: that is not the event's fault, nor a fault of the channel. */
  | { readonly kind: "limited"; readonly status: number; readonly afterSec: number }
  | { readonly kind: "failed"; readonly status: number | null; readonly error: string };

export function verdictOf(provider: Provider, answer: OutboundAnswer): Verdict {
  const { status, text } = answer;
  if (status === 429) return { kind: "limited", status, afterSec: retryAfterSec(answer) };
  if (status >= 300 && status < 400) {
    return { kind: "failed", status, error: `answered ${status}: redirects are not followed` };
  }
  if (status < 200 || status >= 300) return { kind: "failed", status, error: `answered ${status}` };
  // Connectors of Teams answer 200 whatever became of it, and say so in the body.
  const refused = /Webhook message delivery failed.*HTTP error (\d{3})/s.exec(text);
  if (provider === "teams" && refused !== null) {
    const inner = Number(refused[1]);
    if (inner === 429) return { kind: "limited", status: inner, afterSec: RETRY_AFTER_SEC_USUAL };
    return { kind: "failed", status: inner, error: `Teams answered ${inner}` };
  }
  return { kind: "delivered", status };
}

/**
 * In its header, as seconds or a date by the clock that wrote both, or in its body, as Telegram and Discord have it
 * (seconds) and Matrix (milliseconds).
 */
function retryAfterSec({ headers, text }: OutboundAnswer): number {
  const header = headers.get("retry-after") ?? "";
  const date = Date.parse(header);
  const told = /^\d+(\.\d+)?$/.test(header)
    ? Number(header)
    : Number.isNaN(date)
      ? inBody(text)
      : (date - Date.parse(headers.get("date") ?? "")) / 1000;
  const sec = Number.isFinite(told) && told > 0 ? told : RETRY_AFTER_SEC_USUAL;
  return Math.min(Math.max(1, Math.ceil(sec)), RETRY_AFTER_SEC_MAX);
}

function inBody(text: string): number {
  const milliseconds = /"retry_after_ms"\s*:\s*(\d+)/.exec(text)?.[1];
  if (milliseconds !== undefined) return Number(milliseconds) / 1000;
  return Number(/"retry_after"\s*:\s*(\d+(\.\d+)?)/.exec(text)?.[1]);
}
