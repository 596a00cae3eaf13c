// The WebSockets that are open: how many, for whom, and their end with the control plane's.

import { Admission } from "../../proto/http1/admission.ts";
import type { Credentials, GrantedCaller } from "../auth/authenticator.ts";
import type { OpenStreams } from "../auth/open-streams.ts";
import type { RunningCapsule } from "../capsules/find-on-host.ts";
import type { Capsules } from "../capsules/service.ts";
import { AppError } from "../errors.ts";
import type { Log } from "../log.ts";
import { parseId } from "../wire.ts";
import {
  AUTH_TIMEOUT_MS,
  SOCKETS_MAX,
  STRANGERS_MAX,
  STRANGERS_PER_ADDRESS_MAX,
} from "./limits.ts";
import { AuthMessage, messageReader } from "./schema.ts";
import { CLOSE, type ServerMessage, StreamSocket } from "./socket.ts";

const readAuth = messageReader(AuthMessage);

export interface StreamsDeps {
  readonly openStreams: OpenStreams;
  readonly capsules: Capsules;
  readonly log: Log;
}

export interface StreamRequest {
  /** Whom the request's headers showed; null when the client is to say so in its first message. */
  readonly caller: GrantedCaller | null;
  /** Whom such a message shows. */
  readonly authenticate: (credentials: Credentials) => Promise<GrantedCaller>;
  /** Of the client. */
  readonly address: string;
  /** Of the capsule, as the path has it. */
  readonly id: string;
  readonly serve: (socket: StreamSocket, running: RunningCapsule) => Promise<void>;
  readonly takesBinary?: boolean;
  readonly pingMessage?: ServerMessage;
  readonly errorFields?: Readonly<Record<string, unknown>>;
}

export class Streams {
  readonly #deps: StreamsDeps;
  readonly #open = new Set<StreamSocket>();
  readonly #strangers = new Admission({
    connectionsMax: STRANGERS_MAX,
    connectionsPerAddressMax: STRANGERS_PER_ADDRESS_MAX,
  });

  constructor(deps: StreamsDeps) {
    this.#deps = deps;
  }

  /**
   * The socket to upgrade the request with. Who the client is and whether the capsule runs is looked
   * into once it is open. Throws `service_unavailable` when there are too many, also of those that have not
   * said yet who they are.
   */
  accept(request: StreamRequest): StreamSocket {
    if (this.#open.size >= SOCKETS_MAX) {
      throw new AppError("service_unavailable", "too many streams are open: try again");
    }
    const entry = request.caller === null ? this.#strangers.admit(request.address) : null;
    if (typeof entry === "string") {
      throw new AppError("service_unavailable", "too many streams wait for credentials: try again");
    }
    const { takesBinary = false, pingMessage, errorFields } = request;
    const socket = new StreamSocket({
      serve: (open) => this.#serve(open, request, entry),
      takesBinary,
      log: this.#deps.log,
      ended: (ended) => {
        this.#open.delete(ended);
        entry?.[Symbol.dispose]();
      },
      ...(pingMessage === undefined ? {} : { pingMessage }),
      ...(errorFields === undefined ? {} : { errorFields }),
    });
    this.#open.add(socket);
    return socket;
  }

  /** Sends all clients away: the control plane ends. Their processes go on. */
  closeAll(): void {
    for (const socket of this.#open) socket.end(CLOSE.goingAway, "the server ends");
  }

  /** A request that was no upgrade after all. */
  drop(socket: StreamSocket): void {
    socket.end(CLOSE.failure, "no upgrade");
  }

  async #serve(
    socket: StreamSocket,
    request: StreamRequest,
    entry: Disposable | null,
  ): Promise<void> {
    const caller = request.caller ?? (await authenticate(socket, request));
    entry?.[Symbol.dispose]();
    const id = parseId("capsule", request.id, "id");
    const { openStreams } = this.#deps;
    using _ = openStreams.watch(caller, { isUse: true, end: (why) => socket.fail(why) });
    const ids = { id, teamId: caller.teamId, isActivity: true };
    await this.#deps.capsules.use(ids, (running) => request.serve(socket, running));
  }
}

async function authenticate(socket: StreamSocket, request: StreamRequest): Promise<GrantedCaller> {
  const message = await socket.receive(AUTH_TIMEOUT_MS);
  if (message?.type !== "auth") {
    throw new AppError("unauthorized", "the first message must be auth, with a token");
  }
  const authorization = `Bearer ${readAuth(message).token}`;
  const none = { apiKey: null, hostToken: null, session: null, csrf: null };
  return await request.authenticate({ ...none, authorization });
}
