import { describe, expect, test } from "bun:test";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { AccountsPlatform, PASSWORD } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { sha256Hex } from "../digest.ts";
import { SIGNUP_PER_ADDRESS } from "../rate-limiter.ts";

const platform = await forThisFile(AccountsPlatform.start());

const post = (path: string, body: unknown, token?: string) =>
  platform.call("POST", `/v1/auth/${path}`, { body, ...(token ? { token } : {}) });
const logIn = (email: string, password = PASSWORD) => post("login", { email, password });
const code = async (answer: ReturnType<typeof post>): Promise<unknown[]> => {
  const { status, body } = await answer;
  return [status, body.error?.code];
};
const setStatus = (email: string, status: string) =>
  platform.database.sql`update users set status = ${status} where email = ${email}`;

describe("signup", () => {
  test("makes an inactive account and mails a link that activates it", async () => {
    const answer = await post("signup", {
      email: "  Grace@Example.com ",
      password: PASSWORD,
      name: " Grace ",
    });
    const early = await code(logIn("grace@example.com"));
    const token = await platform.mailedToken("grace@example.com");
    const activated = await post("activate", { token });
    const late = await logIn("GRACE@example.com");

    expect<unknown>(answer).toEqual({ status: 201, body: { message: expect.any(String) } });
    expect(early).toEqual([403, "account_not_activated"]);
    expect<unknown>(activated).toEqual({
      status: 200,
      body: {
        token: expect.any(String),
        user_id: expect.stringMatching(/^usr-/),
        team_id: expect.stringMatching(/^team-/),
        email: "grace@example.com",
        name: "Grace",
        ...{ role: "owner", is_admin: true },
      },
    });
    expect(late.body).toMatchObject({
      email: "grace@example.com",
      team_id: activated.body.team_id,
    });
  });

  test.each([
    [{ password: PASSWORD, name: "A" }, "email"],
    [{ email: "nobody", password: PASSWORD, name: "A" }, "email: must be a mail address"],
    [{ email: "a@", password: PASSWORD, name: "A" }, "email"],
    // One mail to several people.
    [{ email: "a@x.test,b@x.test;c@x.test", password: PASSWORD, name: "A" }, "email"],
    [{ email: "a b<c@d.test>", password: PASSWORD, name: "A" }, "email"],
    [{ email: "<c@d.test>", password: PASSWORD, name: "A" }, "email"],
    [{ email: "a@x.test b@x.test", password: PASSWORD, name: "A" }, "email"],
    [{ email: `${"a".repeat(65)}@x.test`, password: PASSWORD, name: "A" }, "email"],
    [{ email: "a@b\nBcc: c@d", password: PASSWORD, name: "A" }, "email"],
    [{ email: 7, password: PASSWORD, name: "A" }, "email: expected string"],
    [{ email: "a@b", password: "seven77", name: "A" }, "password: must have at least 8 bytes"],
    [{ email: "a@b", password: "x".repeat(1025), name: "A" }, "password"],
    [{ email: "a@b", password: PASSWORD, name: "   " }, "name: must have 1 to 100 bytes"],
    [{ email: "a@b", password: PASSWORD, name: "é".repeat(51) }, "name: must have 1 to 100 bytes"],
    [{ email: "a@b", password: PASSWORD, name: "a\u0000b" }, "name"],
    [{ email: "a@b", password: PASSWORD }, "name"],
  ])("refuses %j naming the field", async (body, message) => {
    const answer = await post("signup", body);

    expect(answer.status).toBe(400);
    expect(answer.body.error.code).toBe("invalid_request");
    expect(answer.body.error.message).toStartWith(message);
    expect(JSON.stringify(answer.body)).not.toContain(PASSWORD);
  });

  test("refuses an address that has an active account, in any case of letters", async () => {
    const { email } = await platform.person();

    const body = { email: email.toUpperCase(), password: PASSWORD, name: "B" };
    expect(await code(post("signup", body))).toEqual([409, "email_taken"]);
  });

  test("keeps an address for half an hour for the one who signed up, then gives it away", async () => {
    const first = await platform.signUp("slow@example.com");
    const again = await code(
      post("signup", { email: "slow@example.com", password: PASSWORD, name: "B" }),
    );
    // It is the database's half hour, whatever the clock of this control plane says.
    platform.clock.advance(31 * 60_000);
    const early = await code(
      post("signup", { email: "slow@example.com", password: PASSWORD, name: "B" }),
    );
    platform.clock.advance(-31 * 60_000);
    await platform.database.sql`update users set created_at = created_at - interval '31 minutes'
      where email = 'slow@example.com'`;
    const second = await platform.signUp("slow@example.com");

    expect([again, early]).toEqual([
      [409, "signup_cooldown"],
      [409, "signup_cooldown"],
    ]);
    expect(await code(post("activate", { token: first }))).toEqual([400, "invalid_token"]);
    expect(await code(post("activate", { token: second }))).toEqual([200, undefined]);
  });

  test("keeps no password of one for another who signs up with the same address", async () => {
    const email = "wanted@example.com";
    const asked = (password: string) => code(post("signup", { email, password, name: "B" }));
    const logged = (password: string) => code(post("login", { email, password }));
    const token = await platform.signUp(email);
    const again = await asked(PASSWORD);
    const owner = await asked("another horse battery");
    const { body } = await post("activate", { token });

    expect([again, owner]).toEqual(Array(2).fill([409, "signup_cooldown"]));
    expect([await logged(PASSWORD), await logged("another horse battery")]).toEqual(
      Array(2).fill([401, "unauthorized"]),
    );
    const me = await platform.call("GET", "/v1/me", { token: body.token });
    expect(me.body).toMatchObject({ email, has_password: false });
  });

  test("keeps the password of one who asks twice with it", async () => {
    const email = "twice@example.com";
    const token = await platform.signUp(email);
    await post("signup", { email, password: PASSWORD, name: "B" });
    await post("activate", { token });

    expect(await code(post("login", { email, password: PASSWORD }))).toEqual([200, undefined]);
  });

  test("stops one address that signs up without end", async () => {
    const key = `wrenn:rate:${SIGNUP_PER_ADDRESS.name}:${sha256Hex("unknown")}`;
    const before = await platform.redis.get(key);
    await platform.redis.set(key, SIGNUP_PER_ADDRESS.attemptsMax, "KEEPTTL");
    const stopped = await code(
      post("signup", { email: "more@example.com", password: PASSWORD, name: "M" }),
    );
    await platform.redis.set(key, before ?? 0, "KEEPTTL");

    expect(stopped).toEqual([429, "rate_limited"]);
  });

  test("leaves nothing behind when the mail can't be sent", async () => {
    await using fresh = await AccountsPlatform.start();
    await rm(fresh.mailDir, { recursive: true });
    await writeFile(fresh.mailDir, "");
    const body = { email: "a@example.com", password: PASSWORD, name: "A" };
    const { status } = await fresh.call("POST", "/v1/auth/signup", { body });
    await rm(fresh.mailDir);
    await mkdir(fresh.mailDir);

    expect(status).toBe(500);
    expect(await fresh.signUp("a@example.com")).toMatch(/^[0-9a-f]{32}$/);
  });

  test("of ten at once for one address, one gets it", async () => {
    const body = { email: "race@example.com", password: PASSWORD, name: "R" };
    const answers = await Promise.all(Array.from({ length: 10 }, () => code(post("signup", body))));

    const won = answers.filter(([status]) => status === 201);
    const lost = answers.filter(([, error]) => error === "signup_cooldown");
    expect([won.length, lost.length]).toEqual([1, 9]);
    expect(await platform.mailsTo("race@example.com")).toHaveLength(1);
  });
});

describe("activate", () => {
  test("works once, even when tried ten times at once", async () => {
    const token = await platform.signUp("once@example.com");

    const answers = await Promise.all(
      Array.from({ length: 10 }, () => code(post("activate", { token }))),
    );

    expect(answers.filter(([status]) => status === 200)).toHaveLength(1);
    expect(answers.filter(([, error]) => error === "invalid_token")).toHaveLength(9);
  });

  test("tells an account that is active already", async () => {
    const token = await platform.signUp("eager@example.com");
    await setStatus("eager@example.com", "active");

    expect(await code(post("activate", { token }))).toEqual([400, "already_activated"]);
  });

  test.each([[{ token: "" }], [{}], [{ token: 5 }], [{ token: "x".repeat(200) }]])(
    "refuses %j as a bad request",
    async (body) => {
      const { status, body: answer } = await post("activate", body);

      expect([status, answer.error.code]).toEqual([400, "invalid_request"]);
      expect(answer.error.message).toStartWith("token");
    },
  );

  test("gives the token back when the database fails", async () => {
    const token = await platform.signUp("outage@example.com");
    await platform.database.sql`alter table users_teams rename to users_teams_away`;
    const failed = await code(post("activate", { token }));
    await platform.database.sql`alter table users_teams_away rename to users_teams`;

    expect(failed).toEqual([500, "internal_error"]);
    expect(await code(post("activate", { token }))).toEqual([200, undefined]);
  });
});

describe("login", () => {
  test("answers alike for an unknown address, a wrong password and a deleted account", async () => {
    const { email } = await platform.person();
    const { email: deleted } = await platform.person();
    await setStatus(deleted, "deleted");

    const answers = [
      await logIn("unknown@example.com"),
      await logIn(email, "wrong password"),
      await logIn(deleted),
    ];
    const same = {
      status: 401,
      body: { error: { code: "unauthorized", message: "invalid email or password" } },
    };
    expect<unknown>(answers).toMatchObject([same, same, same]);
  });

  // A difference would tell strangers which addresses have accounts.
  test("takes as long for an unknown address as for a wrong password", async () => {
    const { email } = await platform.person();
    const timeMs = async (address: string) => {
      const startedAt = performance.now();
      await logIn(address, "wrong password");
      return performance.now() - startedAt;
    };
    const known: number[] = [];
    const unknown: number[] = [];
    for (let i = 0; i < 9; i++) {
      known.push(await timeMs(email));
      unknown.push(await timeMs(`nobody${i}@example.com`));
    }

    // A busy machine only ever adds to it.
    const ratio = Math.min(...unknown) / Math.min(...known);
    expect(ratio).toBeGreaterThan(0.5);
    expect(ratio).toBeLessThan(2);
  });

  test("tells a disabled account so, but only to who knows its password", async () => {
    const { email } = await platform.person();
    await setStatus(email, "disabled");

    expect(await code(logIn(email))).toEqual([403, "account_disabled"]);
    expect(await code(logIn(email, "wrong password"))).toEqual([401, "unauthorized"]);
  });

  test("refuses an account without a password", async () => {
    const { email } = await platform.person();
    await platform.database.sql`update users set password_hash = null where email = ${email}`;

    expect(await code(logIn(email))).toEqual([401, "unauthorized"]);
  });

  test("stops after ten failures from one address, and a success starts over", async () => {
    const { email } = await platform.person();
    for (let i = 0; i < 9; i++) await logIn(email, "wrong password");
    const success = await code(logIn(email));
    for (let i = 0; i < 10; i++) await logIn(email, "wrong password");

    expect(success).toEqual([200, undefined]);
    expect(await code(logIn(email))).toEqual([429, "rate_limited"]);
  });

  test("gives one who has no team a team, once, however many logins run", async () => {
    const { email } = await platform.person("Edsger");
    const { sql } = platform.database;
    await sql`update teams set deleted_at = now() where id in (
      select team_id from users_teams join users on users.id = user_id where email = ${email})`;

    const answers = await Promise.all(Array.from({ length: 5 }, () => logIn(email)));

    expect(new Set(answers.map(({ body }) => body.team_id)).size).toBe(1);
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
  });

  test("reads a bcrypt hash of the first Wrenn", async () => {
    const { email } = await platform.person();
    const hash = await Bun.password.hash(PASSWORD, { algorithm: "bcrypt", cost: 4 });
    await platform.database.sql`update users set password_hash = ${hash} where email = ${email}`;

    expect(await code(logIn(email))).toEqual([200, undefined]);
  });

  // The time of a refusal would tell who has an account, and whose is old.
  test("fails no sooner for an unknown address than for a hash of whatever kind", async () => {
    const [young, old] = [await platform.person(), await platform.person()];
    const hash = await Bun.password.hash(PASSWORD, { algorithm: "bcrypt", cost: 10 });
    await platform.database
      .sql`update users set password_hash = ${hash} where email = ${old.email}`;

    for (const email of [young.email, old.email, "nobody@example.com"]) {
      const beganAtMs = performance.now();
      expect(await code(logIn(email, "a wrong one"))).toEqual([401, "unauthorized"]);
      expect(performance.now() - beganAtMs).toBeGreaterThan(298);
    }
  });

  test("tells passwords apart that differ after byte 72", async () => {
    const password = "p".repeat(100);
    const body = { email: "long@example.com", password, name: "L" };
    await post("signup", body);
    await post("activate", { token: await platform.mailedToken("long@example.com") });

    expect(await code(logIn("long@example.com", `${"p".repeat(99)}q`))).toEqual([
      401,
      "unauthorized",
    ]);
    expect(await code(logIn("long@example.com", password))).toEqual([200, undefined]);
  });

  test.each([[{ email: "a@b" }], [{ password: "x" }], [{ email: "a@b", password: "" }]])(
    "refuses %j as a bad request",
    async (body) => {
      expect(await code(post("login", body))).toEqual([400, "invalid_request"]);
    },
  );
});

describe("switch-team", () => {
  test("gives a token for another team of the user", async () => {
    const { token } = await platform.person();
    const team = await platform.call("POST", "/v1/teams", { token, body: { name: "Second" } });

    const switched = await post("switch-team", { team_id: team.body.id }, token);

    expect(switched).toMatchObject({ status: 200, body: { team_id: team.body.id } });
    const keys = await platform.call("POST", "/v1/api-keys", {
      token: switched.body.token,
      body: {},
    });
    expect(keys.body).toMatchObject({ team_id: team.body.id });
  });

  test("refuses a team that isn't there, is deleted, or is somebody else's", async () => {
    const { token, teamId: own } = await platform.person();
    const { teamId: others } = await platform.person();
    const { token: leaver, teamId: deleted } = await platform.person();
    await platform.database.sql`update teams set deleted_at = now() where id in (
      select team_id from users_teams where user_id = (
        select id from users where email like 'person%' order by created_at desc limit 1))`;

    expect(await code(post("switch-team", { team_id: own }))).toEqual([401, "unauthorized"]);
    expect(await code(post("switch-team", { team_id: "team-1" }, token))).toEqual([
      400,
      "invalid_request",
    ]);
    expect(await code(post("switch-team", {}, token))).toEqual([400, "invalid_request"]);
    expect(await code(post("switch-team", { team_id: others }, token))).toEqual([403, "forbidden"]);
    expect(await code(post("switch-team", { team_id: `team-${"1".repeat(25)}` }, token))).toEqual([
      404,
      "not_found",
    ]);
    expect(await code(post("switch-team", { team_id: deleted }, leaver))).toEqual([
      404,
      "not_found",
    ]);
  });
});
