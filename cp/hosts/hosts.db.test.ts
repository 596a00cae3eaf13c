import { beforeAll, describe, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { decodeId } from "../../proto/ids.ts";
import { AccountsPlatform, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  FACTS,
  fingerprintOf,
  hostRegistration,
  outcome,
} from "../../tests/harness/host-registration.ts";
import { AUTHORITY } from "../../tests/harness/test-certificates.ts";

const platform = await forThisFile(AccountsPlatform.start());
const { create, register, refresh, heartbeat, rowOf, ...hosts } = hostRegistration(platform);
const registered = () => hosts.registered(admin);
let admin: Person;
beforeAll(async () => {
  admin = await platform.person("Admin");
});

async function byocTeam(name: string): Promise<Person> {
  const person = await platform.person(name);
  const { sql } = platform.database;
  await sql`update teams set is_byoc = true where name = ${`${name}'s Team`}`;
  return person;
}

describe("announcing a host", () => {
  test("gives an administrator a pending host and a token", async () => {
    const { status, body } = await create(admin.token, {
      type: "regular",
      provider: "metal",
      availability_zone: "a",
    });

    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
    expect<unknown>({ status, body }).toEqual({
      status: 201,
      body: {
        host: {
          id: expect.stringMatching(/^host-[0-9a-z]{25}$/),
          type: "regular",
          provider: "metal",
          availability_zone: "a",
          status: "pending",
          created_by: expect.stringMatching(/^usr-/),
          created_at: time,
          updated_at: time,
        },
        registration_token: expect.stringMatching(/^[0-9a-f]{64}$/),
      },
    });
  });

  test("of the platform is for administrators, of a team for its owners where it may", async () => {
    const person = await platform.person("Plain");
    const owner = await byocTeam("Byoc");
    const byoc = (teamId: string) => ({ type: "byoc", team_id: teamId });

    expect(await outcome(create(person.token))).toEqual([403, "forbidden"]);
    expect(await outcome(create(person.token, byoc(person.teamId)))).toEqual([403, "forbidden"]);
    expect(await outcome(create(person.token, byoc(owner.teamId)))).toEqual([403, "forbidden"]);
    expect(await outcome(create(owner.token, byoc(owner.teamId)))).toEqual([201, undefined]);
    expect(await outcome(create(admin.token, byoc(owner.teamId)))).toEqual([201, undefined]);
  });

  test.each([
    [{}, "type"],
    [{ type: "cloud" }, "type"],
    [{ type: "byoc" }, "team_id: required for a byoc host"],
    [{ type: "byoc", team_id: "team-1" }, "team_id: not a valid id"],
    [{ type: "byoc", team_id: `team-${"1".repeat(25)}` }, "team_id: no such team"],
    [{ type: "regular", team_id: `team-${"1".repeat(25)}` }, "team_id: no such team"],
    [{ type: "regular", provider: "x".repeat(65) }, "provider"],
    [{ type: "regular", availability_zone: "a\u0000" }, "availability_zone"],
  ])("refuses %j naming the field", async (request, message) => {
    const { status, body } = await create(admin.token, request);

    expect([status, body.error.code]).toEqual([400, "invalid_request"]);
    expect(body.error.message).toStartWith(message);
  });
});

describe("seeing hosts", () => {
  test("administrators see all, members their team's own, others none", async () => {
    const owner = await byocTeam("Seer");
    const stranger = await platform.person("Stranger");
    const shared = (await create(admin.token)).body.host.id;
    const own = (await create(owner.token, { type: "byoc", team_id: owner.teamId })).body.host.id;

    const ids = async ({ token }: Person) => {
      const { body } = await platform.call("GET", "/v1/hosts", { token });
      return Object.values(body).map((host) => (host as { id: string }).id);
    };
    const one = ({ token }: Person, id: string) =>
      outcome(platform.call("GET", `/v1/hosts/${id}`, { token }));

    expect(await ids(admin)).toContain(shared);
    expect(await ids(owner)).toEqual([own]);
    expect(await ids(stranger)).toEqual([]);
    expect(await one(admin, own)).toEqual([200, undefined]);
    expect(await one(owner, own)).toEqual([200, undefined]);
    expect(await one(owner, shared)).toEqual([404, "not_found"]);
    expect(await one(stranger, own)).toEqual([404, "not_found"]);
    expect(await one(admin, `host-${"1".repeat(25)}`)).toEqual([404, "not_found"]);
    expect(await one(admin, "host-1")).toEqual([400, "invalid_request"]);
  });

  test("one who has left the team sees and manages nothing of it", async () => {
    const leaver = await byocTeam("Leaver");
    const own = (await create(leaver.token, { type: "byoc", team_id: leaver.teamId })).body.host.id;
    await platform.database.sql`delete from users_teams where user_id = (
      select id from users where email = ${leaver.email})`;
    const { token } = leaver;

    const listed = await platform.call("GET", "/v1/hosts", { token });
    const shown = await outcome(platform.call("GET", `/v1/hosts/${own}`, { token }));
    const managed = await outcome(platform.call("POST", `/v1/hosts/${own}/token`, { token }));

    expect<unknown>([listed.body, shown, managed]).toEqual([
      [],
      [404, "not_found"],
      [404, "not_found"],
    ]);
  });

  test("a team's host names the team", async () => {
    const owner = await byocTeam("Named");
    const { body } = await create(owner.token, { type: "byoc", team_id: owner.teamId });

    expect<unknown>(body.host).toMatchObject({ team_id: owner.teamId, team_name: "Named's Team" });
  });
});

describe("registering", () => {
  test("brings the host online with what the agent measured", async () => {
    const announced = await create(admin.token);
    const { status, body } = await register(announced.body.registration_token);
    const shown = await platform.call("GET", `/v1/hosts/${body.host.id}`, { token: admin.token });

    expect(status).toBe(201);
    expect<unknown>(body).toMatchObject({
      host: { id: announced.body.host.id, status: "online", ...FACTS },
      token: expect.any(String),
      refresh_token: expect.stringMatching(/^[0-9a-f]{64}$/),
      ca_cert_pem: AUTHORITY.trustedPem,
    });
    expect<unknown>(shown.body).toEqual(body.host);
  });

  test("certifies the agent's key under a name of its host, which the control plane then calls", async () => {
    const { host, cert_pem } = await registered();
    const { host: other, cert_pem: others } = await registered();
    const names = [cert_pem, others].map((pem) => new X509Certificate(pem).subjectAltName);
    const row = await rowOf(host.id);

    expect(names[0]).toBe(`DNS:${row?.certName}`);
    expect(names[0]).toMatch(
      new RegExp(`^DNS:[0-9a-f]{16}\\.${host.id}\\.agents\\.wrenn\\.internal$`),
    );
    expect(names[1]).toContain(`.${other.id}.`);
    expect(row?.certFingerprint).toBe(fingerprintOf(cert_pem));
    expect(row?.certExpiresAt).toEqual(new X509Certificate(cert_pem).validToDate);
  });

  test("refuses what is no request for a certificate, and leaves the token good", async () => {
    const { body } = await create(admin.token);
    const token = body.registration_token;

    const { status, body: refused } = await register(token, { ...FACTS, csr: "nonsense" });

    expect([status, refused.error.message]).toEqual([
      400,
      "csr: no certificate request in PEM (PKCS #10)",
    ]);
    expect(await outcome(register(token))).toEqual([201, undefined]);
  });

  test("works once, even when tried ten times at once", async () => {
    const { body } = await create(admin.token);

    const answers = await Promise.all(
      Array.from({ length: 10 }, () => outcome(register(body.registration_token))),
    );
    expect(answers.filter(([status]) => status === 201)).toHaveLength(1);
    expect(answers.filter(([, error]) => error === "unauthorized")).toHaveLength(9);
  });

  test("with the older of two tokens works, and then the newer is void", async () => {
    const { body: first } = await create(admin.token);
    const path = `/v1/hosts/${first.host.id}/token`;
    const { status, body: second } = await platform.call("POST", path, { token: admin.token });

    expect(status).toBe(201);
    expect(await outcome(register(first.registration_token))).toEqual([201, undefined]);
    expect(await outcome(register(second.registration_token))).toEqual([401, "unauthorized"]);
  });

  test("is refused for a host that was deleted meanwhile", async () => {
    const { body } = await create(admin.token);
    await platform.database.sql`delete from hosts where status = 'pending'`;

    expect(await outcome(register(body.registration_token))).toEqual([401, "unauthorized"]);
  });

  test("gives the token back when the database fails", async () => {
    const { body } = await create(admin.token);
    await platform.database.sql`alter table host_refresh_tokens rename to away`;
    const failed = await outcome(register(body.registration_token));
    await platform.database.sql`alter table away rename to host_refresh_tokens`;

    expect(failed).toEqual([500, "internal_error"]);
    expect(await outcome(register(body.registration_token))).toEqual([201, undefined]);
  });

  test.each([
    [{ ...FACTS, address: "nowhere" }, "address"],
    [{ ...FACTS, address: "http://10.0.0.7:1" }, "address"],
    [{ ...FACTS, address: "10.0.0.7:123456" }, "address"],
    [{ ...FACTS, cpu_cores: "8" }, "cpu_cores: expected integer"],
    [{ ...FACTS, cpu_cores: 0 }, "cpu_cores"],
    [{ ...FACTS, memory_mb: 2 ** 31 }, "memory_mb"],
    [{ ...FACTS, disk_gb: 1.5 }, "disk_gb"],
    [{ ...FACTS, arch: undefined }, "arch"],
    [{ ...FACTS, csr: undefined }, "csr"],
    [{ ...FACTS, csr: "x".repeat(4097) }, "csr"],
  ])("refuses %j naming the field", async (facts, message) => {
    const { status, body } = await register("0".repeat(64), facts);

    expect([status, body.error.code]).toEqual([400, "invalid_request"]);
    expect(body.error.message).toStartWith(message);
  });

  test("a second token is for pending hosts, and for who manages them", async () => {
    const owner = await byocTeam("Manager");
    const { host } = await registered();
    const again = (token: string, id: string) =>
      outcome(platform.call("POST", `/v1/hosts/${id}/token`, { token }));
    const own = (await create(owner.token, { type: "byoc", team_id: owner.teamId })).body.host.id;
    const member = await platform.person("Member");
    await platform.database.sql`insert into users_teams (team_id, user_id, role)
      select t.id, u.id, 'member' from teams t, users u
      where t.name = 'Manager''s Team' and u.email = ${member.email}`;
    const inTeam = await platform.call("POST", "/v1/auth/switch-team", {
      token: member.token,
      body: { team_id: owner.teamId },
    });

    expect(await again(admin.token, host.id)).toEqual([400, "invalid_request"]);
    expect(await again(owner.token, host.id)).toEqual([404, "not_found"]);
    expect(await again(inTeam.body.token, own)).toEqual([403, "forbidden"]);
    expect(await again(owner.token, own)).toEqual([201, undefined]);
    expect(await again(admin.token, "host-1")).toEqual([400, "invalid_request"]);
  });
});

describe("heartbeat", () => {
  test("keeps the host's time, and brings it back when it was unreachable", async () => {
    const { host, token } = await registered();
    const { sql } = platform.database;
    await sql`update hosts set status = 'unreachable', last_heartbeat_at = null
      where address = ${FACTS.address}`;

    const beat = await outcome(heartbeat(host.id, token));
    const shown = await platform.call("GET", `/v1/hosts/${host.id}`, { token: admin.token });

    expect(beat).toEqual([204, undefined]);
    expect<unknown>(shown.body).toMatchObject({
      status: "online",
      last_heartbeat_at: expect.stringMatching(/Z$/),
    });
  });

  // Its database was restored from before the host was made: the agent must not take that for a deletion.
  test("of a host that the database never knew says nothing of a deletion", async () => {
    const { host, token } = await registered();
    const { sql } = platform.database;
    await sql`delete from hosts where address = ${FACTS.address}`;
    await sql`delete from deleted_hosts`;

    const answer = await heartbeat(host.id, token);

    expect([answer.status, answer.body.error.code]).toEqual([404, "not_found"]);
    expect(JSON.stringify(answer.body)).not.toContain("host_deleted");
  });

  test("and registration are stamped by the database, whatever the control plane's clock says", async () => {
    const { sql } = platform.database;
    const isFresh = async (id: string) => {
      const [row] =
        await sql`select abs(extract(epoch from now() - last_heartbeat_at)) < 60 as fresh
        from hosts where id = ${decodeId("host", id)}`;
      return row?.fresh;
    };
    platform.clock.advance(3600_000);
    const { host, token } = await registered();
    const seen = [await isFresh(host.id)];
    await sql`update hosts set last_heartbeat_at = null where id = ${decodeId("host", host.id)}`;
    await heartbeat(host.id, token);
    seen.push(await isFresh(host.id));
    platform.clock.advance(-3600_000);
    expect(seen).toEqual([true, true]);
  });

  test("and registration tell a team that its own host is up, and each only once", async () => {
    const owner = await byocTeam("Told");
    const { body } = await create(owner.token, { type: "byoc", team_id: owner.teamId });
    const { host, token } = (await register(body.registration_token)).body;
    await platform.database.sql`update hosts set status = 'unreachable' where type = 'byoc'`;
    await Promise.all([heartbeat(host.id, token), heartbeat(host.id, token)]);

    const reported = await platform.database.sql`
      select type, outcome, actor->>'type' as actor, resource from events order by id`;
    const up = { type: "host.up", outcome: "", actor: "system" };
    const resource = { type: "host", id: host.id };
    expect<unknown>([...reported]).toEqual([
      { ...up, resource },
      { ...up, resource },
    ]);
  });

  test("does not bring back a host that an operator took out", async () => {
    const { host, token } = await registered();
    await platform.database.sql`update hosts set status = 'draining'`;

    await heartbeat(host.id, token);
    const shown = await platform.call("GET", `/v1/hosts/${host.id}`, { token: admin.token });
    expect<unknown>(shown.body).toMatchObject({ status: "draining" });
  });

  test("is refused with another host's token, a user's, or none, and says when it was deleted", async () => {
    const one = await registered();
    const two = await registered();
    const wrong = await outcome(heartbeat(one.host.id, two.token));
    const users = await outcome(heartbeat(one.host.id, admin.token));
    const none = await outcome(platform.call("POST", `/v1/hosts/${one.host.id}/heartbeat`));
    const malformed = await outcome(heartbeat("host-1", one.token));
    await platform.database.sql`delete from hosts`;

    expect([wrong, users, none, malformed]).toEqual([
      [403, "forbidden"],
      [401, "unauthorized"],
      [401, "unauthorized"],
      [400, "invalid_request"],
    ]);
    const gone = await heartbeat(one.host.id, one.token);
    expect(gone).toMatchObject({
      status: 404,
      body: { error: { code: "not_found", reason: "host_deleted", host_id: one.host.id } },
    });
  });
});
