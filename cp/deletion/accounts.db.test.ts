// Deleting an account: what ends at once, what is in the way, and what is left of the person in the end.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { decodeId, encodeId } from "../../proto/ids.ts";
import { AccountsPlatform, PASSWORD, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SimulatedAgent } from "../../tests/harness/simulated-agent.ts";
import { addHost } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { purgeAccounts } from "./purge-accounts.ts";
import { purgeTeams } from "./purge-teams.ts";

setDefaultTimeout(60_000);

const platform = await forThisFile(AccountsPlatform.start());
const agent = await forThisFile(Promise.resolve(new SimulatedAgent()));
const { sql, db } = platform.database;
const lastHeartbeatAt = new Date(Date.now() + 3600_000);
await addHost(platform.database, agent.address, { lastHeartbeatAt });
/** The first one administers the platform. */
const administrator = await platform.person("Root");

const outcome = async (answer: ReturnType<typeof platform.call>): Promise<string> => {
  const { status, body } = await answer;
  return body.error === undefined ? `${status}` : `${status} ${body.error.code}`;
};
const remove = ({ token }: Person, confirmation: string) =>
  platform.call("DELETE", "/v1/me", { token, body: { confirmation } });
const addTo = async (team: Person, { email }: Person) => {
  const path = `/v1/teams/${team.teamId}/members`;
  const { status, body } = await platform.call("POST", path, {
    token: team.token,
    body: { email },
  });
  if (status !== 201) throw new Error(JSON.stringify(body));
  return String(body.user_id);
};
const sessionIn = async ({ token }: Person, teamId: string): Promise<string> => {
  const body = { team_id: teamId };
  return (await platform.call("POST", "/v1/auth/switch-team", { token, body })).body.token;
};
const purge = () => purgeAccounts({ db, mailer: platform.mailer }, 100);
const purgeTeamsOnce = async () =>
  await purgeTeams({ ...platform.capsuleDeps, inBackground: (work) => void work.catch(() => {}) });

describe("with a deleted account", () => {
  test("sessions, tokens, keys and open streams end, and nobody signs in", async () => {
    const [host, person] = [await platform.person("Host"), await platform.person("Gone")];
    await addTo(host, person);
    const elsewhere = await sessionIn(person, host.teamId);
    const made = await platform.call("POST", "/v1/api-keys", { token: elsewhere, body: {} });
    const kept = await platform.call("POST", "/v1/api-keys", { token: host.token, body: {} });
    const stream = await platform.app.handle(
      new Request("http://localhost/v1/events/stream", {
        headers: { authorization: `Bearer ${elsewhere}` },
      }),
    );
    const reader = (stream as Response & { body: ReadableStream<Uint8Array> }).body.getReader();
    await reader.read();

    const { status } = await remove(
      { ...person, token: elsewhere },
      ` ${person.email.toUpperCase()}`,
    );
    await platform.openStreams.check();
    while (!(await reader.read()).done);

    const list = (key: string) =>
      outcome(platform.call("GET", "/v1/capsules", { headers: { "x-api-key": key } }));
    const login = { email: person.email, password: PASSWORD };
    expect([
      status,
      await outcome(platform.call("GET", "/v1/me", { token: elsewhere })),
      await outcome(platform.call("POST", "/v1/auth/login", { body: login })),
      await outcome(
        platform.call("POST", "/v1/auth/signup", { body: { ...login, name: "Again" } }),
      ),
      await list(made.body.key),
      await list(kept.body.key),
    ]).toEqual([
      ...[204, "401 unauthorized", "401 unauthorized", "409 email_taken"],
      ...["401 unauthorized", "200"],
    ]);
    const members = await platform.call("GET", `/v1/teams/${host.teamId}/members`, host);
    expect(Object.values(members.body)).toHaveLength(1);
    expect((await platform.mailsTo(person.email)).at(-1)).toContain("was deleted");
  });

  test("the teams that were its owner's alone are deleted", async () => {
    const person = await platform.person("Alone");
    await remove(person, person.email);
    const [row] = await sql<{ gone: boolean; due: boolean }[]>`
      select deleted_at is not null as gone, purge_at <= now() as due from teams
      where id = ${decodeId("team", person.teamId)}`;

    expect(row).toEqual({ gone: true, due: true });
  });
});

describe("an account is not deleted", () => {
  test("without its address", async () => {
    const person = await platform.person();
    const answers = [await remove(person, "another@example.com"), await remove(person, "")];

    expect(answers.map(({ status, body }) => [status, body.error.message])).toEqual(
      Array(2).fill([400, "confirmation: must be the address of your account"]),
    );
  });

  test("for want of the address as it is kept, though it is the same", async () => {
    const body = { token: await platform.signUp("ren\u00e9@xn--bcher-kva.example") };
    const { token } = (await platform.call("POST", "/v1/auth/activate", { body })).body;
    const confirmation = "Rene\u0301@B\u00fccher.example";

    const answer = platform.call("DELETE", "/v1/me", { token, body: { confirmation } });
    expect(await outcome(answer)).toBe("204");
  });

  test("while it owns a team that others are in", async () => {
    const [owner, member] = [await platform.person("Chief"), await platform.person()];
    await addTo(owner, member);
    const { status, body } = await remove(owner, owner.email);

    expect<unknown>([status, body.error]).toMatchObject([
      409,
      {
        code: "conflict",
        details: { owned_teams_with_members: [{ id: owner.teamId, name: "Chief's Team" }] },
      },
    ]);
    expect(await outcome(platform.call("GET", "/v1/me", { token: owner.token }))).toBe("200");
  });

  test("when nobody would administer the platform any more", async () => {
    const other = await platform.person();
    const refused = await outcome(remove(administrator, administrator.email));
    await sql`update users set is_admin = true where email = ${other.email}`;
    const both = await Promise.all([
      outcome(remove(administrator, administrator.email)),
      outcome(remove(other, other.email)),
    ]);

    expect([refused, ...both.toSorted()]).toEqual(["409 conflict", "204", "409 conflict"]);
  });
});

// Its owner would be nobody.
test("of a transfer and the deletion of its heir one comes first", async () => {
  for (let round = 0; round < 4; round += 1) {
    const [owner, heir] = [await platform.person(), await platform.person()];
    const user_id = await addTo(owner, heir);
    await Promise.all([
      platform.call("POST", `/v1/teams/${owner.teamId}/transfer`, {
        ...{ token: owner.token, body: { user_id } },
      }),
      remove(heir, heir.email),
    ]);
    const rows = await sql<{ status: string }[]>`select status from users
      join users_teams on user_id = users.id and role = 'owner'
      where team_id = ${decodeId("team", owner.teamId)}`;

    expect([...rows]).toEqual([{ status: "active" }]);
  }
});

// Who makes a key, or invites somebody, holds the team and then their account: of a cycle one would be ended.
test("a deletion waits for a team before it holds the account", async () => {
  const owner = await platform.person();
  const teamId = decodeId("team", owner.teamId);
  let answer: Promise<string> | undefined;
  await sql.begin(async (tx) => {
    await tx`select from teams where id = ${teamId} for update`;
    answer = outcome(remove(owner, owner.email));
    await waitFor("the deletion to wait", async () => {
      const [row] = await sql`select exists (select from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock') as waits`;
      return row?.waits === true;
    });
    await tx`insert into team_invitations (id, team_id, email, role, token_hash, invited_by, expires_at)
      select gen_random_uuid(), ${teamId}, 'a@example.com', 'member', 'h', id, now()
      from users where email = ${owner.email}`;
  });

  expect(await answer).toBe("204");
});

/** Everything textual that the database holds, wherever it holds this. */
async function whereIs(text: string): Promise<string[]> {
  const columns = await sql<{ table: string; column: string }[]>`
    select table_name as table, column_name as column from information_schema.columns
    join information_schema.tables using (table_schema, table_name)
    where table_schema = 'public' and table_type = 'BASE TABLE'`;
  const found: string[] = [];
  for (const { table, column } of columns) {
    const rows = await sql`select 1 from ${sql(table)}
      where strpos(lower(${sql(column)}::text), ${text.toLowerCase()}) > 0 limit 1`;
    if (rows.length > 0) found.push(`${table}.${column}`);
  }
  return found;
}

test("after 15 days nothing of the person is left in any table, and what happened still is", async () => {
  const [host, person] = [await platform.person("Other"), await platform.person("Zyxwvuts")];
  const userId = await addTo(host, person);
  const uuid = decodeId("user", userId) ?? "";
  const elsewhere = await sessionIn(person, host.teamId);
  await platform.call("POST", "/v1/capsules", { token: elsewhere, body: {} });
  const named = { token: elsewhere, body: { name: "of Zyxwvuts" } };
  const { key } = (await platform.call("POST", "/v1/api-keys", named)).body;
  await platform.call("POST", "/v1/capsules", { headers: { "x-api-key": key }, body: {} });
  await platform.call("PATCH", `/v1/teams/${host.teamId}/members/${userId}`, {
    ...{ token: host.token, body: { role: "admin" } },
  });
  const body = { email: person.email, password: PASSWORD };
  const own = (await platform.call("POST", "/v1/auth/login", { body })).body.token;
  const rename = { token: own, body: { name: "Zyxwvuts Second" } };
  await platform.call("PATCH", `/v1/teams/${person.teamId}`, rename);
  await sql`insert into oauth_providers (provider, provider_id, user_id, email)
    values ('github', '8', ${uuid}, ${person.email})`;
  await remove({ ...person, token: own }, person.email);
  while ((await purgeTeamsOnce()).claimed > 0);
  const early = await purge();
  await sql`update users set deleted_at = now() - interval '15 days' where id = ${uuid}`;
  const purged = await Promise.all([purge(), purge()]);

  expect([early, purged.toSorted()]).toEqual([0, [0, 1]]);
  expect({
    address: await whereIs(person.email),
    name: await whereIs("Zyxwvuts"),
    id: [...(await whereIs(uuid)), ...(await whereIs(userId))],
  }).toEqual({ address: [], name: [], id: [] });
  const mails = await platform.mailsTo(person.email);
  expect(mails.filter((text) => text.includes("is forgotten\n"))).toHaveLength(1);
  const entries = await sql`select action from audit_logs where actor_name = 'deleted-user'
    and resource_type = 'user' and actor_id is null and ip_address is null`;
  expect(entries.map(({ action }) => action)).toContain("login");
  expect(
    await outcome(platform.call("POST", "/v1/auth/signup", { body: { ...body, name: "New" } })),
  ).toBe("201");
  expect(encodeId("user", decodeId("user", userId) ?? ("" as never))).toBe(userId);
});

// Each statement of it is one at which its control plane may die.
test("an account is forgotten as a whole or not at all", async () => {
  const person = await platform.person("Halfway");
  await remove(person, person.email);
  await sql`update users set deleted_at = now() - interval '15 days' where email = ${person.email}`;
  await sql.unsafe(`create function refuse() returns trigger language plpgsql as
    $$ begin raise exception 'died'; end $$`);
  await sql.unsafe("create trigger died before delete on users execute function refuse()");
  const failed = await purge().catch((error) => String(error.cause ?? error));
  const [left] =
    await sql`select actor_name from audit_logs where actor_name = ${person.email} limit 1`;
  await sql.unsafe("drop function refuse cascade");

  expect([failed, left?.actor_name]).toEqual([expect.stringContaining("died"), person.email]);
  expect(await purge()).toBe(1);
  expect(await whereIs(person.email)).toEqual([]);
});
