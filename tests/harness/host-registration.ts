// Hosts as operators announce them and agents register them, through the real routes.

import { X509Certificate } from "node:crypto";
import { eq } from "drizzle-orm";
import { hosts } from "../../cp/db/tables.ts";
import { makeKeyAndRequest } from "../../proto/certificates/key-and-request.ts";
import { decodeId, newId } from "../../proto/ids.ts";
import type { AccountsPlatform, Person } from "./accounts-platform.ts";
import type { Answer } from "./simulated-agent-platform.ts";

/** What an agent measured. */
export const FACTS = {
  arch: "x86_64",
  cpu_cores: 8,
  memory_mb: 32_000,
  disk_gb: 500,
  address: "10.0.0.7:50051",
};

/** Of one key, which agents have whose key does not matter. */
export const { requestPem: CSR } = await makeKeyAndRequest();

/** The calls of both sides, on that platform. */
export function hostRegistration(platform: AccountsPlatform) {
  const create = (token: string, body: unknown = { type: "regular" }) =>
    platform.call("POST", "/v1/hosts", { token, body });
  const register = (token: string, facts: object = FACTS) =>
    platform.call("POST", "/v1/hosts/register", { body: { token, csr: CSR, ...facts } });
  return {
    create,
    register,
    refresh: (refreshToken: string, csr = CSR) =>
      platform.call("POST", "/v1/hosts/auth/refresh", {
        body: { refresh_token: refreshToken, csr },
      }),
    heartbeat: (id: string, token: string) =>
      platform.call("POST", `/v1/hosts/${id}/heartbeat`, { headers: { "x-host-token": token } }),
    /** What the agent of a new host was answered. */
    registered: async (admin: Person) => {
      const { body } = await create(admin.token);
      return certified((await register(body.registration_token)).body);
    },
    rowOf: async (id: string) => {
      const hostId = decodeId("host", id) ?? newId("host");
      return (await platform.database.db.select().from(hosts).where(eq(hosts.id, hostId)))[0];
    },
  };
}

/** With what tests read of it by name. */
export const certified = <T extends object>(body: T) =>
  body as T & Record<"cert_pem" | "token" | "refresh_token", string>;

/** Status, and the code of the error if it is one. */
export async function outcome(answer: Promise<Answer>): Promise<unknown[]> {
  const { status, body } = await answer;
  return [status, body.error?.code];
}

export const fingerprintOf = (pem: string) =>
  new X509Certificate(pem).fingerprint256.replaceAll(":", "").toLowerCase();
