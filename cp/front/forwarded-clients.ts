// Clients behind a trusted proxy share its connections, so their requests are counted instead.

import { Admission } from "../../proto/http1/admission.ts";
import type { RequestHead } from "../../proto/http1/head.ts";
import type { FrontLimits } from "../../proto/http1/listener.ts";
import {
  isForward,
  isServe,
  type Peer,
  type Router,
  type Routing,
} from "../../proto/http1/verdict.ts";
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
  ): Routing | Promise<Routing> {
    const entry = this.#admission.admit(client);
    if (typeof entry === "string") return refuseRequest(429, TOO_MANY, request);
    return hold(entry, () => router(request, peer));
  }
}

/** What is asked for; the entry is held until the request is over. */
function hold(
  entry: Disposable,
  ask: () => Routing | Promise<Routing>,
): Routing | Promise<Routing> {
  const done = (routing: Routing): Routing => {
    if (isForward(routing) || isServe(routing)) {
      return { ...routing, lease: both(entry, routing.lease) };
    }
    entry[Symbol.dispose]();
    return routing;
  };
  const failed = (error: unknown): never => {
    entry[Symbol.dispose]();
    throw error;
  };
  try {
    const routing = ask();
    return routing instanceof Promise ? routing.then(done, failed) : done(routing);
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
