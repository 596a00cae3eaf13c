// HTTP to envd in one guest. The guest is hostile: it must not redirect the agent elsewhere, inflate
// a compressed body, send more than was asked for, or keep a call open for ever.

import type { UniversalClientFn, UniversalClientRequest } from "@connectrpc/connect/protocol";
import { ENVD_PORT } from "../../proto/envd-routes.ts";
import { AgentError } from "../errors.ts";

// Bun's own fetch options. `proxy: false` keeps HTTP_PROXY of the agent's environment out of calls to
// guests; `decompress: false` leaves gzip bombs closed; `timeout: false` takes off the limit of five
// minutes, since every call has its own. The type of `proxy` does not name `false`, hence `object`.
const FETCH_OPTIONS: object = { proxy: false, decompress: false, timeout: false };

export const TOKEN_HEADER = "X-Access-Token";

export interface GuestRequest {
  readonly method: "GET" | "POST";
  /** Path and query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | ReadableStream<Uint8Array>;
  readonly signal: AbortSignal;
}

export class GuestHttp {
  readonly baseUrl: string;
  readonly #token: string;

  constructor(options: { hostIp: string; port?: number; accessToken: string }) {
    this.baseUrl = `http://${options.hostIp}:${options.port ?? ENVD_PORT}`;
    this.#token = options.accessToken;
  }

  /** Answers with the response once its headers are there; throws what fetch throws. */
  async send(request: GuestRequest): Promise<Response> {
    const headers = new Headers({ [TOKEN_HEADER]: this.#token, ...request.headers });
    headers.set("Accept-Encoding", "identity");
    const response = await fetch(this.baseUrl + request.path, {
      ...FETCH_OPTIONS,
      method: request.method,
      headers,
      signal: request.signal,
      redirect: "error",
      ...(request.body === undefined ? {} : { body: request.body }),
    });
    if (response.headers.has("content-encoding")) {
      await response.body?.cancel();
      throw badAnswer("it is compressed although that was not accepted");
    }
    return response;
  }

  /** The same as Connect's HTTP client. Its messages are small, so they are sent in one piece. */
  readonly connectClient: UniversalClientFn = async (request) => {
    const { pathname } = new URL(request.url);
    const response = await this.send({
      method: "POST",
      path: pathname,
      headers: Object.fromEntries(request.header.entries()),
      body: await wholeBody(request),
      signal: request.signal ?? new AbortController().signal,
    });
    return {
      status: response.status,
      header: response.headers,
      body: response.body ? readChunks(response.body) : noChunks(),
      trailer: new Headers(),
    };
  };
}

/** The guest's answer breaks the protocol. */
export function badAnswer(why: string, cause?: unknown): AgentError {
  return new AgentError("unavailable", `The guest's answer is not usable: ${why}`, {
    subject: "guest",
    cause,
  });
}

/** The whole body as text; `unavailable` if it is longer than `bytesMax`. */
export async function readText(response: Response, bytesMax: number): Promise<string> {
  if (response.body === null) return "";
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for await (const chunk of readChunks(response.body)) {
    bytes += chunk.byteLength;
    if (bytes > bytesMax) throw badAnswer(`it is longer than ${bytesMax} bytes`);
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** The chunks of a body. Leaving the loop early closes the connection. */
export async function* readChunks(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
  const reader = body.getReader();
  let ended = false;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      ended = done;
      if (done) return;
      yield new Uint8Array(value.buffer as ArrayBuffer, value.byteOffset, value.byteLength);
    }
  } finally {
    // A body that failed or was aborted rejects here with the error that the reader has reported.
    if (!ended) await reader.cancel().catch(() => {});
  }
}

async function* noChunks(): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {}

async function wholeBody(request: UniversalClientRequest): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of request.body ?? []) chunks.push(chunk);
  return Buffer.concat(chunks);
}
