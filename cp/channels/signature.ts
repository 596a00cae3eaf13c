// How a receiver knows that a webhook is ours: two signatures of one secret, of our own and of Standard Webhooks
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).

import { createHmac } from "node:crypto";

const ENCODED = "whsec_";

/** The same secret as the libraries of Standard Webhooks take it. */
export function asStandardSecret(secret: string): string {
  return secret.startsWith(ENCODED) ? secret : ENCODED + Buffer.from(secret).toString("base64");
}

export function signedHeaders(options: {
  secret: string;
  /** Of the event: the same however often it is sent. */
  eventId: string;
  /** Of this attempt. */
  attemptId: string;
  now: Date;
  body: string;
}): Record<string, string> {
  const { secret, eventId, attemptId, now, body } = options;
  const timestamp = `${now.toISOString().slice(0, 19)}Z`;
  const seconds = String(Math.floor(now.getTime() / 1000));
  const key = Buffer.from(asStandardSecret(secret).slice(ENCODED.length), "base64");
  return {
    "X-Wrenn-Delivery": attemptId,
    "X-Wrenn-Timestamp": timestamp,
    "X-WRENN-SIGNATURE": `sha256=${hmac(secret, `${timestamp}.${body}`).toString("hex")}`,
    "webhook-id": eventId,
    "webhook-timestamp": seconds,
    "webhook-signature": `v1,${hmac(key, `${eventId}.${seconds}.${body}`).toString("base64")}`,
  };
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}
