// The agent's listener: the RPC service and /health.

import { type ConnectRouter, createConnectRouter } from "@connectrpc/connect";
import { createFetchHandler } from "@connectrpc/connect/protocol";
import { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import type { ListenAddress } from "../config.ts";
import { RPC_MESSAGE_BYTES_MAX } from "../limits.ts";
import { AGENT_VERSION } from "../version.ts";
import { type HostAgentDeps, hostAgentService } from "./host-agent-service.ts";

export interface RpcServer {
  /** Where it listens: the port may have been 0. */
  readonly address: string;
  /** Lets calls under way end, up to the time given, then cuts them off. */
  stop(graceMs: number): Promise<void>;
}

/** Listens; throws if the address is taken. */
export function startRpcServer(listen: ListenAddress, deps: HostAgentDeps): RpcServer {
  const router: ConnectRouter = createConnectRouter({
    grpc: false,
    grpcWeb: false,
    acceptCompression: [],
    readMaxBytes: RPC_MESSAGE_BYTES_MAX,
  });
  router.service(HostAgentService, hostAgentService(deps));
  const handlers = new Map(router.handlers.map((h) => [h.requestPath, createFetchHandler(h)]));

  const server = Bun.serve({
    hostname: listen.host,
    port: listen.port,
    // Commands print nothing for as long as they like; each call has its own deadline.
    idleTimeout: 0,
    // A stream of file chunks has no bound of its own here; messages have.
    maxRequestBodySize: Number.MAX_SAFE_INTEGER,
    async fetch(request) {
      const { pathname } = new URL(request.url);
      const handler = handlers.get(pathname);
      if (handler) return await handler(request);
      if (pathname === "/health" && request.method === "GET") {
        return Response.json({ status: "ok", version: AGENT_VERSION });
      }
      return new Response("Not found\n", { status: 404 });
    },
  });
  return {
    address: `${server.hostname}:${server.port}`,
    async stop(graceMs) {
      const { promise: late, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, graceMs);
      await Promise.race([server.stop(), late]);
      clearTimeout(timer);
      await server.stop(true);
    },
  };
}
