// Connect over HTTP/1.1: the handlers of the RPC services by their path.
import {
  ConnectError,
  type ConnectRouter,
  createConnectRouter,
  type Interceptor,
  type StreamResponse,
} from "@connectrpc/connect";
import { createFetchHandler } from "@connectrpc/connect/protocol";
import { Filesystem } from "../proto/gen/envd/filesystem_pb.js";
import { Process } from "../proto/gen/envd/process_pb.js";
import { filesystemService } from "./filesystem/service.ts";
import { type WatchDeps, watchService } from "./filesystem/watch-service.ts";
import { RPC_MESSAGE_BYTES_MAX } from "./limits.ts";
import { type ProcessServiceDeps, processService } from "./process/service.ts";
import type { RpcHandler } from "./server.ts";

export interface RpcDeps extends ProcessServiceDeps, WatchDeps {
  readonly log: (message: string, fields: Record<string, unknown>) => void;
}

/** The handlers of all methods. Errors of the services are sent as they are; others as internal. */
export function rpcHandlers(deps: RpcDeps): Map<string, RpcHandler> {
  const router: ConnectRouter = createConnectRouter({
    grpc: false,
    grpcWeb: false,
    readMaxBytes: RPC_MESSAGE_BYTES_MAX,
    interceptors: [logUnexpected(deps.log)],
  });
  router.service(Process, processService(deps));
  router.service(Filesystem, { ...filesystemService(deps), ...watchService(deps) });
  return new Map(
    router.handlers.map((handler) => [
      handler.requestPath,
      createFetchHandler(handler, { httpVersion: "1.1" }),
    ]),
  );
}

/** What is no answer to the client is "internal error" on the wire and has its reason in the log. */
function logUnexpected(log: RpcDeps["log"]): Interceptor {
  return (next) => async (request) => {
    const report = (error: unknown) => {
      // A client that leaves a stream ends it with nothing at all.
      if (error !== undefined && !(error instanceof ConnectError)) {
        log("rpc failed", { method: request.method.name, error: String(error) });
      }
      return error;
    };
    try {
      const response = await next(request);
      if (!response.stream) return response;
      return { ...response, message: watched(response.message, report) };
    } catch (error) {
      throw report(error);
    }
  };
}

async function* watched(
  messages: StreamResponse["message"],
  report: (error: unknown) => unknown,
): StreamResponse["message"] {
  try {
    yield* messages;
  } catch (error) {
    throw report(error);
  }
}
