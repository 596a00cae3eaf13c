// Changing, adding and resetting passwords, and what strangers try with that.

import { describe, expect, test } from "bun:test";
import { AccountsPlatform, PASSWORD } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { sha256Hex } from "../digest.ts";
import {
  CODE_PER_ADDRESS,
  LOGIN_PER_ACCOUNT_AND_ADDRESS,
  RESET_PER_ACCOUNT,
  RESET_PER_ADDRESS,
} from "../rate-limiter.ts";

const platform = await forThisFile(AccountsPlatform.start());
const { sql } = platform.database;

const NEXT = "another battery staple";

const outcome = async (answer: ReturnType<typeof platform.call>): Promise<string> => {
  const { status, body } = await answer;
  return body.error === undefined ? `${status}` : `${status} ${body.error.code}`;
};
const change = (token: string, body: unknown) =>
  outcome(platform.call("POST", "/v1/me/password", { token, body }));
const logIn = (email: string, password: string, on = platform) =>
  outcome(on.call("POST", "/v1/auth/login", { body: { email, password } }));
const askReset = (email: string) =>
  outcome(platform.call("POST", "/v1/me/password/reset", { body: { email } }));
const confirm = (token: string, password = NEXT) =>
  outcome(
    platform.call("POST", "/v1/me/password/reset/confirm", {
      body: { token, new_password: password },
    }),
  );
const me = (token: string) => outcome(platform.call("GET", "/v1/me", { token }));

/** The mails to the address, once there are so many. */
async function mails(email: string, count: number): Promise<string[]> {
  return await waitFor(`${count} mails`, () => platform.mailsTo(email), {
    holds: (texts) => texts.length >= count,
  });
}

async function resetCode(email: string): Promise<string> {
  const before = await platform.mailsTo(email);
  expect(await askReset(email)).toBe("204");
  await mails(email, before.length + 1);
  return await platform.mailedToken(email);
}

describe("a password is changed", () => {
  test("by who knows it, which ends all sessions and is mailed", async () => {
    const { token, email } = await platform.person();
    await logIn(email, PASSWORD);
    const answer = await platform.app.handle(
      new Request("http://localhost/v1/me/password", {
        method: "POST",
        headers: { authorization: `Bearer ${token}` },
        body: JSON.stringify({ current_password: PASSWORD, new_password: NEXT }),
      }),
    );
    const rows = await sql`select 1 from sessions join users on users.id = user_id
      where email = ${email}`;

    expect([answer.status, answer.headers.getSetCookie().length, rows.length]).toEqual([204, 2, 0]);
    expect([await me(token), await logIn(email, PASSWORD), await logIn(email, NEXT)]).toEqual([
      "401 unauthorized",
      "401 unauthorized",
      "200",
    ]);
    expect((await platform.mailsTo(email)).at(-1)).toContain(
      "password of your account was changed",
    );
  });

  test("not with a wrong or missing one, nor to one that is too short", async () => {
    const { token, email } = await platform.person();

    expect([
      await change(token, { current_password: "wrong password", new_password: NEXT }),
      await change(token, { new_password: NEXT, confirm_password: NEXT }),
      await change(token, { current_password: PASSWORD, new_password: "short" }),
      await change(token, { current_password: PASSWORD }),
    ]).toEqual([
      "401 wrong_password",
      "400 invalid_request",
      "400 invalid_request",
      "400 invalid_request",
    ]);
    expect([await me(token), await logIn(email, PASSWORD)]).toEqual(["200", "200"]);
  });

  test("by one of ten at once", async () => {
    const { token, email } = await platform.person();
    const body = (i: number) => ({ current_password: PASSWORD, new_password: `${NEXT} ${i}` });

    const outcomes = await Promise.all(
      Array.from({ length: 10 }, (_, i) => change(token, body(i))),
    );
    const won = outcomes.indexOf("204");

    expect(outcomes.filter((one) => one === "204")).toHaveLength(1);
    expect(await logIn(email, `${NEXT} ${won}`)).toBe("200");
  });

  // Whoever finds a browser open must not learn the password from it.
  test("by nobody who guesses", async () => {
    const { token } = await platform.person();
    const guess = () => change(token, { current_password: "guess guess", new_password: NEXT });
    for (let i = 0; i < 10; i++) await guess();

    expect(await guess()).toBe("429 rate_limited");
    expect(await change(token, { current_password: PASSWORD, new_password: NEXT })).toBe(
      "429 rate_limited",
    );
  });
});

test("an account without a password adds one by saying it twice", async () => {
  const { token, email } = await platform.person();
  await sql`update users set password_hash = null where email = ${email}`;

  expect([
    await change(token, { new_password: NEXT }),
    await change(token, { new_password: NEXT, confirm_password: "something else" }),
    await change(token, { new_password: NEXT, confirm_password: NEXT }),
    await logIn(email, NEXT),
  ]).toEqual(["400 invalid_request", "400 invalid_request", "204", "200"]);
});

describe("a forgotten password", () => {
  test("is reset once with the code that was mailed, which ends all sessions", async () => {
    const { token, email } = await platform.person();
    const code = await resetCode(email);

    expect([await confirm(code, "short"), await confirm(code), await confirm(code)]).toEqual([
      "400 invalid_request",
      "204",
      "400 invalid_token",
    ]);
    expect([await me(token), await logIn(email, PASSWORD), await logIn(email, NEXT)]).toEqual([
      "401 unauthorized",
      "401 unauthorized",
      "200",
    ]);
  });

  test("is not told apart from that of nobody, of an inactive and of a deleted account", async () => {
    await platform.signUp("inactive@example.com");
    const { email } = await platform.person();
    await sql`update users set status = 'deleted' where email = ${email}`;
    const before = await platform.mailsTo(email);

    expect([
      await askReset("nobody@example.com"),
      await askReset("inactive@example.com"),
      await askReset(email),
      await askReset("nothing"),
    ]).toEqual(["204", "204", "204", "400 invalid_request"]);
    // A mail to somebody else, which was asked for later, is there.
    await resetCode((await platform.person()).email);
    expect(await platform.mailsTo("nobody@example.com")).toEqual([]);
    expect(await platform.mailsTo("inactive@example.com")).toHaveLength(1);
    expect(await platform.mailsTo(email)).toEqual(before);
  });

  test("is not reset with a code from before another change, or of who was disabled since", async () => {
    const [changed, disabled] = [await platform.person(), await platform.person()];
    const codes = [await resetCode(changed.email), await resetCode(disabled.email)];
    await change(changed.token, { current_password: PASSWORD, new_password: NEXT });
    await sql`update users set status = 'disabled' where email = ${disabled.email}`;

    for (const code of codes) expect(await confirm(code)).toBe("400 invalid_token");
  });

  test("fills nobody's mailbox", async () => {
    const { email } = await platform.person();
    for (let i = 0; i < RESET_PER_ACCOUNT.attemptsMax; i++) await resetCode(email);
    const full = await platform.mailsTo(email);

    expect(await askReset(email)).toBe("204");
    await resetCode((await platform.person()).email);
    expect(await platform.mailsTo(email)).toHaveLength(full.length);
  });

  test("is not reset with the code of an activation, nor an account activated with its code", async () => {
    const activation = await platform.signUp("codes@example.com");
    const code = await resetCode((await platform.person()).email);
    const activate = platform.call("POST", "/v1/auth/activate", { body: { token: code } });

    expect([await confirm(activation), await outcome(activate)]).toEqual([
      "400 invalid_token",
      "400 invalid_token",
    ]);
  });
});

test("while codes can't be kept a reset is refused, whether there is such an account or not", async () => {
  await using fresh = await AccountsPlatform.start();
  const { email } = await fresh.person();
  const ask = (address: string) =>
    outcome(fresh.call("POST", "/v1/me/password/reset", { body: { email: address } }));
  fresh.redis.disconnect();
  const away = [await ask(email), await ask("nobody@example.com")];
  await fresh.redis.connect();

  expect(away).toEqual(Array(2).fill("503 service_unavailable"));
  expect([await ask(email), await ask("nobody@example.com")]).toEqual(["204", "204"]);
});

test.each([
  ["/v1/me/password/reset", { email: "nobody@example.com" }, RESET_PER_ADDRESS],
  ["/v1/me/password/reset/confirm", { token: "t", new_password: NEXT }, CODE_PER_ADDRESS],
  ["/v1/auth/activate", { token: "t" }, CODE_PER_ADDRESS],
])("one address can't ask %s without end", async (path, body, { name, attemptsMax }) => {
  const key = `wrenn:rate:${name}:${sha256Hex("unknown")}`;
  await platform.redis.set(key, attemptsMax, "EX", 60);
  const request = new Request(`http://localhost${path}`, {
    method: "POST",
    body: JSON.stringify(body),
  });
  const response = await platform.app.handle(request);
  await platform.redis.del(key);

  expect(response.status).toBe(429);
  expect(Number(response.headers.get("retry-after"))).toBeWithin(1, 61);
});

test("a name is changed, and has the bounds that it has at sign-up", async () => {
  const { token } = await platform.person();
  const rename = (name: unknown) =>
    outcome(platform.call("PATCH", "/v1/me", { token, body: { name } }));

  expect([await rename(" Hopper "), await rename("  "), await rename("é".repeat(51))]).toEqual([
    "204",
    "400 invalid_request",
    "400 invalid_request",
  ]);
  const { body } = await platform.call("GET", "/v1/me", { token });
  expect(body.name).toBe("Hopper");
});

test("a bcrypt hash of the first Wrenn is replaced at login, and no session is lost", async () => {
  const { token, email } = await platform.person();
  const hash = await Bun.password.hash(PASSWORD, { algorithm: "bcrypt", cost: 4 });
  await sql`update users set password_hash = ${hash} where email = ${email}`;

  const outcomes = await Promise.all([logIn(email, PASSWORD), logIn(email, PASSWORD)]);
  const [row] = await sql<{ hash: string }[]>`
    select password_hash as hash from users where email = ${email}`;

  expect(outcomes).toContain("200");
  expect(row?.hash).toStartWith("$argon2id$");
  expect([await me(token), await logIn(email, PASSWORD)]).toEqual(["200", "200"]);
});

test("hashing holds nobody up", async () => {
  const { email } = await platform.person();
  const logins = Promise.all(Array.from({ length: 8 }, () => logIn(email, "wrong password")));
  let isOver = false;
  void logins.then(() => {
    isOver = true;
  });
  let rounds = 0;
  while (!isOver) {
    await Bun.sleep(0);
    rounds += 1;
  }

  // One of them on the event loop would take 46 ms of it.
  expect(rounds).toBeGreaterThan(20);
});

test("a login works while Redis is away, and guessing is limited still", async () => {
  await using fresh = await AccountsPlatform.start();
  const { email } = await fresh.person();
  fresh.redis.disconnect();
  const success = await logIn(email, PASSWORD, fresh);
  const guesses: string[] = [];
  for (let i = 0; i < LOGIN_PER_ACCOUNT_AND_ADDRESS.attemptsMax; i++) {
    guesses.push(await logIn(email, "guess guess", fresh));
  }
  const refused = await logIn(email, PASSWORD, fresh);
  await fresh.redis.connect();

  expect(success).toBe("200");
  expect(new Set(guesses)).toEqual(new Set(["401 unauthorized"]));
  expect(refused).toBe("429 rate_limited");
  // It counts anew where all count.
  expect(await logIn(email, PASSWORD, fresh)).toBe("200");
});
