import { describe, expect, test } from "bun:test";
import { AccountsPlatform } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { API_KEYS_PER_TEAM_MAX } from "./service.ts";

const platform = await forThisFile(AccountsPlatform.start());

const listCapsules = (key: string) =>
  platform.call("GET", "/v1/capsules", { headers: { "x-api-key": key } });
const create = (token: string, body: unknown = {}) =>
  platform.call("POST", "/v1/api-keys", { token, body });

test("a key is shown once, kept as a digest, and acts for its team", async () => {
  const { token, teamId, email } = await platform.person();

  const created = await create(token, { name: " CI " });
  const { key, ...rest } = created.body;
  const listed = await platform.call("GET", "/v1/api-keys", { token });

  expect<unknown>(created).toEqual({
    status: 201,
    body: {
      id: expect.stringMatching(/^key-[0-9a-z]{25}$/),
      team_id: teamId,
      name: "CI",
      key_prefix: key.slice(0, 10),
      created_by: expect.stringMatching(/^usr-/),
      creator_email: email,
      created_at: expect.stringMatching(/Z$/),
      key: expect.stringMatching(/^wrn_[0-9a-f]{32}$/),
    },
  });
  expect(Object.values(listed.body)).toEqual([rest]);
  expect<unknown>(await listCapsules(key)).toEqual({ status: 200, body: [] });
  const rows = await platform.database.sql`select * from team_api_keys`;
  expect(JSON.stringify(rows)).not.toContain(key);
});

test("keys are listed newest first, an empty name has a substitute, and teams don't see each other's", async () => {
  const { token } = await platform.person();
  const { token: other } = await platform.person();
  await create(token, { name: "first" });
  platform.clock.advance(2000);
  await create(token, { name: "" });

  const names = async (bearer: string) => {
    const { body } = await platform.call("GET", "/v1/api-keys", { token: bearer });
    return Object.values(body).map((key) => (key as { name: string }).name);
  };
  expect([await names(token), await names(other)]).toEqual([["Unnamed API Key", "first"], []]);
});

test("a removed key is refused at once, and only its own team can remove it", async () => {
  const { token } = await platform.person();
  const { token: other } = await platform.person();
  const { body } = await create(token);
  const remove = (bearer: string) =>
    platform.call("DELETE", `/v1/api-keys/${body.id}`, { token: bearer });

  const byOthers = await remove(other);
  const before = await listCapsules(body.key);
  const answers = [await remove(token), await remove(token)];
  const after = await listCapsules(body.key);

  expect([byOthers.status, before.status]).toEqual([204, 200]);
  expect(answers.map(({ status }) => status)).toEqual([204, 204]);
  expect([after.status, after.body.error.code]).toEqual([401, "unauthorized"]);
});

test.each([
  "",
  "wrn_",
  "wrn_00112233445566778899aabbccddeeff",
  `wrn_${"g".repeat(32)}`,
  "x".repeat(5000),
])("the key %p is refused, and no token in its stead is tried", async (key) => {
  const { token } = await platform.person();

  const answer = await platform.call("GET", "/v1/capsules", {
    token,
    headers: { "x-api-key": key },
  });
  expect([answer.status, answer.body.error.code]).toEqual([401, "unauthorized"]);
});

test("a key of a deleted team is refused", async () => {
  const { token } = await platform.person("Gone");
  const { body } = await create(token);
  await platform.database.sql`update teams set deleted_at = now() where name = 'Gone''s Team'`;

  expect((await listCapsules(body.key)).status).toBe(401);
});

// A write per request would make the busiest key the busiest row.
test("the time of last use is written behind, once a minute at most", async () => {
  const { token } = await platform.person();
  const { body } = await create(token);
  const version = async () => {
    const [row] = await platform.database.sql<{ version: string; used: boolean }[]>`
      select xmin::text as version, last_used is not null as used from team_api_keys
      where key_prefix = ${body.key.slice(0, 10)}`;
    return row;
  };

  const use = async () => {
    await listCapsules(body.key);
    await platform.lastUses.write();
  };

  const unused = await version();
  await Promise.all(Array.from({ length: 20 }, () => listCapsules(body.key)));
  const used = await version();
  await platform.lastUses.write();
  const first = await version();
  await use();
  const second = await version();
  // Another control plane's clock may be anywhere.
  platform.clock.advance(3600_000);
  await use();
  platform.clock.advance(-3600_000);
  const unmoved = await version();
  await platform.database.sql`update team_api_keys set last_used = now() - interval '61 seconds'
    where key_prefix = ${body.key.slice(0, 10)}`;
  const aged = await version();
  await use();
  const third = await version();

  expect(used).toEqual(unused);
  expect(first?.used).toBe(true);
  expect(second).toEqual(first);
  expect(unmoved).toEqual(first);
  expect(third?.version).not.toBe(aged?.version);
});

test("a key's name has a bound and no control characters, and an id must be one", async () => {
  const { token } = await platform.person();
  const answers = [
    await create(token, { name: "x".repeat(129) }),
    await create(token, { name: "a\u0000" }),
    await create(token, { name: null }),
    await platform.call("DELETE", "/v1/api-keys/key-1", { token }),
  ];

  expect(answers.map(({ status, body }) => [status, body.error.code])).toEqual(
    answers.map(() => [400, "invalid_request"]),
  );
});

test("a key can't make keys, for that takes a person", async () => {
  const { token } = await platform.person();
  const { body } = await create(token);

  const answer = await platform.call("POST", "/v1/api-keys", {
    headers: { "x-api-key": body.key },
    body: {},
  });
  expect([answer.status, answer.body.error.code]).toEqual([401, "unauthorized"]);
});

test("a team has a bounded number of keys, also when it asks for many at once", async () => {
  const { token } = await platform.person("Many");
  await platform.database.sql`
    insert into team_api_keys (id, team_id, name, key_hash, key_prefix)
    select gen_random_uuid(), teams.id, 'bulk', md5(n::text), 'wrn_bulk'
    from teams, generate_series(1, ${API_KEYS_PER_TEAM_MAX - 2}) as n
    where teams.name = 'Many''s Team'`;

  const answers = await Promise.all(Array.from({ length: 5 }, () => create(token)));
  const outcomes = answers.map(({ status, body }) => [status, body.error?.code ?? ""].join(" "));
  expect(outcomes.sort()).toEqual(["201 ", "201 ", "409 conflict", "409 conflict", "409 conflict"]);
});

describe("a key with an end", () => {
  test("is refused from then on, by the database's clock, and still listed", async () => {
    const { token } = await platform.person();
    const end = new Date(Date.now() + 3600_000).toISOString();
    const { body } = await create(token, { expires_at: end });
    platform.clock.advance(7200_000);
    const early = await listCapsules(body.key);
    platform.clock.advance(-7200_000);
    await platform.database.sql`update team_api_keys set expires_at = now()
      where key_prefix = ${body.key.slice(0, 10)}`;
    const late = await listCapsules(body.key);
    const listed = await platform.call("GET", "/v1/api-keys", { token });

    expect(body.expires_at).toBe(`${end.slice(0, 19)}Z`);
    expect([early.status, late.status, late.body.error.code]).toEqual([200, 401, "unauthorized"]);
    expect(Object.values(listed.body)).toMatchObject([{ id: body.id }]);
  });

  test.each([
    ["2020-01-01T00:00:00Z", "expires_at: must be in the future"],
    ["tomorrow", "expires_at: must be a time like 2030-01-31T12:00:00Z"],
    ["2030-02-31T25:00:00Z", "expires_at: must be a time like 2030-01-31T12:00:00Z"],
    ["2030-01-31", "expires_at: must be a time like 2030-01-31T12:00:00Z"],
  ])("is none with the end %s", async (expires_at, message) => {
    const { token } = await platform.person();
    const { status, body } = await create(token, { expires_at });

    expect([status, body.error.message]).toEqual([400, message]);
  });
});

describe("a key with scopes", () => {
  test("tells them", async () => {
    const { token } = await platform.person();
    const { body } = await create(token, { scopes: ["read", "exec"] });
    const listed = await platform.call("GET", "/v1/api-keys", { token });

    expect(body.scopes).toEqual(["read", "exec"]);
    expect(Object.values(listed.body)).toMatchObject([{ scopes: ["read", "exec"] }]);
  });

  test.each([[[]], [["root"]], [["read", "read"]], ["read"], [[null]]])(
    "is none with %j",
    async (scopes) => {
      const { token } = await platform.person();
      const { status, body } = await create(token, { scopes });

      expect([status, body.error.message]).toEqual([400, expect.stringMatching(/^scopes\b/)]);
    },
  );
});

test("a member deletes keys of their own, an admin any", async () => {
  const [owner, member] = [await platform.person("Keys"), await platform.person()];
  const { sql } = platform.database;
  await sql`insert into users_teams (team_id, user_id, role) select t.id, u.id, 'member'
    from teams t, users u where t.name = 'Keys''s Team' and u.email = ${member.email}`;
  const switched = await platform.call("POST", "/v1/auth/switch-team", {
    ...{ token: member.token, body: { team_id: owner.teamId } },
  });
  const { token } = switched.body;
  const [ofOwner, ofMember, other] = [
    await create(owner.token),
    await create(token),
    await create(token),
  ];
  const remove = (bearer: string, { body }: { body: { id: string } }) =>
    platform.call("DELETE", `/v1/api-keys/${body.id}`, { token: bearer });
  const elsewhere = await create((await platform.person()).token);

  // Whether another team has such a key is not told.
  expect((await remove(token, elsewhere)).status).toBe(204);
  expect([
    (await remove(token, ofOwner)).status,
    (await remove(token, ofMember)).status,
    (await remove(token, ofMember)).status,
    (await remove(owner.token, other)).status,
    (await remove(owner.token, ofOwner)).status,
  ]).toEqual([403, 204, 204, 204, 204]);
});
