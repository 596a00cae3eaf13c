// `/proxy/{capsule id}/{port}/…`: requests of the world for a server in a guest.
//
// The agent trusts the control plane with who may ask, and checks what only it knows: that the capsule
// runs here and now. Requests and open streams are activity of the capsule.

import { ENVD_PORT, isPublicEnvdRoute } from "../../proto/envd-routes.ts";
import {
  type Header,
  header,
  headerOf,
  type RequestHead,
  type ResponseHead,
} from "../../proto/http1/head.ts";
import { endToEnd } from "../../proto/http1/hop.ts";
import { originOf } from "../../proto/http1/origin.ts";
import {
  PROXY_ERROR_HEADER,
  PROXY_PATH,
  type ProxyError,
  parsePort,
  proxyPrefix,
} from "../../proto/http1/proxy-path.ts";
import { isRepeated, LinesCache, markRepeated } from "../../proto/http1/repeated-lines.ts";
import type { Answer, ForwardFailure, Verdict } from "../../proto/http1/verdict.ts";
import type { CapsuleLease, Capsules } from "../capsules/capsules.ts";
import { AgentError } from "../errors.ts";
import { PROXY_REQUESTS_PER_CAPSULE_MAX, PROXY_SILENCE_MS } from "../limits.ts";
import { GuestPools } from "./guest-pools.ts";

const FAILURES: Readonly<Record<ForwardFailure, ProxyError>> = {
  refused: "port-closed",
  busy: "too-many",
  ended: "not-running",
  broken: "bad-response",
  silent: "silent",
};

const STATUSES: Readonly<Record<ProxyError, number>> = {
  "not-running": 503,
  stalled: 503,
  "port-closed": 502,
  "bad-response": 502,
  silent: 504,
  "too-many": 429,
  "not-found": 404,
};

export class GuestRouter {
  readonly #capsules: Pick<Capsules, "use">;
  readonly #pools = new GuestPools();
  readonly #requests = new Map<string, number>();
  /** Of the lines that come again and again, as the server at `host` gets them. */
  readonly #known = new LinesCache<{
    readonly host: string;
    readonly headers: readonly Header[];
  }>();

  constructor(capsules: Pick<Capsules, "use">) {
    this.#capsules = capsules;
  }

  /** Null when the target is none of a guest's. */
  route(request: RequestHead): Verdict | null {
    if (!request.target.startsWith("/proxy/")) return null;
    const [, id = "", portText = "", rest = ""] = PROXY_PATH.exec(request.target) ?? [];
    const port = parsePort(portText);
    if (port === null || id === "") return plainAnswer(400, "bad path or port\n");
    const target = rest.startsWith("/") ? rest : `/${rest}`;
    if (port === ENVD_PORT && !isPublicEnvdRoute(target)) return errorAnswer("not-found");

    const lease = this.#enter(id);
    if (typeof lease === "string") return errorAnswer(lease);
    const { hostIp } = lease.guest;
    return {
      pool: this.#pools.of(lease.guest, port),
      target,
      headers: this.#headersFor(request, `${hostIp}:${port}`),
      idleTimeoutMs: PROXY_SILENCE_MS,
      lease,
      respond: (head) => worldHeaders(head, { prefix: proxyPrefix(id, port), hostIp, port }),
      explain: (failure) => errorAnswer(this.#explained(id, failure)),
    };
  }

  /** Ends idle connections that are old. */
  sweep(): void {
    this.#pools.sweep();
  }

  close(): void {
    this.#pools.close();
  }

  #headersFor({ headers: lines }: RequestHead, host: string): readonly Header[] {
    const known = this.#known.get(lines);
    if (known?.host === host) return known.headers;
    const headers = guestHeaders(lines, host);
    if (isRepeated(lines)) markRepeated(headers);
    return this.#known.keep(lines, { host, headers }).headers;
  }

  /** Of a guest that stands still it is that, whatever came of the request. */
  #explained(id: string, failure: ForwardFailure): ProxyError {
    try {
      this.#capsules.use(id)[Symbol.dispose]();
    } catch (error) {
      if (refusalOf(error) === "stalled") return "stalled";
    }
    return FAILURES[failure];
  }

  #enter(id: string): CapsuleLease | ProxyError {
    const requests = this.#requests.get(id) ?? 0;
    if (requests >= PROXY_REQUESTS_PER_CAPSULE_MAX) return "too-many";
    try {
      const lease = this.#capsules.use(id);
      this.#requests.set(id, requests + 1);
      return {
        guest: lease.guest,
        [Symbol.dispose]: () => {
          const left = (this.#requests.get(id) ?? 1) - 1;
          if (left > 0) this.#requests.set(id, left);
          else this.#requests.delete(id);
          lease[Symbol.dispose]();
        },
      };
    } catch (error) {
      return refusalOf(error);
    }
  }
}

/** Why the capsule can't be used now; throws what is no AgentError. */
function refusalOf(error: unknown): ProxyError {
  if (!(error instanceof AgentError)) throw error;
  return error.code === "resource_exhausted" ? "stalled" : "not-running";
}

/**
 * The guest's server sees itself asked by its own address, as development servers insist on, and by its own
 * pages where those ask: servers that compare Origin or Referer with Host refuse what is not from
 * themselves. Others compare Origin with X-Forwarded-Host and -Proto, so what has an Origin of its own has
 * these, too; without one they tell the outside, for links. What other pages ask stays as it came.
 */
function guestHeaders(asked: readonly Header[], host: string): Header[] {
  const headers = endToEnd(asked).filter(({ key }) => key !== "host");
  const outside = outsideOrigin(headers);
  const own = `http://${host}`;
  const isOwn = outside !== null && headerOf(headers, "origin")?.toLowerCase() === outside;
  const lines = headers.map((line) => {
    if (line.key === "referer" && outside !== null && isBelow(line.value, outside)) {
      return { ...line, value: own + line.value.slice(outside.length) };
    }
    if (!isOwn) return line;
    if (line.key === "origin") return { ...line, value: own };
    if (line.key === "x-forwarded-host") return { ...line, value: host };
    return line.key === "x-forwarded-proto" ? { ...line, value: "http" } : line;
  });
  return [header("Host", host), ...lines];
}

/** Of the pages that browsers get from here, as the control plane tells it. */
function outsideOrigin(headers: readonly Header[]): string | null {
  const scheme = headerOf(headers, "x-forwarded-proto")?.split(",", 1)[0]?.trim();
  const host = headerOf(headers, "x-forwarded-host")?.split(",", 1)[0]?.trim();
  return scheme && host ? originOf(scheme, host) : null;
}

function isBelow(url: string, origin: string): boolean {
  return url === origin || url.toLowerCase().startsWith(`${origin}/`);
}

interface GuestServer {
  readonly prefix: string;
  readonly hostIp: string;
  readonly port: number;
}

const OF_OUR_CONCERN = new Set([PROXY_ERROR_HEADER, "location"]);

function worldHeaders(head: ResponseHead, server: GuestServer): readonly Header[] {
  const headers = endToEnd(head.headers);
  if (!headers.some(({ key }) => OF_OUR_CONCERN.has(key))) return headers;
  return headers
    .filter(({ key }) => key !== PROXY_ERROR_HEADER)
    .map((line) =>
      line.key === "location" ? header(line.name, relocated(line.value, server)) : line,
    );
}

/** Root-relative places and those at the server's own address get the prefix. */
function relocated(location: string, { prefix, hostIp, port }: GuestServer): string {
  const own = `http://${hostIp}:${port}`;
  if (location.startsWith("/") && !location.startsWith("//")) return prefix + location;
  if (location === own) return `${prefix}/`;
  if (location.startsWith(`${own}/`)) return prefix + location.slice(own.length);
  if (port === 80 && location.startsWith(`http://${hostIp}/`)) {
    return prefix + location.slice(`http://${hostIp}`.length);
  }
  return location;
}

function errorAnswer(error: ProxyError): Answer {
  const answer = plainAnswer(STATUSES[error], `${error}\n`);
  return { ...answer, headers: [...answer.headers, header(PROXY_ERROR_HEADER, error)] };
}

function plainAnswer(status: number, body: string): Answer {
  return { status, headers: [header("Content-Type", "text/plain")], body };
}
