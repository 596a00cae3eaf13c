// The control plane's host routes, as the agent calls them.

import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import type { HostSpecs } from "./host-specs.ts";

const REGISTER_TIMEOUT_MS = 30_000;
const REFRESH_TIMEOUT_MS = 15_000;
const HEARTBEAT_TIMEOUT_MS = 10_000;
const ANSWER_BYTES_MAX = 64 * 1024;

const Answer = Type.Object({
  host: Type.Object({ id: Type.String({ pattern: "^host-[0-9a-z]{25}$" }) }),
  token: Type.String({ minLength: 1, maxLength: 8192 }),
  refresh_token: Type.String({ minLength: 1, maxLength: 8192 }),
  cert_pem: Type.String({ minLength: 1, maxLength: ANSWER_BYTES_MAX }),
  ca_cert_pem: Type.String({ minLength: 1, maxLength: ANSWER_BYTES_MAX }),
});

const HostDeleted = Type.Object({
  error: Type.Object({
    code: Type.Literal("not_found"),
    reason: Type.Literal("host_deleted"),
    host_id: Type.String(),
  }),
});

/** All that a host has but its key, which the control plane never sees. */
export interface IssuedCredentials {
  /** Prefixed form: host-… */
  readonly host_id: string;
  readonly jwt: string;
  readonly refresh_token: string;
  readonly cert_pem: string;
  readonly ca_cert_pem: string;
}

/** The control plane answered with another status than the one that was hoped for. */
export class Refused extends Error {
  override readonly name = "Refused";
  readonly status: number;
  /** The control plane's own words. */
  readonly reason: string;
  readonly #body: string;

  constructor(what: string, status: number, body: string) {
    super(`The control plane refused the ${what} (${status}): ${messageOf(body)}`);
    this.status = status;
    this.reason = messageOf(body);
    this.#body = body;
  }

  /** Whether it says that this host was deleted; a 404 of something on the way does not. */
  saysDeleted(hostId: string): boolean {
    if (this.status !== 404) return false;
    try {
      const answer: unknown = JSON.parse(this.#body);
      return Value.Check(HostDeleted, answer) && answer.error.host_id === hostId;
    } catch {
      return false;
    }
  }
}

export class ControlPlane {
  readonly #url: string;

  /** `url` without a slash at its end. */
  constructor(url: string) {
    this.#url = url;
  }

  get host(): string {
    return new URL(this.#url).host;
  }

  /** Trades a one-time token for credentials of the key of `csr`. Throws Refused, or what fetch throws. */
  async register(
    token: string,
    host: HostSpecs & { readonly address: string; readonly csr: string },
  ): Promise<IssuedCredentials> {
    const body = { token, ...host };
    const timeoutMs = REGISTER_TIMEOUT_MS;
    return parse(await this.#post("/v1/hosts/register", { what: "registration", body, timeoutMs }));
  }

  /** Trades a refresh token, which is used up, for the next credentials. Throws like register. */
  async refresh(refreshToken: string, csr: string): Promise<IssuedCredentials> {
    const body = { refresh_token: refreshToken, csr };
    const timeoutMs = REFRESH_TIMEOUT_MS;
    return parse(await this.#post("/v1/hosts/auth/refresh", { what: "refresh", body, timeoutMs }));
  }

  /** Throws like register: 401 and 403 mean the token. */
  async heartbeat({ hostId, jwt }: { hostId: string; jwt: string }): Promise<void> {
    await this.#post(`/v1/hosts/${hostId}/heartbeat`, {
      what: "heartbeat",
      headers: { "X-Host-Token": jwt },
      timeoutMs: HEARTBEAT_TIMEOUT_MS,
    });
  }

  async #post(
    path: string,
    options: {
      what: string;
      body?: unknown;
      headers?: Record<string, string>;
      timeoutMs: number;
    },
  ): Promise<string> {
    const { what, body, headers, timeoutMs } = options;
    const response = await fetch(this.#url + path, {
      method: "POST",
      redirect: "error",
      headers: { ...headers, ...(body ? { "Content-Type": "application/json" } : {}) },
      ...(body ? { body: JSON.stringify(body) } : {}),
      signal: AbortSignal.timeout(timeoutMs),
    });
    const text = (await response.text()).slice(0, ANSWER_BYTES_MAX);
    if (!response.ok) throw new Refused(what, response.status, text);
    return text;
  }
}

function parse(text: string): IssuedCredentials {
  const { host, token: jwt, ...rest } = Value.Parse(Answer, Value.Clean(Answer, JSON.parse(text)));
  return { host_id: host.id, jwt, ...rest };
}

/** Of an error envelope; the beginning of anything else. */
function messageOf(body: string): string {
  const message = /"message"\s*:\s*"([^"]{1,300})"/.exec(body)?.[1];
  return message ?? body.slice(0, 100);
}
