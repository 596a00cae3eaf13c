// Clients of the agents' RPC service: binary Connect over HTTP/1.1.

import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import type { UniversalClientRequest, UniversalClientResponse } from "@connectrpc/connect/protocol";
import { createTransport } from "@connectrpc/connect/protocol-connect";
import { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import { type AgentCallOutcome, observeCalls } from "./call-observer.ts";
import { ANSWER_BYTES_MAX, CLIENTS_MAX, STREAM_IDLE_TIMEOUT_MS } from "./limits.ts";

export type AgentClient = Client<typeof HostAgentService>;

const UNARY_CONTENT_TYPE = "application/proto";

/** One client per agent address. Calls state their own timeout. */
export class AgentClients {
  readonly #clients = new Map<string, AgentClient>();
  readonly #interceptors: Interceptor[];

  /** `observe` is told of every call at its end. */
  constructor(observe?: (call: AgentCallOutcome) => void) {
    this.#interceptors = observe === undefined ? [] : [observeCalls(observe)];
  }

  /** The client of the agent at `ip:port`. */
  at(address: string): AgentClient {
    const known = this.#clients.get(address);
    if (known !== undefined) return known;

    if (this.#clients.size >= CLIENTS_MAX) this.#clients.clear();
    const client = createClient(
      HostAgentService,
      agentTransport(`http://${address}`, this.#interceptors),
    );
    this.#clients.set(address, client);
    return client;
  }
}

/** Connect over fetch, with client streams, which connect-web's transport refuses. */
export function agentTransport(baseUrl: string, interceptors: Interceptor[] = []): Transport {
  return createTransport({
    baseUrl,
    httpClient: fetchClient,
    useBinaryFormat: true,
    interceptors,
    acceptCompression: [],
    sendCompression: null,
    compressMinBytes: Number.MAX_SAFE_INTEGER,
    readMaxBytes: ANSWER_BYTES_MAX,
    writeMaxBytes: ANSWER_BYTES_MAX,
  });
}

async function fetchClient(request: UniversalClientRequest): Promise<UniversalClientResponse> {
  const isUnary = request.header.get("content-type") === UNARY_CONTENT_TYPE;
  const response = await fetch(request.url, {
    method: request.method,
    headers: request.header,
    body: await requestBody(request.body, isUnary),
    redirect: "error",
    // Bun drops a connection that is silent for 5 minutes; a command may print nothing for longer.
    // Unary calls end by their own deadline.
    timeout: isUnary ? false : STREAM_IDLE_TIMEOUT_MS,
    ...(request.signal === undefined ? {} : { signal: request.signal }),
  });
  return {
    status: response.status,
    header: response.headers,
    body: iterate(response.body),
    trailer: new Headers(),
  };
}

/** A unary request goes out as one block: a streamed body costs a chunked encoding. */
async function requestBody(
  body: AsyncIterable<Uint8Array> | undefined,
  isUnary: boolean,
): Promise<Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array> | null> {
  if (body === undefined) return null;
  if (!isUnary) return streamOf(body);
  return new Uint8Array(await new Response(streamOf(body)).arrayBuffer());
}

function streamOf(body: AsyncIterable<Uint8Array>): ReadableStream<Uint8Array> {
  const iterator = body[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const next = await iterator.next();
      if (next.done === true) controller.close();
      else controller.enqueue(next.value);
    },
    async cancel(reason) {
      await iterator.throw?.(reason).catch(() => {});
    },
  });
}

/** Connect ends a response early by `throw`, which a stream's own iterator lacks. */
function iterate(stream: ReadableStream<Uint8Array> | null): AsyncIterable<Uint8Array> {
  const reader = stream?.getReader();
  const iterator: AsyncIterator<Uint8Array> = {
    async next() {
      const read = await reader?.read();
      return read === undefined || read.done
        ? { done: true, value: undefined }
        : { done: false, value: read.value };
    },
    async return() {
      await reader?.cancel();
      return { done: true, value: undefined };
    },
    async throw(reason) {
      await reader?.cancel(reason);
      return { done: true, value: undefined };
    },
  };
  return { [Symbol.asyncIterator]: () => iterator };
}
