// Requests for ports of capsules, on their way to the agents.
//
// Who may ask: anybody, for a port is as public as its URL, unless the capsule was made with private ports;
// then the traffic token is asked for. envd's port always asks for envd's token or a signed URL.

import { ENVD_PORT, isPublicEnvdRoute } from "../../proto/envd-routes.ts";
import {
  type Header,
  headerOf,
  type RequestHead,
  type ResponseHead,
} from "../../proto/http1/head.ts";
import { endToEnd } from "../../proto/http1/hop.ts";
import {
  PROXY_ERROR_HEADER,
  PROXY_ERRORS,
  type ProxyError,
  proxyPrefix,
} from "../../proto/http1/proxy-path.ts";
import { isRepeated, LinesCache, markRepeated } from "../../proto/http1/repeated-lines.ts";
import type { Answer, ForwardFailure, Peer, Verdict } from "../../proto/http1/verdict.ts";
import { encodeId } from "../../proto/ids.ts";
import type { AgentOfHost } from "../agents/agent-clients.ts";
import type { EnvdTokens } from "../capsules/envd-tokens.ts";
import type { TrustedProxies } from "../client-address.ts";
import { isOutage } from "../outage.ts";
import type { AgentPools } from "./agent-pools.ts";
import { withinHost } from "./cookie-domain.ts";
import { isSame, type OwnCredentials, setsOwnCookie } from "./credentials.ts";
import { forwardedHeaders, outsideOrigin, withoutForwarded } from "./forwarded.ts";
import type { Placement, Placements } from "./placements.ts";
import { accessTo, NO_ACCESS, withoutToken } from "./port-access.ts";
import { type PortOfCapsule, proxyTarget } from "./proxy-host.ts";
import { type Refusal, refuse } from "./refusals.ts";

/** Below the agent's, which is below that of servers in guests. */
const SILENCE_MS = 610_000;
const TRANSITIONS = new Set(["pending", "starting", "pausing", "resuming"]);

export interface ProxyDeps {
  /** Capsules' ports are hosts below it. */
  readonly domain: string;
  readonly placements: Placements;
  readonly pools: AgentPools;
  readonly envdTokens: EnvdTokens;
  readonly ownCredentials: OwnCredentials;
  readonly proxies: TrustedProxies;
}

interface Asked extends PortOfCapsule {
  readonly request: RequestHead;
  readonly peer: Peer;
  /** Of the host that did not have the capsule any more. */
  readonly triedAgent?: AgentOfHost;
}

interface Failed {
  readonly error: ProxyError;
  /** Of the host. */
  readonly agent: AgentOfHost;
  /** The request can be sent again. */
  readonly isKept: boolean;
}

/** What the same lines of one connection mean each time that they come for the same host. */
interface Way extends PortOfCapsule {
  readonly authority: string;
  readonly prefix: string;
  /** As the agent gets them. */
  readonly headers: readonly Header[];
}

export class ProxyRouter {
  readonly #deps: ProxyDeps;
  readonly #ways = new LinesCache<Way>();

  constructor(deps: ProxyDeps) {
    this.#deps = deps;
  }

  /** Null when the request is for the API. */
  route(request: RequestHead, peer: Peer): Verdict | Promise<Verdict> | null {
    const target = this.#knownWay(request) ?? proxyTarget(request, this.#deps.domain);
    if (target === null) return null;
    if ("why" in target) return refuse(request, { status: 400, message: target.why });
    if (request.target === "*")
      return refuse(request, { status: 400, message: "No path is named" });
    const { capsuleId, port } = target;
    const asked = { capsuleId, port, request, peer };
    const placement = this.#deps.placements.of(capsuleId);
    if (!(placement instanceof Promise)) return this.#forward(asked, placement);
    return placement.then(
      (settled) => this.#forward(asked, settled),
      (error) => unavailable(request, error),
    );
  }

  #forward(asked: Asked, placement: Placement): Verdict {
    const { request, peer } = asked;
    const { agent } = placement;
    const refusal = absent(asked, placement);
    if (refusal !== null) return refuse(request, refusal);
    if (agent === null) throw new Error("unreachable: what is not absent is on a host");
    const answer = this.#denied(asked, placement);
    if (answer !== null) return answer;
    const { pools, proxies } = this.#deps;
    const { prefix, headers } = this.#wayOf(asked);
    const explain = (error: ProxyError, isKept: boolean) =>
      this.#explain(asked, { error, agent, isKept });
    return {
      pool: pools.at(agent),
      target: prefix + (placement.isPrivate ? withoutToken(request.target) : request.target),
      headers,
      idleTimeoutMs: SILENCE_MS,
      respond: (head, isKept) => {
        const error = errorOf(head);
        if (error !== undefined) return explain(error, isKept);
        const host = () => outsideOrigin(request, peer, proxies).replace(/^.*:\/\/|:\d*$/g, "");
        return worldHeaders(head, { prefix, host });
      },
      explain: (failure, isKept) =>
        explain(FAILURES[failure] ?? "not-running", isKept && failure === "refused"),
    };
  }

  #knownWay(request: RequestHead): Way | undefined {
    const known = this.#ways.get(request.headers);
    return known?.authority === request.authority ? known : undefined;
  }

  #wayOf({ request, peer, capsuleId, port }: Asked): Way {
    const known = this.#knownWay(request);
    if (known !== undefined) return known;
    const { ownCredentials, envdTokens, proxies } = this.#deps;
    const envdToken = () => (port === ENVD_PORT ? null : envdTokens.of(capsuleId));
    const headers = [
      ...ownCredentials.strip(withoutForwarded(endToEnd(request.headers)), envdToken),
      ...forwardedHeaders(request, peer, proxies),
    ];
    if (isRepeated(request.headers)) markRepeated(headers);
    const prefix = proxyPrefix(encodeId("capsule", capsuleId), port);
    const { authority } = request;
    return this.#ways.keep(request.headers, { authority, capsuleId, port, prefix, headers });
  }

  async #explain(asked: Asked, { error, agent, isKept }: Failed): Promise<Verdict> {
    const { request, capsuleId, port, triedAgent } = asked;
    const sandboxId = encodeId("capsule", capsuleId);
    if (error === "not-running") {
      this.#deps.placements.forget(capsuleId);
      try {
        const placement = await this.#deps.placements.of(capsuleId);
        const hasMoved = placement.agent?.address !== agent.address && triedAgent === undefined;
        // No guest has seen the request.
        if (hasMoved && isKept) return this.#forward({ ...asked, triedAgent: agent }, placement);
        return refuse(request, absent(asked, placement) ?? notFound(sandboxId));
      } catch (error) {
        return unavailable(request, error);
      }
    }
    const [status, message] = EXPLAINED[error];
    const about = status === 404 ? {} : { sandboxId, port };
    return refuse(request, { ...about, status, message });
  }

  #denied(asked: Asked, { isPrivate }: Placement): Answer | null {
    const { request, peer, capsuleId, port } = asked;
    if (port === ENVD_PORT) {
      const refusal = this.#deniedByEnvd(asked);
      return refusal === null ? null : refuse(request, refusal);
    }
    if (!isPrivate) return null;
    const origin = outsideOrigin(request, peer, this.#deps.proxies);
    const trafficToken = this.#deps.envdTokens.trafficOf(capsuleId);
    const access = accessTo(request, { port, origin, trafficToken });
    if (access === "granted") return null;
    if (typeof access !== "string") return access;
    const sandboxId = encodeId("capsule", capsuleId);
    return refuse(request, { status: 403, sandboxId, message: NO_ACCESS[access] });
  }

  #deniedByEnvd({ request, capsuleId }: Asked): Refusal | null {
    if (!isPublicEnvdRoute(request.target))
      return { status: 404, message: "There is no such route" };
    // A browser asks before it sends the token; envd answers that without doing anything.
    if (request.method === "OPTIONS") return null;
    const token = headerOf(request.headers, "x-access-token");
    if (token !== null && isSame(token, this.#deps.envdTokens.of(capsuleId))) return null;
    // envd checks the signature, which covers the path, the operation, the user and the time.
    if (token === null && isSignedUrl(request.target)) return null;
    return { status: 401, message: "The X-Access-Token header is missing or does not match" };
  }
}

/** What the agent says is wrong, if the response is its own. */
function errorOf(head: ResponseHead): ProxyError | undefined {
  const reported = headerOf(head.headers, PROXY_ERROR_HEADER);
  return PROXY_ERRORS.find((known) => known === reported);
}

const OF_OUR_CONCERN = new Set(["set-cookie", "location"]);

function worldHeaders(
  head: ResponseHead,
  { prefix, host }: { prefix: string; host: () => string },
): readonly Header[] {
  const headers = endToEnd(head.headers);
  if (!headers.some(({ key }) => OF_OUR_CONCERN.has(key))) return headers;
  return headers
    .filter((line) => !setsOwnCookie(line))
    .map((line) => withinHost(line, host))
    .map((line) => {
      const isOurs = line.key === "location" && line.value.startsWith(`${prefix}/`);
      return isOurs ? { ...line, value: line.value.slice(prefix.length) } : line;
    });
}

function absent({ capsuleId }: Asked, { status, agent }: Placement): Refusal | null {
  const sandboxId = encodeId("capsule", capsuleId);
  if (status !== null && TRANSITIONS.has(status)) {
    return { status: 409, sandboxId, message: "The sandbox is still transitioning" };
  }
  return status === "running" && agent !== null ? null : notFound(sandboxId);
}

/** While the database is away; anything else is a fault of ours. */
function unavailable(request: RequestHead, error: unknown): Answer {
  if (!isOutage(error)) throw error;
  return refuse(request, { status: 503, message: "Try again in a moment" });
}

function notFound(sandboxId: string): Refusal {
  return { status: 502, sandboxId, message: "The sandbox was not found" };
}

/** Of the agent itself; when it can't be reached, neither can its capsules. */
const FAILURES: Partial<Record<ForwardFailure, ProxyError>> = {
  silent: "silent",
  busy: "too-many",
  broken: "bad-response",
};

const EXPLAINED: Readonly<Record<Exclude<ProxyError, "not-running">, [number, string]>> = {
  stalled: [503, "The sandbox stands still until there is room on its host's disk"],
  "port-closed": [502, "The sandbox is running but port is not open"],
  "bad-response": [502, "The sandbox's server ended or broke the protocol before it answered"],
  silent: [504, "The sandbox's server did not answer in time"],
  "too-many": [429, "Too many connections to the sandbox"],
  "not-found": [404, "There is no such route"],
};

function isSignedUrl(target: string): boolean {
  const [path, query = ""] = target.split("?", 2);
  return path === "/files" && new URLSearchParams(query).has("signature");
}
