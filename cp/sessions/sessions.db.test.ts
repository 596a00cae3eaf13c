// Sessions as a browser and a program have them, and what others try with them.

import { describe, expect, test } from "bun:test";
import { AccountsPlatform, PASSWORD } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { SESSIONS_PER_USER_MAX } from "./service.ts";

const platform = await forThisFile(AccountsPlatform.start());
const { sql } = platform.database;
const [ORIGIN = ""] = platform.ownOrigins;

interface Asking {
  readonly cookies?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: unknown;
}

async function ask(method: string, path: string, { cookies = {}, headers = {}, body }: Asking) {
  const cookie = Object.entries(cookies)
    .map(([name, value]) => `${name}=${value}`)
    .join("; ");
  const request = new Request(`http://localhost${path}`, {
    method,
    headers: { ...(cookie === "" ? {} : { cookie, origin: ORIGIN }), ...headers },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const response = await platform.app.handle(request);
  const text = await response.text();
  const { error, ...rest } = text === "" ? {} : JSON.parse(text);
  return {
    status: response.status,
    reason: error?.reason as string | undefined,
    body: rest,
    setCookies: response.headers.getSetCookie(),
  };
}

/** The jar of a browser that logged in. */
async function logIn(email: string, headers: Record<string, string> = {}) {
  const answer = await ask("POST", "/v1/auth/login", {
    body: { email, password: PASSWORD },
    headers: { origin: ORIGIN, ...headers },
  });
  return { ...answer, cookies: jarOf(answer.setCookies) };
}

function jarOf(lines: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    lines.map((line) => /^([^=]+)=([^;]*)/.exec(line)?.slice(1) as [string, string]),
  );
}

const proof = ({ wrenn_csrf: token = "" }: Record<string, string>) => ({ "x-csrf-token": token });
const outcome = async (answer: ReturnType<typeof ask>) => {
  const { status, reason } = await answer;
  return reason === undefined ? status : `${status} ${reason}`;
};
const me = (cookies: Record<string, string>) => outcome(ask("GET", "/v1/me", { cookies }));
const change = (cookies: Record<string, string>, headers: Record<string, string>) =>
  outcome(ask("POST", "/v1/teams", { cookies, headers, body: { name: "T" } }));

describe("a browser", () => {
  test("gets two cookies at login, is known by one, and shows the other with a change", async () => {
    const { email } = await platform.person();
    const { status, setCookies, cookies } = await logIn(email);

    expect(status).toBe(200);
    expect(setCookies).toEqual([
      expect.stringMatching(
        /^wrenn_sid=[0-9a-f]{64}; HttpOnly; Path=\/; Max-Age=86400; SameSite=Strict$/,
      ),
      expect.stringMatching(/^wrenn_csrf=[0-9a-f]{64}; Path=\/; Max-Age=86400; SameSite=Strict$/),
    ]);
    expect(await me(cookies)).toBe(200);
    expect(await change(cookies, proof(cookies))).toBe(201);
  });

  test("behind TLS has cookies that no neighbour can set, and no others count", async () => {
    const { email } = await platform.person();
    const https = { "x-forwarded-proto": "https" };
    const { setCookies, cookies } = await logIn(email, https);
    const { "__Host-wrenn_sid": secret = "" } = cookies;
    const read = (jar: Record<string, string>) =>
      outcome(ask("GET", "/v1/me", { cookies: jar, headers: https }));

    expect(setCookies.map((line) => line.replace(/=[0-9a-f]{64}/, ""))).toEqual([
      "__Host-wrenn_sid; HttpOnly; Path=/; Max-Age=86400; SameSite=Strict; Secure",
      "__Host-wrenn_csrf; Path=/; Max-Age=86400; SameSite=Strict; Secure",
    ]);
    expect(await read(cookies)).toBe(200);
    expect(await read({ ...cookies, wrenn_sid: "0".repeat(64) })).toBe(200);
    expect(await read({ wrenn_sid: secret })).toBe("401 auth_session_required");
    // Of several proxies the one nearest to the browser says how that came.
    const { setCookies: behindTwo } = await logIn(email, { "x-forwarded-proto": "https, http" });
    expect(behindTwo.map((line) => line.includes("; Secure"))).toEqual([true, true]);
  });

  // The second one a page of a capsule on the same domain may have set.
  test("with two different cookies of that name is nobody", async () => {
    const [ours, theirs] = [await platform.person(), await platform.person()];
    const { cookies } = await logIn(ours.email);
    const { wrenn_sid: planted } = (await logIn(theirs.email)).cookies;
    const cookie = `wrenn_sid=${planted}; wrenn_sid=${cookies.wrenn_sid}`;

    const answer = ask("GET", "/v1/me", { headers: { cookie, origin: ORIGIN } });
    expect(await outcome(answer)).toBe("401 auth_session_required");
  });

  test("changes nothing without the token of its own session", async () => {
    const [ours, theirs] = [await platform.person(), await platform.person()];
    const { cookies } = await logIn(ours.email);
    const { cookies: other } = await logIn(theirs.email);
    const planted = (token: string) =>
      change({ ...cookies, wrenn_csrf: token }, { "x-csrf-token": token });

    expect([
      await change(cookies, {}),
      await change(cookies, { "x-csrf-token": "" }),
      await change(cookies, { "x-csrf-token": "0".repeat(64) }),
      await change({ wrenn_sid: cookies.wrenn_sid ?? "" }, proof(cookies)),
      await planted("a".repeat(64)),
      await planted(other.wrenn_csrf ?? ""),
    ]).toEqual(Array.from({ length: 6 }, () => "403 auth_csrf_failed"));
  });

  test("gets a new session at login, whatever cookie it came with", async () => {
    const { email } = await platform.person();
    const fixed = { wrenn_sid: "f".repeat(64), wrenn_csrf: "f".repeat(64) };
    const answer = await ask("POST", "/v1/auth/login", {
      cookies: fixed,
      body: { email, password: PASSWORD },
    });

    expect(jarOf(answer.setCookies).wrenn_sid).not.toBe(fixed.wrenn_sid);
    expect(await me(fixed)).toBe("401 auth_session_required");
  });

  // Else whoever looks at that page would go on in somebody else's account.
  test("is not logged in by a page of others", async () => {
    const { email } = await platform.person();
    const { status, reason, setCookies } = await logIn(email, { origin: "https://evil.example" });

    expect([status, reason, setCookies]).toEqual([403, "origin_not_allowed", []]);
  });

  test("is told to forget cookies that are of no use any more, and only then", async () => {
    const dead = { wrenn_sid: "0".repeat(64) };
    const cleared = [
      "wrenn_sid=; Path=/; Max-Age=0; SameSite=Strict",
      "wrenn_csrf=; Path=/; Max-Age=0; SameSite=Strict",
    ];
    const asked = (headers: Record<string, string>) =>
      ask("GET", "/v1/capsules", { cookies: dead, headers });

    expect((await asked({})).setCookies).toEqual(cleared);
    expect((await asked({ "x-api-key": "wrn_0" })).setCookies).toEqual([]);
    expect((await asked({ authorization: "Bearer a.b.c" })).setCookies).toEqual([]);
    expect((await ask("GET", "/v1/capsules", {})).setCookies).toEqual([]);
  });

  test("that shows a wrong key or token beside its cookie is refused", async () => {
    const { email } = await platform.person();
    const { cookies } = await logIn(email);
    const get = (headers: Record<string, string>) =>
      outcome(ask("GET", "/v1/capsules", { cookies, headers }));

    expect(await get({ "x-api-key": `wrn_${"0".repeat(32)}` })).toBe("401 auth_invalid_api_key");
    expect(await get({ authorization: "Bearer a.b.c" })).toBe("401 auth_session_required");
  });
});

describe("a session ends", () => {
  test("with logout, for its cookie and its token", async () => {
    const { email } = await platform.person();
    const { cookies, body } = await logIn(email);
    const { cookies: other } = await logIn(email);
    const bearer = { authorization: `Bearer ${body.token}` };

    const out = await ask("POST", "/v1/auth/logout", { cookies, headers: proof(cookies) });

    expect([out.status, jarOf(out.setCookies)]).toEqual([204, { wrenn_sid: "", wrenn_csrf: "" }]);
    expect(await me(cookies)).toBe("401 auth_session_required");
    expect(await outcome(ask("GET", "/v1/me", { headers: bearer }))).toBe(
      "401 auth_session_required",
    );
    expect(await me(other)).toBe(200);
  });

  test("with logout-all, also others of its user", async () => {
    const { email, token } = await platform.person();
    const { cookies } = await logIn(email);
    const stranger = await platform.person();

    const headers = { authorization: `Bearer ${token}` };
    expect(await outcome(ask("POST", "/v1/auth/logout-all", { headers }))).toBe(204);
    expect(await me(cookies)).toBe("401 auth_session_required");
    const { status } = await platform.call("GET", "/v1/me", { token: stranger.token });
    expect(status).toBe(200);
  });

  test("with a change of team, which begins another", async () => {
    const { email, token } = await platform.person();
    const team = await platform.call("POST", "/v1/teams", { token, body: { name: "Second" } });
    const { cookies, body } = await logIn(email);

    const switched = await ask("POST", "/v1/auth/switch-team", {
      cookies,
      headers: proof(cookies),
      body: { team_id: team.body.id },
    });
    const renewed = jarOf(switched.setCookies);
    const shown = await ask("GET", "/v1/me", { cookies: renewed });

    expect(await me(cookies)).toBe("401 auth_session_required");
    expect(await outcome(ask("GET", "/v1/me", { headers: bearerOf(body) }))).toStartWith("401");
    expect(shown.body).toMatchObject({ team_id: team.body.id, role: "owner" });
    expect(await change(renewed, proof(cookies))).toBe("403 auth_csrf_failed");
    expect(await change(renewed, proof(renewed))).toBe(201);
  });

  test("once, of ten changes of team at once", async () => {
    const { email, token } = await platform.person();
    const team = await platform.call("POST", "/v1/teams", { token, body: { name: "Second" } });
    const { cookies } = await logIn(email);
    const asking = { cookies, headers: proof(cookies), body: { team_id: team.body.id } };

    const outcomes = await Promise.all(
      Array.from({ length: 10 }, () => outcome(ask("POST", "/v1/auth/switch-team", asking))),
    );

    expect(outcomes.filter((one) => one === 200)).toHaveLength(1);
    expect(outcomes.filter((one) => one === "401 auth_session_required")).toHaveLength(9);
  });

  test.each([
    ["six hours after its last use", "last_seen_at = now() - interval '6 hours'"],
    ["a day after it began", "expires_at = now()"],
  ])("%s, by the database's clock", async (_when, set) => {
    const { email } = await platform.person();
    const { cookies, body } = await logIn(email);
    platform.clock.advance(48 * 3600_000);
    const early = await me(cookies);
    platform.clock.advance(-48 * 3600_000);
    await sql.unsafe(`update sessions set ${set}
      where user_id = (select id from users where email = '${email}')`);

    expect([early, await me(cookies)]).toEqual([200, "401 auth_session_required"]);
    expect(await outcome(ask("GET", "/v1/me", { headers: bearerOf(body) }))).toStartWith("401");
  });
});

const bearerOf = ({ token }: { token?: string }) => ({ authorization: `Bearer ${token}` });

describe("one's sessions", () => {
  test("are listed, the one used last first, and one can be ended by another", async () => {
    const { email, token } = await platform.person();
    const { cookies } = await logIn(email, { "user-agent": "Firefox" });
    const list = async () => {
      const { body } = await platform.call("GET", "/v1/me/sessions", { token });
      return body.sessions as { id: string; user_agent: string; current: boolean }[];
    };
    const [browser, program] = await list();
    const end = (id = "") => platform.call("DELETE", `/v1/me/sessions/${id}`, { token });

    expect<unknown>(browser).toEqual({
      id: expect.stringMatching(/^[0-9a-f]{64}$/),
      user_agent: "Firefox",
      ip_address: "unknown",
      created_at: expect.stringMatching(/Z$/),
      last_seen_at: expect.stringMatching(/Z$/),
      expires_at: expect.stringMatching(/Z$/),
      current: false,
    });
    expect(program).toMatchObject({ current: true });
    expect([(await end(browser?.id)).status, await me(cookies)]).toEqual([
      204,
      "401 auth_session_required",
    ]);
    expect(await list()).toHaveLength(1);
  });

  test("are nobody else's to end, and what is unknown is no error", async () => {
    const [ours, theirs] = [await platform.person(), await platform.person()];
    const { body } = await platform.call("GET", "/v1/me/sessions", { token: theirs.token });
    const [{ id }] = body.sessions as [{ id: string }];
    const end = (what: string) =>
      platform.call("DELETE", `/v1/me/sessions/${what}`, { token: ours.token });

    const statuses = [(await end(id)).status, (await end("0".repeat(64))).status];
    expect(statuses).toEqual([204, 204]);
    expect((await platform.call("GET", "/v1/me", { token: theirs.token })).status).toBe(200);
  });

  test("the secrets of cookies are not in the database", async () => {
    const { email } = await platform.person();
    const { cookies } = await logIn(email);

    const rows = JSON.stringify(await sql`select * from sessions`);
    expect(rows).not.toContain(cookies.wrenn_sid ?? "");
    expect(rows).not.toContain(cookies.wrenn_csrf ?? "");
  });

  test("are bounded in number: the ones used longest ago end", async () => {
    const { email } = await platform.person();
    await sql`insert into sessions (id, user_id, team_id, last_seen_at, expires_at)
      select n::text, user_id, team_id, now() - make_interval(secs => n), expires_at
      from sessions, generate_series(1, ${SESSIONS_PER_USER_MAX + 5}) as n
      where user_id = (select id from users where email = ${email})`;

    const { cookies } = await logIn(email);
    const [row] = await sql`select count(*)::int as sessions, bool_or(id = '1') as newest,
      bool_or(id = ${String(SESSIONS_PER_USER_MAX)}) as oldest
      from sessions where user_id = (select id from users where email = ${email})`;

    expect<unknown>(row).toEqual({ sessions: SESSIONS_PER_USER_MAX, newest: true, oldest: false });
    expect(await me(cookies)).toBe(200);
  });

  test("that are over are forgotten, others are not", async () => {
    const [gone, stays] = [await platform.person(), await platform.person()];
    await sql`update sessions set last_seen_at = now() - interval '6 hours'
      where user_id = (select id from users where email = ${gone.email})`;

    await platform.sessions.expire(100);
    const rows = await sql`select email from sessions join users on users.id = user_id
      where email in (${gone.email}, ${stays.email})`;
    expect<unknown>([...rows]).toEqual([{ email: stays.email }]);
  });

  // A write for each request would cost more than the request.
  test("keep when they were used, written behind and once a minute", async () => {
    const { email } = await platform.person();
    const { cookies } = await logIn(email);
    const age = () => sql`update sessions set last_seen_at = now() - interval '61 seconds'
      where user_id = (select id from users where email = ${email})`;
    const seen = async () => {
      const [row] = await sql<{ xmin: string; isRecent: boolean }[]>`
        select string_agg(xmin::text, ' ') as xmin,
          bool_or(last_seen_at > now() - interval '30 seconds') as "isRecent"
        from sessions where user_id = (select id from users where email = ${email})`;
      return row;
    };
    await age();
    const before = await seen();
    await Promise.all(Array.from({ length: 20 }, () => me(cookies)));
    const used = await seen();
    await platform.lastUses.write();
    const written = await seen();
    await me(cookies);
    await platform.lastUses.write();

    expect(used).toEqual(before);
    expect(written?.isRecent).toBe(true);
    expect(await seen()).toEqual(written);
  });
});

// Else a password that is changed, and all sessions ended, would leave one behind that the old password began.
test("a login that was checked before its account changed begins no session", async () => {
  const { email } = await platform.person();
  const changed = Promise.withResolvers<void>();
  const held = Promise.withResolvers<void>();
  const changing = sql.begin(async (tx) => {
    await tx`select 1 from users where email = ${email} for update`;
    held.resolve();
    await changed.promise;
    await tx`update users set password_hash = 'other' where email = ${email}`;
    await tx`delete from sessions where user_id = (select id from users where email = ${email})`;
  });
  await held.promise;
  const login = logIn(email);
  await waitFor("the login to wait for the row", async () => {
    const [row] = await sql<{ waits: boolean }[]>`
      select exists (select from pg_stat_activity where datname = current_database()
        and wait_event_type = 'Lock' and query like '%users%for update%') as waits`;
    return row?.waits;
  });
  changed.resolve();
  await changing;

  expect(await login).toMatchObject({ status: 401, reason: "auth_invalid_credentials" });
  const rows = await sql`select 1 from sessions join users on users.id = user_id
    where email = ${email}`;
  expect(rows.length).toBe(0);
});
