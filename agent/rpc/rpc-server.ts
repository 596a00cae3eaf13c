// The agent's listener, for control planes and nobody else: requests for servers in guests go to those, the rest to
// the RPC service, which answers on a socket of its own behind it.

import { closeSync, constants, openSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type ConnectRouter, createConnectRouter } from "@connectrpc/connect";
import { createFetchHandler } from "@connectrpc/connect/protocol";
import { listenFailure } from "../../proto/address-failure.ts";
import { answerInScope } from "../../proto/answer-scope.ts";
import { CONTROL_PLANE_NAME } from "../../proto/certificates/names.ts";
import { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import { answerFor } from "../../proto/hostagent/asked-host.ts";
import { header, type RequestHead } from "../../proto/http1/head.ts";
import { endToEnd } from "../../proto/http1/hop.ts";
import { Front, type FrontLimits } from "../../proto/http1/listener.ts";
import type { TlsIdentity } from "../../proto/http1/tls.ts";
import { UpstreamPool } from "../../proto/http1/upstream-pool.ts";
import type { Forward } from "../../proto/http1/verdict.ts";
import { openFilesMax } from "../../proto/open-files.ts";
import type { ListenAddress } from "../config.ts";
import { frontLimits, RPC_MESSAGE_BYTES_MAX } from "../limits.ts";
import { GuestRouter } from "../proxy/guest-router.ts";
import { type HostAgentDeps, hostAgentService } from "./host-agent-service.ts";

const SOCKET_NAME = "rpc.sock";
// Commands print nothing for as long as they like; each call has its own deadline. Bun obeys this on a
// unix socket, too, but its types do not know it there.
const NO_IDLE_TIMEOUT: object = { idleTimeout: 0 };

export interface RpcServer {
  /** Where it listens: the port may have been 0. */
  readonly address: string;
  /** Lets calls under way end, up to the time given, then cuts them off. */
  stop(graceMs: number): Promise<void>;
}

export interface RpcServerDeps extends HostAgentDeps {
  /** What callers are shown; for each connection anew. */
  readonly identity: () => TlsIdentity;
  /** A directory that only root may enter. */
  readonly socketDir: string;
  /** Which one this is, in the external form. */
  readonly hostId: string;
}

/** Listens; throws a sentence if the address is taken. */
export async function startRpcServer(
  listen: ListenAddress,
  deps: RpcServerDeps,
): Promise<RpcServer> {
  await rm(join(deps.socketDir, SOCKET_NAME), { force: true });
  // The path of a unix socket holds 107 bytes (unix(7)); by its open directory it is always short.
  const dirFd = openSync(deps.socketDir, constants.O_RDONLY | constants.O_DIRECTORY);
  const socketPath = `/proc/self/fd/${dirFd}/${SOCKET_NAME}`;
  const rpc = serveRpc(socketPath, deps);
  const guests = new GuestRouter(deps.capsules);
  const limits = frontLimits(openFilesMax());
  const pool = rpcPool(socketPath, limits);
  const front = new Front({
    router: (request) => guests.route(request) ?? toRpc(request, pool),
    limits,
    failed: (error) => deps.log.error("proxy.failed", { error }),
    tick: () => {
      pool.sweep();
      guests.sweep();
    },
  });
  const port = listenAt(front, listen, deps.identity);
  let stopped: Promise<void> | null = null;

  async function stop(graceMs: number): Promise<void> {
    await front.stop(graceMs);
    guests.close();
    pool.close();
    await rpc.stop(true);
    closeSync(dirFd);
  }

  return {
    address: `${listen.host}:${port}`,
    stop(graceMs) {
      stopped ??= stop(graceMs);
      return stopped;
    },
  };
}

function listenAt(
  front: Front,
  { host: hostname, port }: ListenAddress,
  identity: () => TlsIdentity,
): number {
  const tls = { identity, admits: (name: string) => name === CONTROL_PLANE_NAME };
  try {
    return front.listen({ hostname, port, tls });
  } catch (error) {
    throw listenFailure("WRENN_HOST_LISTEN_ADDR", `${hostname}:${port}`, error);
  }
}

function serveRpc(unix: string, deps: RpcServerDeps): Bun.Server<undefined> {
  const router: ConnectRouter = createConnectRouter({
    interceptors: [answerFor(deps.hostId)],
    grpc: false,
    grpcWeb: false,
    acceptCompression: [],
    readMaxBytes: RPC_MESSAGE_BYTES_MAX,
  });
  router.service(HostAgentService, hostAgentService(deps));
  const handlers = new Map(router.handlers.map((h) => [h.requestPath, createFetchHandler(h)]));

  return Bun.serve({
    unix,
    ...NO_IDLE_TIMEOUT,
    // A stream of file chunks has no bound of its own here; messages have.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    async fetch(request) {
      const { pathname } = new URL(request.url);
      const handler = handlers.get(pathname);
      if (handler) return await answerInScope(request.signal, () => handler(request));
      // Connect's own words, which tell it from what something on the way knows nothing of.
      return Response.json({ code: "unimplemented", message: "No such method" }, { status: 404 });
    },
  });
}

function rpcPool(unix: string, { connectionsMax }: FrontLimits): UpstreamPool {
  return new UpstreamPool({
    address: { unix },
    idleMax: connectionsMax,
    idleMs: 60_000,
    connectionsMax,
    retryAfterMs: [],
    dialTimeoutMs: 5_000,
    isFickle: false,
  });
}

function toRpc(request: RequestHead, pool: UpstreamPool): Forward {
  return {
    pool,
    target: request.target,
    headers: endToEnd(request.headers),
    idleTimeoutMs: null,
    respond: (head) => endToEnd(head.headers),
    explain: () => ({ status: 503, headers: [header("Connection", "close")], body: "" }),
  };
}
