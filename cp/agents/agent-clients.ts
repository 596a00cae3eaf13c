// Clients of the agents' RPC service: binary Connect over HTTP/1.1. Each call names the host that it is for.

import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import type { UniversalClientRequest, UniversalClientResponse } from "@connectrpc/connect/protocol";
import { codeFromString, createTransport } from "@connectrpc/connect/protocol-connect";
import { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import { askFor } from "../../proto/hostagent/asked-host.ts";
import type { ClientTls, TlsIdentity } from "../../proto/http1/tls.ts";
import { clientOptions } from "../../proto/http1/tls-wire.ts";
import { encodeId, type Id } from "../../proto/ids.ts";
import { NoAgent } from "./agent-errors.ts";
import { type AgentCallOutcome, observeCalls } from "./call-observer.ts";
import { type AnswerTaker, answerTaker, HeldAnswers } from "./held-answers.ts";
import { ANSWER_BYTES_MAX, CLIENTS_MAX, STREAM_IDLE_TIMEOUT_MS } from "./limits.ts";
import { Silence } from "./silence.ts";

export type AgentClient = Client<typeof HostAgentService>;

const UNARY_CONTENT_TYPE = "application/proto";
const ANSWER_CONTENT_TYPES = new Set([UNARY_CONTENT_TYPE, "application/connect+proto"]);
/** An agent's are sentences. */
const ERROR_BYTES_MAX = 64 * 1024;

/** A host and its agent. */
export interface AgentOfHost {
  /** Null: whichever host it is. */
  readonly id: Id<"host"> | null;
  /** Where it listens, `ip:port`. */
  readonly address: string;
  /** In its certificate: nothing else that has the address is called. */
  readonly certName: string;
}

/** One client per host and address. Calls state their own timeout. */
export class AgentClients {
  readonly #clients = new Map<string, AgentClient>();
  readonly #interceptors: Interceptor[];
  /** What is held of the answers. */
  readonly held = new HeldAnswers();

  readonly #identity: () => TlsIdentity;

  /** `identity` is what agents are shown; `observe` is told of every call at its end. */
  constructor(identity: () => TlsIdentity, observe?: (call: AgentCallOutcome) => void) {
    this.#identity = identity;
    this.#interceptors = observe === undefined ? [] : [observeCalls(observe)];
  }

  /** The client of the host's agent: `unavailable` when another one answers there. */
  at({ id, address, certName }: AgentOfHost): AgentClient {
    const key = `${id} ${address} ${certName}`;
    const known = this.#clients.get(key);
    if (known !== undefined) return known;

    if (this.#clients.size >= CLIENTS_MAX) this.#clients.clear();
    const asked = id === null ? [] : [askFor(encodeId("host", id))];
    const interceptors = [...this.#interceptors, ...asked];
    const tls = { identity: this.#identity, serverName: certName };
    const client = createClient(HostAgentService, agentTransport({ address, tls, interceptors }));
    this.#clients.set(key, client);
    return client;
  }
}

/**
 * Connect over fetch, with client streams, which connect-web's transport refuses. A stream whose agent
 * moves nothing for `streamIdleMs` fails with `unavailable`; unary calls end by their own deadline.
 */
export function agentTransport({
  address,
  tls,
  interceptors = [],
  streamIdleMs = STREAM_IDLE_TIMEOUT_MS,
}: {
  address: string;
  tls: ClientTls;
  interceptors?: Interceptor[];
  streamIdleMs?: number;
}): Transport {
  return createTransport({
    baseUrl: `https://${address}`,
    httpClient: (request) => {
      const isUnary = request.header.get("content-type") === UNARY_CONTENT_TYPE;
      return isUnary ? sendUnary(request, tls) : sendStream(request, { tls, streamIdleMs });
    },
    useBinaryFormat: true,
    interceptors,
    acceptCompression: [],
    sendCompression: null,
    compressMinBytes: Number.MAX_SAFE_INTEGER,
    readMaxBytes: ANSWER_BYTES_MAX,
    writeMaxBytes: ANSWER_BYTES_MAX,
  });
}

/** A unary request goes out as one block: a streamed body costs a chunked encoding. */
async function sendUnary(
  request: UniversalClientRequest,
  tls: ClientTls,
): Promise<UniversalClientResponse> {
  const { body, signal } = request;
  const block = body && new Uint8Array(await new Response(streamOf(body)).arrayBuffer());
  const taker = answerTaker();
  const response = await send(request, block ?? null, { tls, signal });
  return answerOf(response, iterate(response.body, { taker }));
}

async function sendStream(
  request: UniversalClientRequest,
  { tls, streamIdleMs }: { tls: ClientTls; streamIdleMs: number },
): Promise<UniversalClientResponse> {
  const silence = new Silence(streamIdleMs);
  const signals = [silence.signal, ...(request.signal === undefined ? [] : [request.signal])];
  const body = request.body === undefined ? null : streamOf(request.body, silence);
  silence.begin();
  try {
    const response = await send(request, body, { tls, signal: AbortSignal.any(signals) });
    return answerOf(response, iterate(response.body, { silence }));
  } catch (error) {
    throw silence.signal.aborted ? silence.signal.reason : error;
  } finally {
    silence.end();
  }
}

async function send(
  { url, method, header }: UniversalClientRequest,
  body: ReadableStream<Uint8Array> | Uint8Array<ArrayBuffer> | null,
  { tls, signal }: { tls: ClientTls; signal: AbortSignal | undefined },
): Promise<Response> {
  const options = {
    ...{ method, headers: header, body },
    redirect: "manual",
    // Bun uses a connection again for those options that are equal, whose certificate had the name.
    tls: clientOptions(tls),
    // Without it Bun drops a connection that is silent for 5 minutes; commands may be.
    timeout: false,
  } as const;
  return await ofAgent(await fetch(url, signal === undefined ? options : { ...options, signal }));
}

/**
 * The response, if it can be an agent's. Something on the way, or another server that has the address now, says
 * nothing about a capsule, whatever its status means elsewhere.
 */
async function ofAgent(response: Response): Promise<Response> {
  const { status, headers } = response;
  if (status === 200) {
    if (ANSWER_CONTENT_TYPES.has(headers.get("content-type") ?? "")) return response;
    await response.body?.cancel();
    throw new NoAgent(status);
  }
  const text = await beginningOf(response, ERROR_BYTES_MAX);
  if (!isConnectError(text)) throw new NoAgent(status);
  return new Response(text, { status, headers });
}

async function beginningOf(response: Response, bytesMax: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    if (bytes > bytesMax) break;
  }
  return Buffer.concat(chunks).subarray(0, bytesMax).toString("utf8");
}

/** A code in words is what proxies' own JSON does not have. */
function isConnectError(text: string): boolean {
  try {
    const error: unknown = JSON.parse(text);
    if (typeof error !== "object" || error === null || !("code" in error)) return false;
    return codeFromString(String(error.code)) !== undefined;
  } catch {
    return false;
  }
}

function answerOf(
  { status, headers }: Response,
  body: AsyncIterable<Uint8Array>,
): UniversalClientResponse {
  return { status, header: headers, body, trailer: new Headers() };
}

function streamOf(body: AsyncIterable<Uint8Array>, silence?: Silence): ReadableStream<Uint8Array> {
  const iterator = body[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      silence?.end();
      const next = await iterator.next();
      if (next.done === true) controller.close();
      else controller.enqueue(next.value);
      silence?.begin();
    },
    async cancel(reason) {
      await iterator.throw?.(reason).catch(() => {});
    },
  });
}

/** Connect ends a response early by `throw`, which a stream's own iterator lacks. */
function iterate(
  stream: ReadableStream<Uint8Array> | null,
  { silence, taker }: { silence?: Silence; taker?: AnswerTaker | undefined },
): AsyncIterable<Uint8Array> {
  const reader = stream?.getReader();
  const end = async (reason?: unknown) => {
    silence?.end();
    await reader?.cancel(reason);
    return { done: true, value: undefined } as const;
  };
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      silence?.begin();
      try {
        const read = await reader?.read();
        if (read === undefined || read.done) return { done: true, value: undefined };
        taker?.held.take(read.value.byteLength * taker.factor);
        return { done: false, value: read.value };
      } catch (error) {
        // Also for an answer that there is no room for: the rest of it is not wanted.
        void reader?.cancel().catch(() => {});
        throw silence?.signal.aborted ? silence.signal.reason : error;
      } finally {
        silence?.end();
      }
    },
    return: () => end(),
    throw: end,
  };
  return { [Symbol.asyncIterator]: () => iterator };
}
