// Requests to addresses that members of teams name.
//
// A name is resolved once, what it leads to is looked at, and the connection goes to the very address that was looked
// at: a name that leads elsewhere a moment later gains nothing. Redirects are not followed, no connection is used
// twice, and of an answer only the beginning is read, within one time for everything.

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { AddressGuard } from "../address-guard.ts";

/** From the look-up of the name to the end of the answer. */
const TIMEOUT_MS = 10_000;
/** Enough for what receivers say of errors. */
const ANSWER_BYTES_MAX = 16 * 1024;
/** Where nobody listens on one, the next is tried. */
const ADDRESSES_MAX = 3;
/** What Bun says of a connection that there never was: nothing was sent. */
const NEVER_CONNECTED: ReadonlySet<string> = new Set([
  ...["ConnectionRefused", "FailedToOpenSocket", "ECONNREFUSED", "ENETUNREACH", "EHOSTUNREACH"],
]);

export interface OutboundRequest {
  /** HTTP or HTTPS. */
  readonly url: string;
  readonly method: "POST" | "PUT";
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface OutboundAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** Its beginning. */
  readonly text: string;
}

/** There is no answer. The message is for the team that asked, and tells nothing of networks that are not theirs. */
export class OutboundError extends Error {
  override readonly name = "OutboundError";
}

export interface OutboundDeps {
  readonly guard: AddressGuard;
  /** The addresses of a name; by itself what the system says. */
  readonly resolve?: (host: string) => Promise<readonly string[]>;
  /** In PEM, what certificates are checked with; by itself what the system trusts. */
  readonly ca?: string;
  readonly timeoutMs?: number;
}

export class Outbound {
  readonly #deps: OutboundDeps;

  constructor(deps: OutboundDeps) {
    this.#deps = deps;
  }

  /** Throws `OutboundError` without an answer; `ending` breaks it off. */
  async send(request: OutboundRequest, ending?: AbortSignal): Promise<OutboundAnswer> {
    const timeout = AbortSignal.timeout(this.#deps.timeoutMs ?? TIMEOUT_MS);
    const signal = ending === undefined ? timeout : AbortSignal.any([timeout, ending]);
    try {
      return await this.#send(request, signal);
    } catch (error) {
      if (timeout.aborted) throw new OutboundError("no answer in time", { cause: error });
      if (error instanceof OutboundError) throw error;
      throw new OutboundError(`no answer: ${reasonOf(error)}`, { cause: error });
    }
  }

  async #send(request: OutboundRequest, signal: AbortSignal): Promise<OutboundAnswer> {
    const url = new URL(request.url);
    const addresses = await untilAborted(this.#addressesOf(url.hostname), signal);
    let failure: unknown;
    for (const address of addresses) {
      try {
        return await this.#sendTo(address, { ...request, url }, signal);
      } catch (error) {
        failure = error;
        if (!NEVER_CONNECTED.has(codeOf(error))) break;
      }
    }
    throw failure;
  }

  async #addressesOf(hostname: string): Promise<string[]> {
    const host = hostname.replace(/^\[|\]$/g, "");
    const { guard, resolve = systemAddresses } = this.#deps;
    const found = isIP(host) === 0 ? await resolve(host) : [host];
    const permitted = found.filter((address) => guard.permits(address));
    if (permitted.length === 0) throw new OutboundError("the address is not allowed");
    // Many a host has no IPv6, though names have both.
    return permitted.toSorted((a, b) => isIP(a) - isIP(b)).slice(0, ADDRESSES_MAX);
  }

  async #sendTo(
    address: string,
    { url, method, headers, body }: Omit<OutboundRequest, "url"> & { url: URL },
    signal: AbortSignal,
  ): Promise<OutboundAnswer> {
    const target = new URL(url);
    target.hostname = isIP(address) === 6 ? `[${address}]` : address;
    const { ca } = this.#deps;
    const serverName = url.hostname.replace(/^\[|\]$/g, "");
    const response = await fetch(target, {
      ...{ method, body, signal, redirect: "manual", keepalive: false, decompress: false },
      headers: { ...headers, Host: url.host, "User-Agent": "Wrenn" },
      tls: { serverName, ...(ca === undefined ? {} : { ca }) },
    });
    return { status: response.status, headers: response.headers, text: await beginning(response) };
  }
}

async function systemAddresses(host: string): Promise<string[]> {
  return (await lookup(host, { all: true })).map(({ address }) => address);
}

async function beginning(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of response.body ?? []) {
    chunks.push(chunk);
    bytes += chunk.byteLength;
    // Leaving the loop ends the connection.
    if (bytes >= ANSWER_BYTES_MAX) break;
  }
  return Buffer.concat(chunks).subarray(0, ANSWER_BYTES_MAX).toString("utf8");
}

/** A look-up can't be broken off, only left. */
async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => {});
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason);
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** Codes are few and harmless; messages may hold addresses. */
function reasonOf(error: unknown): string {
  return codeOf(error) || (error instanceof Error ? error.name : "unknown");
}
