// Which requests are for a port of a capsule: `{port}-{capsule id}.{domain}`, or headers where the host
// can't say it.

import { headerOf, type RequestHead } from "../../proto/http1/head.ts";
import { parsePort } from "../../proto/http1/proxy-path.ts";
import { decodeId, ID_PREFIXES, type Id } from "../../proto/ids.ts";

export interface PortOfCapsule {
  readonly capsuleId: Id<"capsule">;
  readonly port: number;
}

/** A host that means a port of a capsule but names none. */
export interface BadTarget {
  readonly why: string;
}

const IP_LITERAL = /^(\[[0-9a-f:.]+\]|[0-9.]+)$/;

/**
 * The port and capsule that the request is for, null when it is for the API. Ids are accepted with and
 * without `cl-`; with it, under any domain, as the first API did.
 */
export function proxyTarget(
  request: RequestHead,
  domain: string,
): PortOfCapsule | BadTarget | null {
  const host = request.authority.replace(/:[0-9]*$/, "").replace(/\.$/, "");
  const dot = host.indexOf(".");
  const label = dot < 0 ? host : host.slice(0, dot);
  const isOurDomain = dot >= 0 && host.slice(dot + 1) === domain;
  if (dot >= 0 && (isOurDomain ? /^[0-9]+-/ : /^[0-9]+-cl-[0-9a-z]+$/).test(label)) {
    const dash = label.indexOf("-");
    return parseTarget(label.slice(0, dash), label.slice(dash + 1));
  }
  const isShared = host === "localhost" || IP_LITERAL.test(host) || host === `sandbox.${domain}`;
  if (!isShared) return null;
  const id = headerOf(request.headers, "e2b-sandbox-id");
  const port = headerOf(request.headers, "e2b-sandbox-port");
  return id === null || port === null ? null : parseTarget(port, id);
}

function parseTarget(portText: string, idText: string): PortOfCapsule | BadTarget {
  const port = parsePort(portText);
  if (port === null) return { why: "The port is none from 1 to 65535" };
  const prefix = ID_PREFIXES.capsule;
  const digits = idText.startsWith(prefix) ? idText.slice(prefix.length) : idText;
  // Some clients add a second part to the id, which means nothing here.
  const capsuleId = decodeId("capsule", prefix + (digits.split("-", 1)[0] ?? ""));
  return capsuleId === null ? { why: "The capsule's id is malformed" } : { capsuleId, port };
}
