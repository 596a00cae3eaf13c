// Invitations by mail: who may send them, who they are good for, and how often.

import { describe, expect, test } from "bun:test";
import { AccountsPlatform, PASSWORD, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { sha256Hex } from "../digest.ts";
import { INVITATIONS_PER_RECIPIENT, MEMBERS_PER_USER } from "../rate-limiter.ts";
import { INVITATIONS_MAX } from "./invitations.ts";

const platform = await forThisFile(AccountsPlatform.start());
const { sql } = platform.database;

let addresses = 0;
const newAddress = () => `guest${++addresses}@example.com`;

type Call = ReturnType<typeof platform.call>;
const outcome = async (call: Call): Promise<string> => {
  const { status, body } = await call;
  return body.error === undefined ? `${status}` : `${status} ${body.error.code}`;
};

const path = ({ teamId }: Person) => `/v1/teams/${teamId}/invitations`;
const send = (by: Person, email: string, more: object = {}) =>
  platform.call("POST", path(by), { token: by.token, body: { email, ...more } });
const accept = ({ token }: { token: string }, invitation: string) =>
  platform.call("POST", "/v1/invitations/accept", { token, body: { token: invitation } });
const signUp = (invitation: string, name = "Guest") =>
  platform.call("POST", "/v1/auth/signup/invited", {
    body: { token: invitation, password: PASSWORD, name },
  });

async function invite(by: Person, email: string, more: object = {}): Promise<string> {
  const { status, body } = await send(by, email, more);
  if (status !== 201) throw new Error(JSON.stringify(body));
  return await platform.mailedToken(email);
}

async function roleIn(team: Person, email: string): Promise<string | undefined> {
  const { body } = await platform.call("GET", `/v1/teams/${team.teamId}`, { token: team.token });
  const members = body.members as { email: string; role: string }[];
  return members.find((member) => member.email === email)?.role;
}

async function pending(team: Person): Promise<string[]> {
  const { body } = await platform.call("GET", path(team), { token: team.token });
  return (Object.values(body) as { email: string }[]).map(({ email }) => email);
}

describe("an invitation", () => {
  test("brings in who has an account, in the role that it says, once", async () => {
    const owner = await platform.person("Owner");
    const guest = await platform.person("Guest");
    const token = await invite(owner, guest.email, { role: "admin" });

    const first = await accept(guest, token);
    expect(first.body).toMatchObject({ id: owner.teamId, role: "admin" });
    expect(await roleIn(owner, guest.email)).toBe("admin");
    expect(await outcome(accept(guest, token))).toBe("400 invalid_token");
    expect(await pending(owner)).toEqual([]);
  });

  test("makes an active account for who has none, signed in to that team", async () => {
    const owner = await platform.person("Owner");
    const email = newAddress();
    const token = await invite(owner, email);

    const { status, body } = await signUp(token);
    expect([status, body.team_id, body.role, body.is_admin]).toEqual([
      ...[200, owner.teamId, "member", false],
    ]);
    expect(await roleIn(owner, email)).toBe("member");
    const login = { email, password: PASSWORD };
    expect(await outcome(platform.call("POST", "/v1/auth/login", { body: login }))).toBe("200");
    expect(await outcome(signUp(token))).toBe("400 invalid_token");
  });

  test("is answered the same whether there is such an account or not", async () => {
    const owner = await platform.person("Owner");
    const known = await platform.person("Known");
    const shape = ({ status, body }: Awaited<Call>) => [status, Object.keys(body).toSorted()];

    expect(shape(await send(owner, known.email))).toEqual(shape(await send(owner, newAddress())));
  });

  test("is of one address: another account does not get in with it, and leaves it good", async () => {
    const owner = await platform.person("Owner");
    const guest = await platform.person("Guest");
    const thief = await platform.person("Thief");
    const token = await invite(owner, guest.email);

    expect(await outcome(accept(thief, token))).toBe("403 forbidden");
    expect(await roleIn(owner, thief.email)).toBeUndefined();
    expect(await outcome(accept(guest, token))).toBe("200");
  });

  test("finds who it is for in whatever case and letters the address was written", async () => {
    const owner = await platform.person("Owner");
    const guest = await platform.person("Guest");
    await send(owner, `  ${guest.email.toUpperCase()} `);
    const token = await platform.mailedToken(guest.email);
    expect(await outcome(accept(guest, token))).toBe("200");

    // One letter or two that make it, and a domain as people or as the DNS write it.
    await send(owner, "rene\u0301@bu\u0308cher.example");
    await send(owner, "Ren\u00e9@B\u00fccher.example");
    expect(await pending(owner)).toEqual(["ren\u00e9@xn--bcher-kva.example"]);
  });

  test("does not take the place of a member who has only joined meanwhile", async () => {
    const owner = await platform.person("Owner");
    const guest = await platform.person("Guest");
    const token = await invite(owner, guest.email, { role: "admin" });
    const members = `/v1/teams/${owner.teamId}/members`;
    await platform.call("POST", members, { token: owner.token, body: { email: guest.email } });

    expect((await accept(guest, token)).body.role).toBe("member");
    expect(await outcome(send(owner, guest.email))).toBe("400 invalid_request");
  });

  test("of ten that accept it at once, one does", async () => {
    const owner = await platform.person("Owner");
    const guest = await platform.person("Guest");
    const token = await invite(owner, guest.email);
    const both = await invite(owner, newAddress());

    const accepted = Array.from({ length: 10 }, () => outcome(accept(guest, token)));
    const signedUp = Array.from({ length: 10 }, () => outcome(signUp(both)));
    const count = async (all: Promise<string>[]) =>
      (await Promise.all(all)).filter((told) => told === "200").length;
    expect([await count(accepted), await count(signedUp)]).toEqual([1, 1]);
  });

  test("takes an address back from who signed up with it and never showed that it is theirs", async () => {
    const owner = await platform.person("Owner");
    const email = newAddress();
    const activation = await platform.signUp(email, "Squatter");
    const token = await invite(owner, email);

    expect(await outcome(signUp(token))).toBe("200");
    const body = { token: activation };
    expect(await outcome(platform.call("POST", "/v1/auth/activate", { body }))).toBe(
      "400 invalid_token",
    );
  });

  test("signs nobody up from a page that is not ours", async () => {
    const owner = await platform.person("Owner");
    const token = await invite(owner, newAddress());
    const foreign = platform.call("POST", "/v1/auth/signup/invited", {
      headers: { origin: "https://evil.test" },
      body: { token, password: PASSWORD, name: "Guest" },
    });

    expect(await outcome(foreign)).toBe("403 forbidden");
    expect(await outcome(signUp(token))).toBe("200");
  });

  test("makes no second account for an address that has one", async () => {
    const owner = await platform.person("Owner");
    const guest = await platform.person("Guest");
    const token = await invite(owner, guest.email);

    expect(await outcome(signUp(token))).toBe("409 email_taken");
    expect(await outcome(accept(guest, token))).toBe("200");
  });
});

describe("an invitation is void", () => {
  test.each<[string, (at: { owner: Person; email: string; id: string }) => Promise<unknown>]>([
    [
      "once it is revoked",
      ({ owner, id }) => platform.call("DELETE", `${path(owner)}/${id}`, { token: owner.token }),
    ],
    ["once it is sent again", ({ owner, email }) => send(owner, email)],
    [
      "after a week",
      ({ email }) => sql`update team_invitations set expires_at = now()
      where email = ${email}`,
    ],
    [
      "when the team is deleted",
      ({ owner }) => sql`update teams set deleted_at = now()
      where id = (select team_id from users_teams ut join users u on u.id = ut.user_id
        where u.email = ${owner.email})`,
    ],
  ])("%s", async (_when, happens) => {
    const owner = await platform.person("Owner");
    const email = newAddress();
    const { body } = await send(owner, email);
    const token = await platform.mailedToken(email);

    await happens({ owner, email, id: body.id });
    expect(await outcome(signUp(token))).toBe("400 invalid_token");
  });

  test.each([["DELETE"], ["PATCH"]])(
    "when whoever sent it may not any more: %s",
    async (method) => {
      const owner = await platform.person("Owner");
      const admin = await memberOf(owner, "admin");
      const email = newAddress();
      const token = await invite(admin, email, { role: "admin" });

      const body = method === "PATCH" ? { role: "member" } : undefined;
      const member = `/v1/teams/${owner.teamId}/members/${admin.userId}`;
      await platform.call(method, member, { token: owner.token, body });
      expect(await outcome(signUp(token))).toBe("400 invalid_token");
    },
  );

  test("when whoever sent it deleted their account, or was disabled, which is also seen", async () => {
    const owner = await platform.person("Owner");
    const admins = [await memberOf(owner, "admin"), await memberOf(owner, "admin")] as const;
    const [deleted, disabled] = admins;
    const tokens = await Promise.all(admins.map((admin) => invite(admin, newAddress())));
    const stays = newAddress();
    const kept = await invite(owner, stays);

    const { token, email: confirmation } = deleted;
    const gone = await platform.call("DELETE", "/v1/me", { token, body: { confirmation } });
    await sql`update users set status = 'disabled' where email = ${disabled.email}`;
    const told = await Promise.all(tokens.map((each) => outcome(signUp(each))));
    expect([gone.status, ...told]).toEqual([204, "400 invalid_token", "400 invalid_token"]);
    expect(await pending(owner)).toEqual([stays]);
    expect(await outcome(signUp(kept))).toBe("200");
  });
});

describe("inviting", () => {
  test("is for owners and admins, and so is looking at who is invited", async () => {
    const owner = await platform.person("Owner");
    const admin = await memberOf(owner, "admin");
    const member = await memberOf(owner, "member");
    const stranger = { ...(await platform.person("Stranger")), teamId: owner.teamId };
    const { body } = await send(admin, newAddress());
    const asks = (by: Person) =>
      Promise.all([
        outcome(send(by, newAddress())),
        outcome(platform.call("GET", path(by), { token: by.token })),
        outcome(platform.call("DELETE", `${path(by)}/${body.id}`, { token: by.token })),
      ]);

    const REFUSED = ["403 forbidden", "403 forbidden", "403 forbidden"] as const;
    expect(await asks(member)).toEqual([...REFUSED]);
    expect(await asks(stranger)).toEqual([...REFUSED]);
    expect(await asks(admin)).toEqual(["201", "200", "204"]);
  });

  test.each([{ role: "owner" }, { email: "nobody" }, { email: "a@x.test,b@x.test" }])(
    "with %j is refused",
    async (wrong) => {
      const owner = await platform.person("Owner");
      const body = { email: newAddress(), ...wrong };

      expect(await outcome(platform.call("POST", path(owner), { token: owner.token, body }))).toBe(
        "400 invalid_request",
      );
    },
  );

  test("keeps no token, and shows none but in the mail", async () => {
    const owner = await platform.person("Owner");
    const email = newAddress();
    const token = await invite(owner, email);
    const [row] = await sql`select * from team_invitations where email = ${email}`;
    const { body } = await platform.call("GET", path(owner), { token: owner.token });

    expect(row?.token_hash).toBe(sha256Hex(token));
    expect(`${JSON.stringify(row)}${JSON.stringify(body)}`).not.toContain(token);
    expect(platform.logged.join("\n")).not.toContain(token);
  });

  test("has an end: of one team, of one person, and to one person", async () => {
    const full = await platform.person("Full");
    await sql`insert into team_invitations (id, team_id, email, role, token_hash, invited_by, expires_at)
      select gen_random_uuid(), ut.team_id, 'full' || n || '@x.test', 'member', md5('full' || n), u.id,
        now() + interval '1 day'
      from generate_series(1, ${INVITATIONS_MAX}) n, users u
      join users_teams ut on ut.user_id = u.id where u.email = ${full.email}`;
    expect(await outcome(send(full, newAddress()))).toBe("409 conflict");

    const eager = await platform.person("Eager");
    const { attemptsMax } = INVITATIONS_PER_RECIPIENT;
    const same = Array.from({ length: attemptsMax + 1 }, () => outcome(send(eager, "one@x.test")));
    const told = await Promise.all(same);
    expect(told.filter((each) => each === "429 rate_limited")).toHaveLength(1);

    const rest = MEMBERS_PER_USER.attemptsMax - attemptsMax - 1;
    await Promise.all(Array.from({ length: rest }, () => send(eager, "one@x.test")));
    expect(await outcome(send(eager, newAddress()))).toBe("429 rate_limited");
  });

  test("writes nothing into the mail that somebody chose and a mail program makes a link of", async () => {
    const owner = await platform.person("http://evil.test/x");
    const email = newAddress();
    await invite(owner, email);
    const [mail] = await platform.mailsTo(email);

    expect(mail).not.toContain("http://evil.test");
  });
});

describe("a search for people", () => {
  const search = (by: Person, text: string) =>
    platform.call("GET", `/v1/users/search?email=${encodeURIComponent(text)}`, {
      token: by.token,
    });
  const found = async (by: Person, text: string) =>
    (Object.values((await search(by, text)).body) as { email: string }[]).map(({ email }) => email);

  test("finds colleagues by the beginning of an address, and others by the whole of it", async () => {
    const owner = await platform.person("Owner");
    const colleague = await memberOf(owner, "member");
    const stranger = await platform.person("Stranger");
    const begins = (email: string) => email.slice(0, email.indexOf("@") + 1);

    expect(await found(owner, begins(colleague.email))).toEqual([colleague.email]);
    expect(await found(owner, begins(stranger.email))).toEqual([]);
    expect(await found(owner, stranger.email.toUpperCase())).toEqual([stranger.email]);
  });

  test("finds nobody who is disabled, and takes no wildcard", async () => {
    const owner = await platform.person("Owner");
    const colleague = await memberOf(owner, "member");
    expect(await found(owner, "%@")).toEqual([]);
    await sql`update users set status = 'disabled' where email = ${colleague.email}`;

    expect(await found(owner, colleague.email)).toEqual([]);
  });

  test.each(["", "a@", "abc", "  a@ "])("%j is too little", async (text) => {
    const owner = await platform.person("Owner");

    expect(await outcome(search(owner, text))).toBe("400 invalid_request");
  });
});

async function memberOf(team: Person, role: "admin" | "member") {
  const person = await platform.person();
  const { token, teamId } = team;
  const body = { email: person.email };
  const added = await platform.call("POST", `/v1/teams/${teamId}/members`, { token, body });
  const userId = String(added.body.user_id);
  if (role === "admin") {
    await platform.call("PATCH", `/v1/teams/${teamId}/members/${userId}`, {
      token,
      body: { role },
    });
  }
  const switched = await platform.call("POST", "/v1/auth/switch-team", {
    ...{ token: person.token, body: { team_id: teamId } },
  });
  return { ...person, token: switched.body.token, teamId, userId };
}
