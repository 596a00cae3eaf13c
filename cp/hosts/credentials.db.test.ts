// Credentials of hosts after the first: renewed in time, and void when somebody else has them.

import { beforeAll, describe, expect, test } from "bun:test";
import { type KeyObject, X509Certificate } from "node:crypto";
import { makeKeyAndRequest } from "../../proto/certificates/key-and-request.ts";
import { AccountsPlatform, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  CSR,
  certified,
  FACTS,
  fingerprintOf,
  hostRegistration,
  outcome,
} from "../../tests/harness/host-registration.ts";

const platform = await forThisFile(AccountsPlatform.start());
const { create, register, refresh, heartbeat, rowOf, ...hosts } = hostRegistration(platform);
const registered = () => hosts.registered(admin);
let admin: Person;
beforeAll(async () => {
  admin = await platform.person("Admin");
});

describe("refreshing credentials", () => {
  test("rotates them: the old token works shortly, for an agent that lost the answer", async () => {
    const { host, refresh_token: first } = await registered();

    const second = await refresh(first);
    const retried = await refresh(first);
    // It is the database's five minutes, whatever the clock of this control plane says.
    platform.clock.advance(6 * 60_000);
    const other = await refresh(first);
    platform.clock.advance(-6 * 60_000);
    await platform.database.sql`update host_refresh_tokens
      set revoked_at = revoked_at - interval '6 minutes'`;
    const late = await outcome(refresh(first));

    expect<unknown>(second).toMatchObject({ status: 200, body: { host: { id: host.id } } });
    expect([retried.status, other.status]).toEqual([200, 200]);
    expect(late).toEqual([401, "unauthorized"]);
  });

  test("gives each of an agent's keys a certificate of the same name", async () => {
    const { host, cert_pem: first, refresh_token } = await registered();
    const { requestPem } = await makeKeyAndRequest();

    const { body } = await refresh(refresh_token, requestPem);
    const { cert_pem: next } = certified(body);
    const [before, after] = [first, next].map((pem) => new X509Certificate(pem));

    expect(after?.subjectAltName).toBe(before?.subjectAltName ?? "");
    expect(after?.publicKey.equals(before?.publicKey as KeyObject)).toBe(false);
    expect((await rowOf(host.id))?.certFingerprint).toBe(fingerprintOf(next));
    expect(await outcome(heartbeat(host.id, body.token))).toEqual([204, undefined]);
    expect(await outcome(refresh(body.refresh_token))).toEqual([200, undefined]);
  });

  // Either of the two has it who should not, and nobody can tell which.
  test.each([
    ["by another key", async () => (await makeKeyAndRequest()).requestPem, ""],
    ["long after its first use", async () => CSR, "6 minutes"],
    ["when it was used by the time before certificates", async () => CSR, "forget"],
  ])("a refresh token used again %s voids all that the host has", async (_, csr, age) => {
    const { sql } = platform.database;
    const { host, token, refresh_token } = await registered();
    const { body: second } = await refresh(refresh_token);
    if (age === "forget") await sql`update host_refresh_tokens set used_for_key = null`;
    else if (age !== "") {
      await sql`update host_refresh_tokens set revoked_at = revoked_at - ${age}::interval`;
    }

    const again = await refresh(refresh_token, await csr());
    const after = [
      await outcome(refresh(second.refresh_token)),
      await outcome(heartbeat(host.id, token)),
      await outcome(heartbeat(host.id, second.token)),
    ];
    const row = await rowOf(host.id);

    expect([again.status, again.body.error.message]).toEqual([
      401,
      "refresh_token: used twice, all are void; register the host again",
    ]);
    expect(after).toEqual(after.map(() => [401, "unauthorized"]));
    expect([row?.certName, row?.certFingerprint, row?.certExpiresAt]).toEqual(["", "", null]);
    const entries = await sql`select actor_type from audit_logs
      where resource_id = ${host.id} and action = 'credentials_revoke'`;
    expect<unknown>([...entries]).toEqual([{ actor_type: "system" }]);
  });

  test("a host whose credentials were revoked registers again, as the same and under another name", async () => {
    const { host, cert_pem, refresh_token } = await registered();
    await refresh(refresh_token);
    await refresh(refresh_token, (await makeKeyAndRequest()).requestPem);

    const path = `/v1/hosts/${host.id}/token`;
    const { body } = await platform.call("POST", path, { token: admin.token });
    const again = (await register(body.registration_token)).body;

    expect(again.host.id).toBe(host.id);
    expect(again.cert_pem).not.toBe(cert_pem);
    expect((await rowOf(host.id))?.certName).not.toBe(new X509Certificate(cert_pem).subjectAltName);
    expect(await outcome(heartbeat(host.id, again.token))).toEqual([204, undefined]);
    expect(await outcome(refresh(refresh_token))).toEqual([401, "unauthorized"]);
  });

  test("ten uses of a token at once by one key all get credentials, and by two keys none is left", async () => {
    const { host, refresh_token: first } = await registered();
    const same = await Promise.all(Array.from({ length: 10 }, () => outcome(refresh(first))));
    const { host: two, refresh_token: second } = await registered();
    const { requestPem } = await makeKeyAndRequest();
    await Promise.all([refresh(second), refresh(second, requestPem)]);

    expect(same).toEqual(same.map(() => [200, undefined]));
    expect((await rowOf(host.id))?.certName).not.toBe("");
    expect((await rowOf(two.id))?.certName).toBe("");
  });

  test("stops working after sixty days, and keeps no token for longer", async () => {
    await using fresh = await AccountsPlatform.start();
    const { token } = await fresh.person();
    const { body } = await fresh.call("POST", "/v1/hosts", { token, body: { type: "regular" } });
    const facts = { token: body.registration_token, csr: CSR, ...FACTS };
    // They are the database's sixty days.
    fresh.clock.advance(61 * 24 * 3600_000);
    let credentials = (await fresh.call("POST", "/v1/hosts/register", { body: facts })).body;
    const next = (refreshToken: string) =>
      fresh.call("POST", "/v1/hosts/auth/refresh", {
        body: { refresh_token: refreshToken, csr: CSR },
      });
    for (let day = 0; day < 5; day++) {
      await fresh.database
        .sql`update host_refresh_tokens set revoked_at = revoked_at - interval '1 day'`;
      credentials = (await next(credentials.refresh_token)).body;
    }
    const [row] = await fresh.database.sql<{ kept: number }[]>`
      select count(*)::int as kept from host_refresh_tokens`;
    await fresh.database.sql`update host_refresh_tokens
      set expires_at = expires_at - interval '60 days 1 second'`;

    expect(row).toEqual({ kept: 6 });
    expect(await outcome(next(credentials.refresh_token))).toEqual([401, "unauthorized"]);
  });

  test.each([
    [{ csr: CSR }],
    [{ csr: CSR, refresh_token: "" }],
    [{ csr: CSR, refresh_token: "x".repeat(129) }],
    [{ refresh_token: "x" }],
    [{ csr: "nonsense", refresh_token: "x" }],
  ])("refuses %j as a bad request", async (body) => {
    const answer = platform.call("POST", "/v1/hosts/auth/refresh", { body });

    expect(await outcome(answer)).toEqual([400, "invalid_request"]);
  });

  test("keeps refresh tokens as digests", async () => {
    const { refresh_token: secret } = await registered();

    const rows = await platform.database.sql`select * from host_refresh_tokens`;
    expect(JSON.stringify(rows)).not.toContain(secret);
  });
});
