// WebSocket routes: HTTP only. A client that can send headers is known by them; one that cannot, a
// browser, says who it is in its first message. Anything but an upgrade needs credentials like any
// other route.

import type { Server } from "bun";
import { Elysia, t } from "elysia";
import type { Credentials } from "../auth/authenticator.ts";
import { type AuthDeps, authPlugin, teamOf } from "../auth/plugin.ts";
import { clientAddress } from "../client-address.ts";
import { impliedUser, isCompat } from "../compat.ts";
import { AppError } from "../errors.ts";
import { errors } from "../openapi/error-schema.ts";
import { serveExec, serveProcess } from "./process-session.ts";
import { CapsuleParams, ProcessParams, StreamQuery } from "./schema.ts";
import type { StreamRequest, Streams } from "./service.ts";
import type { StreamSocket } from "./socket.ts";
import { serveTerminal } from "./terminal-session.ts";

export interface StreamRouteDeps extends AuthDeps {
  readonly streams: Streams;
}

type Asked = Omit<StreamRequest, "address" | "authenticate">;

/** RFC 6455; of others the server itself would answer. */
const WEBSOCKET_VERSION = "13";

const RESPONSES = {
  101: t.Void({ description: "A WebSocket." }),
  ...errors("unauthorized", "forbidden", "invalid_request", "service_unavailable"),
};

export function streamRoutes(deps: StreamRouteDeps) {
  const { streams } = deps;
  const ofTeam = teamOf(deps);
  const authenticate = (credentials: Credentials) => ofTeam(credentials, { scope: "exec" });
  const upgrade = (context: UpgradeContext, request: Asked) => {
    const { server, request: http } = context;
    const version = http.headers.get("sec-websocket-version");
    if (version !== null && version !== WEBSOCKET_VERSION) {
      throw new AppError("invalid_request", `sec-websocket-version: must be ${WEBSOCKET_VERSION}`);
    }
    const address = clientAddress(http, server);
    const socket = streams.accept({ ...request, authenticate, address });
    if (server?.upgrade(http, { data: socket }) === true) return;
    streams.drop(socket);
    throw new AppError("invalid_request", "this route takes a WebSocket upgrade only");
  };
  return new Elysia({ prefix: "/capsules", tags: ["streams"] })
    .use(authPlugin(deps))
    .get(
      "/:id/exec/stream",
      ({ caller, params: { id }, query: { encoding = "utf-8" }, server, request }) =>
        upgrade(
          { server, request },
          {
            ...{ caller, id },
            serve: (socket, running) =>
              serveExec(socket, running, { encoding, impliedUser: impliedUser(request) }),
          },
        ),
      {
        teamOrUpgrade: "exec",
        params: CapsuleParams,
        query: StreamQuery,
        response: RESPONSES,
        detail: { summary: "Run a command and stream what it prints", description: EXEC },
      },
    )
    .get(
      "/:id/processes/:selector/stream",
      ({ caller, params, query: { encoding = "utf-8" }, server, request }) => {
        const options = { selector: params.selector, encoding };
        return upgrade(
          { server, request },
          {
            caller,
            id: params.id,
            serve: (socket, running) => serveProcess(socket, running, options),
          },
        );
      },
      {
        teamOrUpgrade: "exec",
        params: ProcessParams,
        query: StreamQuery,
        response: RESPONSES,
        detail: { summary: "Stream what a process prints from now on", description: PROCESS },
      },
    )
    .get(
      "/:id/pty",
      ({ caller, params: { id }, server, request }) =>
        upgrade(
          { server, request },
          {
            ...{ caller, id, takesBinary: true },
            serve: (socket, running) =>
              serveTerminal(socket, running, {
                frames: isCompat(request) ? "json" : "binary",
                impliedUser: impliedUser(request),
              }),
            pingMessage: { type: "ping" },
            errorFields: { fatal: true },
          },
        ),
      {
        teamOrUpgrade: "exec",
        params: CapsuleParams,
        response: RESPONSES,
        detail: { summary: "Start a terminal, or attach to one", description: TERMINAL },
      },
    );
}

interface UpgradeContext {
  readonly server: Pick<Server<StreamSocket>, "upgrade" | "requestIP"> | null;
  readonly request: Request;
}

const AUTH = `Without credentials in headers the first message must be
\`{"type":"auth","token":"<jwt>"}\`, within 5 s.`;

const EXEC = `WebSocket with JSON messages. ${AUTH}

Client: \`{"type":"start","cmd","args"?,"envs"?,"cwd"?,"user"?,"timeout_sec"?}\` first; later
\`{"type":"stop"}\`, which kills the command's process group. A client that goes away leaves it running.

Server: \`{"type":"start","pid"}\`, \`{"type":"stdout","data"}\`, \`{"type":"stderr","data"}\`,
\`{"type":"exit","exit_code"}\`, \`{"type":"error","data","code","reason","retryable"}\`.`;

const PROCESS = `WebSocket with JSON messages. ${AUTH}

Server: as of \`exec/stream\`. The client's messages are ignored.`;

const TERMINAL = `WebSocket: binary messages are the terminal's bytes, both ways; JSON messages are the rest. ${AUTH}

Client: first \`{"type":"start","cmd"?,"args"?,"cols"?,"rows"?,"envs"?,"cwd"?,"user"?}\` or
\`{"type":"connect","tag","scrollback"?}\`; then what is typed, also as
\`{"type":"input","data":"<base64>"}\`, \`{"type":"resize","cols","rows"}\`, \`{"type":"kill"}\`.

Server: \`{"type":"started","tag","pid"}\`, then what the terminal prints, after \`connect\` with
\`"scrollback":true\` what it printed before first (below \`/compat/0.1\` as
\`{"type":"output","data":"<base64>"}\`), \`{"type":"exit","exit_code"}\`,
\`{"type":"error","data","code","reason","retryable","fatal"?}\`,
and \`{"type":"ping"}\` every 30 s. A client that goes away
leaves the terminal running.`;
