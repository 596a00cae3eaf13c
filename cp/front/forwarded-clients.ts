// Clients behind a trusted proxy share its connections, so their requests are counted instead.

import { Admission } from "../../proto/http1/admission.ts";
import type { RequestHead } from "../../proto/http1/head.ts";
import type { FrontLimits } from "../../proto/http1/listener.ts";
import { isForward, type Peer, type Router, type Verdict } from "../../proto/http1/verdict.ts";
import type { TrustedProxies } from "../client-address.ts";
import { forwardedClient } from "../proxy/forwarded.ts";
import { refuseRequest } from "./refusals.ts";

const TOO_MANY = "There are too many requests from this address";

export class ForwardedClients {
  readonly #proxies: TrustedProxies;
  readonly #admission: Admission;

  constructor(proxies: TrustedProxies, limits: FrontLimits) {
    this.#proxies = proxies;
    this.#admission = new Admission(limits);
  }

  /** The router, for as many requests of one client at once as others have connections. */
  limit(router: Router): Router {
    return (request, peer) => {
      const client = forwardedClient(request, peer, this.#proxies);
      return client === null ? router(request, peer) : this.#count(router, request, peer, client);
    };
  }

  #count(
    router: Router,
    request: RequestHead,
    peer: Peer,
    client: string,
  ): Verdict | Promise<Verdict> {
    const entry = this.#admission.admit(client);
    if (typeof entry === "string") return refuseRequest(429, TOO_MANY, request);
    return hold(entry, () => router(request, peer));
  }
}

/** What is asked for; the entry is held until the request is over. */
function hold(
  entry: Disposable,
  ask: () => Verdict | Promise<Verdict>,
): Verdict | Promise<Verdict> {
  const done = (verdict: Verdict): Verdict => {
    if (isForward(verdict)) return { ...verdict, lease: both(entry, verdict.lease) };
    entry[Symbol.dispose]();
    return verdict;
  };
  const failed = (error: unknown): never => {
    entry[Symbol.dispose]();
    throw error;
  };
  try {
    const verdict = ask();
    return verdict instanceof Promise ? verdict.then(done, failed) : done(verdict);
  } catch (error) {
    return failed(error);
  }
}

function both(first: Disposable, second: Disposable | undefined): Disposable {
  return {
    [Symbol.dispose]() {
      second?.[Symbol.dispose]();
      first[Symbol.dispose]();
    },
  };
}
