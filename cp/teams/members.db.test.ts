// Who is in a team and as what, and what others try.

import { describe, expect, test } from "bun:test";
import { AccountsPlatform, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { sha256Hex } from "../digest.ts";
import { MEMBERS_PER_USER } from "../rate-limiter.ts";
import { MEMBERS_MAX } from "./members.ts";
import { OWNED_TEAMS_MAX } from "./team.ts";

const platform = await forThisFile(AccountsPlatform.start());
const { sql } = platform.database;

interface Someone extends Person {
  readonly userId: string;
}

async function someone(name = "Ada"): Promise<Someone> {
  const person = await platform.person(name);
  const { body } = await platform.call("GET", "/v1/me", { token: person.token });
  return { ...person, userId: String(body.user_id) };
}

const outcome = async (answer: ReturnType<typeof platform.call>): Promise<string> => {
  const { status, body } = await answer;
  return body.error === undefined ? `${status}` : `${status} ${body.error.code}`;
};

/** Somebody whose session is of that team, which they are put into. */
async function memberOf(team: Someone, role: "admin" | "member"): Promise<Someone> {
  const person = await someone();
  const { body } = await platform.call("POST", `/v1/teams/${team.teamId}/members`, {
    ...{ token: team.token, body: { email: person.email } },
  });
  if (body.error !== undefined) throw new Error(JSON.stringify(body));
  if (role === "admin") await as(team).setRole(person, role);
  const switched = await platform.call("POST", "/v1/auth/switch-team", {
    ...{ token: person.token, body: { team_id: team.teamId } },
  });
  return { ...person, token: switched.body.token, teamId: team.teamId };
}

/** What a person does to the team of their session. */
function as({ token, teamId }: Person) {
  const path = `/v1/teams/${teamId}`;
  const call = (method: string, at: string, body?: unknown) =>
    outcome(platform.call(method, `${path}${at}`, { token, body }));
  return {
    rename: (name = "Renamed") => call("PATCH", "", { name }),
    add: (email: string) => call("POST", "/members", { email }),
    setRole: ({ userId }: { userId: string }, role: string) =>
      call("PATCH", `/members/${userId}`, { role }),
    remove: ({ userId }: { userId: string }) => call("DELETE", `/members/${userId}`),
    leave: () => call("POST", "/leave"),
    transfer: ({ userId }: { userId: string }) => call("POST", "/transfer", { user_id: userId }),
    setSlug: (slug: string) => call("PATCH", "/slug", { slug }),
    show: () => call("GET", ""),
    roles: async () => {
      const { body } = await platform.call("GET", `${path}/members`, { token });
      const members = Object.values(body) as { user_id: string; role: string }[];
      return Object.fromEntries(members.map(({ user_id, role }) => [user_id, role]));
    },
  };
}

test("somebody with an account is added as a member at once, and told by mail", async () => {
  const [owner, other] = [await someone("Grace"), await someone("Hedy")];
  const { status, body } = await platform.call("POST", `/v1/teams/${owner.teamId}/members`, {
    ...{ token: owner.token, body: { email: ` ${other.email.toUpperCase()}` } },
  });
  const shown = await platform.call("GET", `/v1/teams/${owner.teamId}`, { token: owner.token });

  expect<unknown>([status, body]).toEqual([
    201,
    {
      ...{ user_id: other.userId, name: "Hedy", email: other.email, role: "member" },
      joined_at: expect.stringMatching(/Z$/),
    },
  ]);
  expect(shown.body).toMatchObject({
    team: { id: owner.teamId, role: "owner" },
    members: [
      { user_id: owner.userId, role: "owner" },
      { user_id: other.userId, role: "member" },
    ],
  });
  expect((await platform.mailsTo(other.email)).at(-1)).toContain("You are in team Grace's Team");
  expect(await as(owner).add(other.email)).toBe("400 invalid_request");
  expect(await as(owner).add("nobody@example.com")).toBe("404 not_found");
});

test("only who is active is added", async () => {
  const [owner, disabled] = [await someone(), await someone()];
  await platform.signUp("sleeper@example.com");
  await sql`update users set status = 'disabled' where email = ${disabled.email}`;

  expect([await as(owner).add("sleeper@example.com"), await as(owner).add(disabled.email)]).toEqual(
    ["404 not_found", "404 not_found"],
  );
});

test("a team has a bounded number of members", async () => {
  const [owner, first, last] = [await someone("Crowd"), await someone(), await someone()];
  await sql`with crowd as (
      insert into users (id, email, status)
      select gen_random_uuid(), n || '@crowd.test', 'active'
      from generate_series(1, ${MEMBERS_MAX - 2}) as n returning id)
    insert into users_teams (team_id, user_id)
    select teams.id, crowd.id from crowd, teams where teams.name = 'Crowd''s Team'`;

  const outcomes = await Promise.all([as(owner).add(first.email), as(owner).add(last.email)]);
  expect(outcomes.toSorted()).toEqual(["201", "409 conflict"]);
});

// The answers tell who has an account.
test("nobody adds people without end", async () => {
  const owner = await someone();
  const [row] = await sql<{ id: string }[]>`select id from users where email = ${owner.email}`;
  const key = `wrenn:rate:${MEMBERS_PER_USER.name}:${sha256Hex(row?.id ?? "")}`;
  await platform.redis.set(key, MEMBERS_PER_USER.attemptsMax, "EX", 60);

  expect(await as(owner).add("nobody@example.com")).toBe("429 rate_limited");
});

test("a plain member manages nobody; an admin anybody but the owner", async () => {
  const owner = await someone();
  const [admin, member] = [await memberOf(owner, "admin"), await memberOf(owner, "member")];
  const other = await memberOf(owner, "member");
  const { email } = await someone();

  expect([
    await as(member).rename(),
    await as(member).add(email),
    await as(member).setRole(other, "admin"),
    await as(member).remove(other),
    await as(member).transfer(member),
    await as(member).setSlug("of-members"),
    await as(admin).setRole(owner, "member"),
    await as(admin).remove(owner),
    await as(admin).transfer(admin),
    await as(owner).setRole(owner, "admin"),
    await as(owner).remove(owner),
    await as(owner).leave(),
  ]).toEqual(Array.from({ length: 12 }, () => "403 forbidden"));
  expect([
    await as(admin).rename(),
    await as(admin).setRole(member, "admin"),
    await as(admin).setRole(member, "owner"),
    await as(admin).remove(other),
    await as(admin).remove(other),
    await as(member).show(),
  ]).toEqual(["204", "204", "400 invalid_request", "204", "404 not_found", "200"]);
  expect(await as(owner).roles()).toEqual({
    [owner.userId]: "owner",
    [admin.userId]: "admin",
    [member.userId]: "admin",
  });
});

test("the team of a path must be that of the session, whatever one's part in it", async () => {
  const [owner, stranger] = [await someone(), await someone()];
  const second = await platform.call("POST", "/v1/teams", {
    ...{ token: owner.token, body: { name: "Second" } },
  });
  const at = (person: Person, teamId: string) => as({ ...person, teamId });

  for (const acting of [at(owner, second.body.id), at(stranger, owner.teamId)]) {
    expect([
      await acting.show(),
      await acting.rename(),
      await acting.add(stranger.email),
      await acting.setRole(stranger, "admin"),
      await acting.remove(owner),
      await acting.leave(),
      await acting.transfer(stranger),
      await acting.setSlug("any-slug"),
    ]).toEqual(Array.from({ length: 8 }, () => "403 forbidden"));
  }
});

test("a change of role that names none changes nothing", async () => {
  const owner = await someone("Owner");
  const member = await memberOf(owner, "member");
  const path = `/v1/teams/${owner.teamId}/members/${member.userId}`;

  const change = platform.call("PATCH", path, { token: owner.token, body: {} });
  expect(await outcome(change)).toBe("400 invalid_request");
  expect((await as(owner).roles())[member.userId]).toBe("member");
});

describe("who goes", () => {
  test.each(["removed", "left"])("has %s and neither the team nor its keys", async (how) => {
    const owner = await someone();
    const member = await memberOf(owner, "member");
    const key = (await platform.call("POST", "/v1/api-keys", { token: member.token, body: {} }))
      .body;
    const ofOwner = await platform.call("POST", "/v1/api-keys", { token: owner.token, body: {} });
    const list = (apiKey: string) =>
      outcome(platform.call("GET", "/v1/capsules", { headers: { "x-api-key": apiKey } }));
    const before = await list(key.key);

    expect(await (how === "left" ? as(member).leave() : as(owner).remove(member))).toBe("204");
    expect([before, await list(key.key), await list(ofOwner.body.key)]).toEqual([
      "200",
      "401 unauthorized",
      "200",
    ]);
    const { token } = member;
    expect([
      await outcome(platform.call("GET", "/v1/capsules", { token })),
      await as(member).show(),
      await outcome(platform.call("GET", "/v1/me", { token })),
    ]).toEqual(["403 forbidden", "403 forbidden", "200"]);
  });
});

describe("a team is given away", () => {
  test("to a member, and its owner stays as an admin", async () => {
    const owner = await someone();
    const heir = await memberOf(owner, "member");
    const stranger = await someone();
    const disabled = await memberOf(owner, "admin");
    await sql`update users set status = 'disabled' where email = ${disabled.email}`;

    expect([
      await as(owner).transfer(disabled),
      await as(owner).remove(disabled),
      await as(owner).transfer(stranger),
      await as(owner).transfer(owner),
      await as(owner).transfer(heir),
      await as(owner).transfer(heir),
      await as(heir).leave(),
    ]).toEqual([
      ...["404 not_found", "204", "404 not_found", "204", "204"],
      ...["403 forbidden", "403 forbidden"],
    ]);
    expect(await as(heir).roles()).toEqual({ [owner.userId]: "admin", [heir.userId]: "owner" });
    expect(await as(owner).leave()).toBe("204");
  });

  test("to one of several at once, and has one owner", async () => {
    const owner = await someone();
    const heirs = await Promise.all(Array.from({ length: 4 }, () => memberOf(owner, "member")));
    const outcomes = await Promise.all(heirs.map((heir) => as(owner).transfer(heir)));
    const roles = Object.values(await as(owner).roles());

    expect(outcomes.toSorted()).toEqual(["204", ...Array(3).fill("403 forbidden")]);
    expect(roles.filter((role) => role === "owner")).toHaveLength(1);
  });

  test("to nobody who owns as many as they may, whoever gives them at once", async () => {
    const owners = await Promise.all(Array.from({ length: 3 }, () => someone()));
    const heir = await someone();
    for (const { token, teamId } of owners) {
      const body = { email: heir.email };
      await platform.call("POST", `/v1/teams/${teamId}/members`, { token, body });
    }
    // With their first team and one more they are full.
    await sql`insert into teams (id, name, slug)
      select gen_random_uuid(), 'T', 'full-' || n from generate_series(1, ${OWNED_TEAMS_MAX - 2}) n`;
    await sql`insert into users_teams (team_id, user_id, role)
      select teams.id, users.id, 'owner' from teams, users
      where slug like 'full-%' and email = ${heir.email}`;

    const given = await Promise.all(owners.map((owner) => as(owner).transfer(heir)));

    expect(given.toSorted()).toEqual(["204", "409 conflict", "409 conflict"]);
  });

  // The one who leaves must not take the team's last owner along.
  test("or its heir goes, but not both", async () => {
    const owner = await someone();
    const heir = await memberOf(owner, "admin");
    await Promise.all([as(owner).transfer(heir), as(heir).leave()]);

    const [row] = await sql<{ owners: number }[]>`select count(*)::int as owners from users_teams
      join users on users.id = user_id where role = 'owner' and email in
      (${owner.email}, ${heir.email}) and team_id in (select team_id from users_teams ut
      join users u on u.id = ut.user_id where u.email = ${owner.email})`;
    expect(row?.owners).toBe(1);
  });
});

describe("a slug", () => {
  const check = async (slug: string) => {
    const { token } = await someone();
    const path = `/v1/teams/slug-check?slug=${encodeURIComponent(slug)}`;
    return (await platform.call("GET", path, { token })).body.available;
  };
  test("is changed once in 60 days, and the one before stays the team's", async () => {
    const [owner, other] = [await someone(), await someone()];
    expect(await as(owner).setSlug(" First-Slug ")).toBe("204");
    const shown = await platform.call("GET", `/v1/teams/${owner.teamId}`, { token: owner.token });
    await sql`update teams set slug_changed_at = now() - interval '59 days 23 hours'
      where slug = 'first-slug'`;
    const early = await as(owner).setSlug("second-slug");
    const same = await as(owner).setSlug("first-slug");
    await sql`update teams set slug_changed_at = now() - interval '60 days' where slug = 'first-slug'`;
    const late = await as(owner).setSlug("second-slug");

    expect(shown.body.team).toMatchObject({
      slug: "first-slug",
      slug_change_allowed_at: expect.stringMatching(/Z$/),
    });
    expect([early, same, late]).toEqual(["409 conflict", "204", "204"]);
    expect([await as(other).setSlug("second-slug"), await as(other).setSlug("first-slug")]).toEqual(
      ["409 conflict", "409 conflict"],
    );
    expect([await check("first-slug"), await check("second-slug"), await check("third")]).toEqual([
      false,
      false,
      true,
    ]);
    await sql`update teams set slug_changed_at = now() - interval '60 days' where slug = 'second-slug'`;
    expect(await as(owner).setSlug("first-slug")).toBe("204");
  });

  test("that was given up is anybody's after 30 days", async () => {
    const [owner, other] = [await someone(), await someone()];
    await as(owner).setSlug("given-up");
    await sql`update teams set slug_changed_at = now() - interval '60 days' where slug = 'given-up'`;
    await as(owner).setSlug("taken-up");
    const pass = (time: string) =>
      sql`update reserved_slugs set expires_at = expires_at - ${time}::interval where slug = 'given-up'`;
    await pass("29 days 23 hours");
    const early = [await check("given-up"), await as(other).setSlug("given-up")];
    await pass("1 hour");

    expect(early).toEqual([false, "409 conflict"]);
    expect([await check("given-up"), await as(other).setSlug("given-up")]).toEqual([true, "204"]);
  });

  test("of a deleted team stays taken", async () => {
    const [owner, other] = [await someone(), await someone()];
    await as(owner).setSlug("of-the-dead");
    await sql`update teams set deleted_at = now() where slug = 'of-the-dead'`;

    expect([await check("of-the-dead"), await as(other).setSlug("of-the-dead")]).toEqual([
      false,
      "409 conflict",
    ]);
  });

  test.each(["wrenn", "platform", "0", "ab", "a".repeat(41), "-abc", "abc-", "a--b", "a_b", "äöü"])(
    "can't be %s",
    async (slug) => {
      const owner = await someone();

      expect([await check(slug), await as(owner).setSlug(slug)]).toEqual([
        false,
        "400 invalid_request",
      ]);
    },
  );

  test("that ten teams want at once one gets", async () => {
    const owners = await Promise.all(Array.from({ length: 10 }, () => someone()));
    const outcomes = await Promise.all(owners.map((owner) => as(owner).setSlug("wanted")));

    expect(outcomes.toSorted()).toEqual(["204", ...Array(9).fill("409 conflict")]);
  });
});
