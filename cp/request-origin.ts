// Which request the work that is being done was asked for by, for the record of who changed what. It follows
// the request through everything that it starts, so that nothing in between has to hand it on.

import { AsyncLocalStorage } from "node:async_hooks";
import type { Server } from "bun";
import { clientAddress } from "./client-address.ts";

interface Served {
  readonly request: Request;
  readonly requestId: string;
  server: Pick<Server<unknown>, "requestIP"> | null;
}

export interface RequestOrigin {
  readonly requestId: string;
  readonly address: string;
}

const served = new AsyncLocalStorage<Served>();

/** Serves a request as the origin of whatever is done for it. */
export function servedAsOrigin<T>(request: Request, requestId: string, serve: () => T): T {
  return served.run({ request, requestId, server: null }, serve);
}

/** Says by which server the request that is being served came; the application knows once it routes it. */
export function noteServer(server: Served["server"]): void {
  const store = served.getStore();
  if (store !== undefined) store.server = server;
}

/** Null where no request asked for it: a loop does it. */
export function requestOrigin(): RequestOrigin | null {
  const store = served.getStore();
  if (store === undefined) return null;
  const { request, requestId, server } = store;
  return { requestId, address: clientAddress(request, server) };
}
