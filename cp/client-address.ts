// Where a request comes from, for limits and logs.

import type { Server } from "bun";

/**
 * The address of the client. Only a proxy on this machine is believed about whom it forwards for,
 * and only its own word, the last one; our own front, which comes by a unix socket and so without an
 * address, is one. Without a server (in tests) it is `unknown`.
 */
export function clientAddress(
  request: Request,
  server: Pick<Server<unknown>, "requestIP"> | null,
): string {
  if (server === null) return "unknown";
  const peer = server.requestIP(request)?.address ?? "";
  const isLocal =
    peer === "" || peer === "::1" || peer.startsWith("127.") || peer.startsWith("::ffff:127.");
  const forwardedFor = request.headers.get("x-forwarded-for")?.split(",").at(-1)?.trim();
  return isLocal && forwardedFor ? forwardedFor : peer || "unknown";
}
