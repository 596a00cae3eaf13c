// Listening, and stopping without dropping anybody.
//
// The application answers behind the front, which takes every connection, sends requests for ports of
// capsules to the agents and the rest there. So one address serves both, and what
// passes through to a guest is not touched by a web framework.

import { listenFailure } from "../proto/address-failure.ts";
import { Front } from "../proto/http1/listener.ts";
import { openFilesMax } from "../proto/open-files.ts";
import type { App } from "./app.ts";
import type { TrustedProxies } from "./client-address.ts";
import { ApiUpstream } from "./front/api-upstream.ts";
import { ForwardedClients } from "./front/forwarded-clients.ts";
import { frontLimits } from "./front/limits.ts";
import { refusalLog } from "./front/refusal-log.ts";
import { refuseRequest } from "./front/refusals.ts";
import { type TlsFiles, TlsListener } from "./front/tls-listener.ts";
import type { Log } from "./log.ts";
import type { ProxyRouter } from "./proxy/proxy-router.ts";
import { MESSAGE_BYTES_MAX } from "./streams/limits.ts";

/** Requests under way get this long after a signal; then their connections are cut. */
const SHUTDOWN_GRACE_MS = 30_000;
/** Bun's longest: a request that waits for a guest says nothing for a while. */
const IDLE_TIMEOUT_SEC = 255;
/** Each route has its own bound; a file that is streamed has that of the capsule's disk. */
const REQUEST_BODY_BYTES_MAX = 1024 ** 4;

export interface ServeOptions {
  readonly hostname: string;
  readonly port: number;
  readonly tls: (TlsFiles & { readonly listen: { hostname: string; port: number } }) | null;
  readonly proxy: ProxyRouter;
  readonly proxies: TrustedProxies;
  /** Called when a signal came: clients that would stay are sent away. */
  readonly stopping: () => void;
  /** Once a second. */
  readonly sweep: () => void;
  readonly log: Log;
}

/** Serves until SIGTERM or SIGINT, then until the requests under way are answered. */
export async function serveUntilSignal(app: App, options: ServeOptions): Promise<void> {
  const { log } = options;
  const signal = Promise.withResolvers<string>();
  for (const name of ["SIGTERM", "SIGINT"] as const) process.on(name, () => signal.resolve(name));

  // In the abstract namespace (unix(7)): it ends with the process, however that ends. It is as open to
  // this machine's users as a loopback address is.
  const unix = `\0wrenn-cp-${crypto.randomUUID()}`;
  // Bun obeys the idle timeout on a unix socket, too, but its types do not know it there.
  const idle: object = { idleTimeout: IDLE_TIMEOUT_SEC };
  const maxRequestBodySize = REQUEST_BODY_BYTES_MAX;
  // Offered only: what is sent says whether it is worth it.
  const websocket = { maxPayloadLength: MESSAGE_BYTES_MAX, perMessageDeflate: true };
  app.listen({ unix, maxRequestBodySize, websocket, development: false, ...idle });
  const { server } = app;
  if (server === null) throw new Error("unreachable: listen makes a server");
  await using front = openFront(app, unix, options);
  const tls = options.tls === null ? null : await TlsListener.open(front, options.tls);
  const port = await listened("WRENN_CP_LISTEN_ADDR", options, (at) => front.listen(at));
  const tlsPort =
    tls &&
    options.tls &&
    (await listened("WRENN_TLS_LISTEN_ADDR", options.tls.listen, (at) => tls.listen(at)));
  log.info("listening", {
    url: urlOf("http", options.hostname, port),
    ...(tlsPort === null ? {} : { tlsUrl: urlOf("https", options.hostname, tlsPort) }),
  });

  log.info("stopping", { signal: await signal.promise });
  options.stopping();
  tls?.stop();
  await front.stop(SHUTDOWN_GRACE_MS);
  await server.stop(true);
  log.info("stopped");
}

type Address = { readonly hostname: string; readonly port: number };

/** Throws a sentence that names the setting. */
async function listened(
  setting: string,
  { hostname, port }: Address,
  listen: (at: Address) => number | Promise<number>,
): Promise<number> {
  try {
    // Nothing else of the options, some of which would mean something there.
    return await listen({ hostname, port });
  } catch (error) {
    throw listenFailure(setting, `${hostname}:${port}`, error);
  }
}

function urlOf(scheme: string, hostname: string, port: number): string {
  return `${scheme}://${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}/`;
}

function openFront(
  { fetch }: Pick<App, "fetch">,
  unix: string,
  { proxy, proxies, sweep, log }: ServeOptions,
): Front {
  const limits = frontLimits(openFilesMax());
  const { connectionsMax } = limits;
  const api = new ApiUpstream({ unix, connectionsMax, fetch, proxies });
  const clients = new ForwardedClients(proxies, limits);
  return new Front({
    router: clients.limit((request, peer) => {
      return proxy.route(request, peer) ?? api.route(request, peer);
    }),
    limits,
    refuse: refuseRequest,
    answered: refusalLog(log),
    isForwarder: (address) => proxies.includes(address),
    failed: (error) => log.error("a request could not be routed", { error }),
    tick: () => {
      sweep();
      api.sweep();
    },
  });
}
