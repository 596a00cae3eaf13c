// The one port of envd: which request goes where, and who may send it.
import type { Server } from "bun";
import { EnvdError } from "./errors.ts";
import { composeFiles } from "./files/compose.ts";
import { readFile } from "./files/read.ts";
import type { FilesDeps } from "./files/write.ts";
import { writeFiles } from "./files/write.ts";
import { type InitDeps, init } from "./init/route.ts";
import {
  FREEZE_WAIT_MS,
  FREEZE_WAIT_MS_MAX,
  IDLE_TIMEOUT_SECONDS,
  JSON_BODY_BYTES_MAX,
  TRANSFER_IDLE_SECONDS,
  UPLOAD_BYTES_MAX,
} from "./limits.ts";
import type { MetricsSampler } from "./metrics/sampler.ts";
import type { Cgroups } from "./process/cgroups.ts";
import type { Settings } from "./settings.ts";
import { ENVD_VERSION } from "./version.ts";

export type RpcHandler = (request: Request) => Promise<Response>;

export interface ServerDeps extends FilesDeps, InitDeps {
  readonly sampler: MetricsSampler;
  /** Handlers by path, `/process.Process/Start` and so on. */
  readonly rpc: ReadonlyMap<string, RpcHandler>;
  /** Addresses that may use the control routes: the host's end of the network. */
  readonly controlPeers: ReadonlySet<string>;
  readonly log: (message: string, fields: Record<string, unknown>) => void;
}

type Access = "open" | "signed" | "control" | "token";

interface Route {
  readonly access: Access;
  readonly handle: (request: Request, deps: ServerDeps) => Response | Promise<Response>;
}

/** Paths match exactly: `/filesystem.Filesystem/…` also begins with `/files`. */
const ROUTES: Readonly<Record<string, Readonly<Record<string, Route>>>> = {
  "/health": { GET: { access: "open", handle: health } },
  "/metrics": { GET: { access: "token", handle: (_, deps) => Response.json(deps.sampler.read()) } },
  "/envs": { GET: { access: "token", handle: (_, deps) => Response.json(deps.settings.envVars) } },
  "/files": {
    GET: { access: "signed", handle: readFile },
    HEAD: { access: "signed", handle: readFile },
    POST: { access: "signed", handle: writeFiles },
  },
  "/freeze": { POST: { access: "control", handle: freeze } },
  "/unfreeze": { POST: { access: "control", handle: unfreeze } },
  "/files/compose": { POST: { access: "token", handle: handleCompose } },
  "/init": { POST: { access: "control", handle: handleInit } },
};

const CORS = {
  "access-control-allow-origin": "*",
  "access-control-expose-headers": "*",
};

const CORS_PREFLIGHT = {
  ...CORS,
  "access-control-allow-methods": "HEAD, GET, POST, PUT, PATCH, DELETE",
  "access-control-max-age": "7200",
};

/** Serves until the returned server is stopped. */
export function serve(
  deps: ServerDeps,
  listen: { hostname: string; port: number },
): Server<undefined> {
  return Bun.serve({
    ...listen,
    idleTimeout: IDLE_TIMEOUT_SECONDS,
    maxRequestBodySize: UPLOAD_BYTES_MAX,
    development: false,
    async fetch(request, server) {
      const peer = server.requestIP(request)?.address ?? "";
      const response = await respond(request, { deps, peer, server });
      for (const [name, value] of Object.entries(CORS)) response.headers.set(name, value);
      return response;
    },
    error(error) {
      deps.log("request failed", { error: String(error) });
      return errorResponse(new EnvdError("internal", "internal error"));
    },
  });
}

interface Context {
  readonly deps: ServerDeps;
  readonly peer: string;
  readonly server: Server<undefined>;
}

async function respond(request: Request, context: Context): Promise<Response> {
  const { deps } = context;
  const { pathname } = new URL(request.url);
  try {
    if (request.method === "OPTIONS") return preflight(request);
    const rpc = deps.rpc.get(pathname);
    if (rpc !== undefined) {
      if (!hasToken(request, deps.settings)) return rpcRefusal();
      // Streams are silent for as long as their process is.
      context.server.timeout(request, 0);
      return await rpc(request);
    }
    const route = routeOf(pathname, request.method);
    admit(route, request, context);
    if (route.access === "signed") context.server.timeout(request, TRANSFER_IDLE_SECONDS);
    return await route.handle(request, deps);
  } catch (error) {
    if (error instanceof EnvdError) return errorResponse(error);
    deps.log("request failed", { path: pathname, error: String(error) });
    return errorResponse(new EnvdError("internal", "internal error"));
  }
}

function routeOf(pathname: string, method: string): Route {
  const methods = Object.hasOwn(ROUTES, pathname) ? ROUTES[pathname] : undefined;
  if (methods === undefined) throw new EnvdError("not_found", `no route '${pathname}'`);
  const route = methods[method];
  if (route === undefined) {
    throw new EnvdError("method_not_allowed", `'${pathname}' does not take ${method}`);
  }
  return route;
}

function admit(route: Route, request: Request, context: Context): void {
  switch (route.access) {
    case "open":
    case "signed":
      return;
    case "token":
      requireToken(request, context.deps.settings);
      return;
    case "control":
      if (context.deps.controlPeers.has(context.peer)) return;
      throw new EnvdError("permission_denied", "control routes answer the host only");
  }
}

function hasToken(request: Request, settings: Settings): boolean {
  return settings.token === null || settings.isToken(request.headers.get("x-access-token"));
}

function requireToken(request: Request, settings: Settings): void {
  if (!hasToken(request, settings)) throw unauthorized();
}

function unauthorized(): EnvdError {
  return new EnvdError(
    "unauthenticated",
    "unauthorized access, please provide a valid access token",
  );
}

/** RPC clients read the code as a word, others as the status number. */
function rpcRefusal(): Response {
  const { httpStatus, rawMessage } = unauthorized();
  return Response.json({ code: "unauthenticated", message: rawMessage }, { status: httpStatus });
}

/** Tells the guest's time as well, by which the host knows how far its clock is off. */
function health(): Response {
  const headers = { "cache-control": "no-store", "x-envd-time-ms": String(Date.now()) };
  return Response.json({ version: ENVD_VERSION }, { headers });
}

async function handleInit(request: Request, deps: ServerDeps): Promise<Response> {
  const newestNs = await init(await jsonBody(request), request.headers, deps);
  const headers = new Headers({ "x-envd-version": ENVD_VERSION });
  if (newestNs !== null) headers.set("x-envd-newest-ns", String(newestNs));
  return new Response(null, { status: 204, headers });
}

async function handleCompose(request: Request, deps: ServerDeps): Promise<Response> {
  return Response.json(await composeFiles(await jsonBody(request), deps));
}

async function freeze(request: Request, deps: ServerDeps): Promise<Response> {
  requireToken(request, deps.settings);
  const text = new URL(request.url).searchParams.get("maxWaitMs");
  const timeoutMs = text === null ? FREEZE_WAIT_MS : Number(text);
  if (!Number.isInteger(timeoutMs) || timeoutMs < 0 || timeoutMs > FREEZE_WAIT_MS_MAX) {
    throw new EnvdError("invalid_argument", `maxWaitMs: must be 0 to ${FREEZE_WAIT_MS_MAX}`);
  }
  await cgroupsOf(deps).freeze(timeoutMs);
  return new Response(null, { status: 204 });
}

function unfreeze(request: Request, deps: ServerDeps): Response {
  requireToken(request, deps.settings);
  cgroupsOf(deps).thaw();
  return new Response(null, { status: 204 });
}

function cgroupsOf({ cgroups }: ServerDeps): Cgroups {
  if (cgroups !== null) return cgroups;
  throw new EnvdError("failed_precondition", "this guest has no control groups");
}

/** The parsed body, `{}` when there is none; invalid_argument or too_large otherwise. */
async function jsonBody(request: Request): Promise<unknown> {
  const text = await smallBody(request);
  if (text === "") return {};
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new EnvdError("invalid_argument", "body: is no valid JSON", { cause: error });
  }
}

/**
 * A body that says how long it is comes at once: a stream of it is a lot of code, and a guest that was just
 * restored has all of it translated anew where the processor is emulated.
 */
async function smallBody(request: Request): Promise<string> {
  const { headers } = request;
  const length = Number(headers.get("content-length") ?? Number.NaN);
  if (length <= JSON_BODY_BYTES_MAX && !headers.has("transfer-encoding")) return request.text();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.length;
    if (bytes > JSON_BODY_BYTES_MAX) {
      throw new EnvdError("too_large", `body: is longer than ${JSON_BODY_BYTES_MAX} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function preflight(request: Request): Response {
  const requested = request.headers.get("access-control-request-headers") ?? "*";
  return new Response(null, {
    status: 204,
    headers: { ...CORS_PREFLIGHT, "access-control-allow-headers": requested },
  });
}

function errorResponse(error: EnvdError): Response {
  const { httpStatus, rawMessage } = error;
  return Response.json({ code: httpStatus, message: rawMessage }, { status: httpStatus });
}
