// The path under which an agent serves the ports of its guests: `/proxy/{capsule id}/{port}/…`.

export const PROXY_PATH = /^\/proxy\/([^/?]*)\/([^/?]*)(.*)$/;

/** Tells the control plane that an answer is the agent's own and why; no guest can set it. */
export const PROXY_ERROR_HEADER = "wrenn-proxy-error";

/** What the agent's own answers say. */
export const PROXY_ERRORS = [
  "not-running",
  "stalled",
  "port-closed",
  "bad-response",
  "silent",
  "too-many",
  "not-found",
] as const;

export type ProxyError = (typeof PROXY_ERRORS)[number];

/** The port as a number from 1 to 65535, or null. */
export function parsePort(text: string): number | null {
  const port = /^[1-9][0-9]{0,4}$/.test(text) ? Number(text) : 0;
  return port >= 1 && port <= 65_535 ? port : null;
}

export function proxyPrefix(capsuleId: string, port: number): string {
  return `/proxy/${capsuleId}/${port}`;
}
