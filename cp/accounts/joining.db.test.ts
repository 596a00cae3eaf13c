// Whoever joins, be it by an invitation or by a provider, does so once, and as a whole or not at all: the transaction
// of the control plane ends at each step of it, as it does when the process is killed.

import { describe, expect, setDefaultTimeout, test } from "bun:test";
import { AccountsPlatform, PASSWORD, type Person } from "../../tests/harness/accounts-platform.ts";
import { Browser } from "../../tests/harness/browser.ts";
import { dieAt, named, type Step } from "../../tests/harness/dying-transaction.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { CLIENT, GithubServer } from "../../tests/harness/identity-providers.ts";

setDefaultTimeout(60_000);

const HERE = "http://wrenn.test";
const github = await forThisFile(Promise.resolve(new GithubServer()));
const platform = await forThisFile(
  AccountsPlatform.start({ github: { url: github.url, ...CLIENT }, openid: [] }),
);
const { sql } = platform.database;
const owner = await platform.person("Owner");

/** How many rows there are of what joining makes, but for the log of logins that there were. */
async function counts(): Promise<Record<string, number>> {
  const [row] = await sql<Record<string, number>[]>`select
    (select count(*)::int from users) as users,
    (select count(*)::int from teams) as teams,
    (select count(*)::int from users_teams) as members,
    (select count(*)::int from sessions) as sessions,
    (select count(*)::int from oauth_providers) as identities,
    (select count(*)::int from team_invitations) as invitations,
    (select count(*)::int from audit_logs) as entries`;
  return row ?? {};
}

let invited = 0;
async function invite(email: string): Promise<string> {
  const body = { email, role: "member" };
  const { token } = owner;
  await platform.call("POST", `/v1/teams/${owner.teamId}/invitations`, { token, body });
  return await platform.mailedToken(email);
}

const step = (table: string, does: Step["does"], isAtCommit = false): [string, Step] => [
  named({ table, does, isAtCommit }),
  { table, does, isAtCommit },
];

describe("an invitation that somebody accepts who has an account", () => {
  const accept = ({ token }: Person, code: string) =>
    platform.call("POST", "/v1/invitations/accept", { token, body: { token: code } });

  test.each([
    step("team_invitations", "delete"),
    step("users_teams", "insert"),
    step("audit_logs", "insert"),
    step("audit_logs", "insert", true),
  ])("is good again after the end of %s", async (_, at) => {
    const person = await platform.person();
    const code = await invite(person.email);
    const before = await counts();
    const dying = await dieAt(sql, at);
    const died = await accept(person, code);
    await dying[Symbol.asyncDispose]();
    const after = await counts();

    const answers = [died.status >= 500, (await accept(person, code)).status];
    expect(after).toEqual(before);
    expect([...answers, (await accept(person, code)).status]).toEqual([true, 200, 400]);
  });
});

describe("an invitation that makes an account", () => {
  const signUp = (code: string) =>
    platform.call("POST", "/v1/auth/signup/invited", {
      body: { token: code, name: "Ada", password: PASSWORD },
    });

  test.each([
    step("users", "insert"),
    step("users", "update"),
    step("team_invitations", "delete"),
    step("users_teams", "insert"),
    step("sessions", "insert"),
    step("sessions", "insert", true),
  ])("is good again after the end of %s", async (_, at) => {
    invited += 1;
    const code = await invite(`invited${invited}@example.com`);
    const before = await counts();
    const dying = await dieAt(sql, at);
    const died = await signUp(code);
    await dying[Symbol.asyncDispose]();
    const after = await counts();

    const answers = [died.status >= 500, (await signUp(code)).status];
    expect(after).toEqual(before);
    expect([...answers, (await signUp(code)).status]).toEqual([true, 200, 400]);
  });
});

describe("a provider's word about somebody new", () => {
  test.each([
    step("users", "insert"),
    step("users", "update"),
    step("oauth_providers", "insert"),
    step("teams", "insert"),
    step("users_teams", "insert"),
    step("sessions", "insert"),
    step("audit_logs", "insert"),
    step("sessions", "insert", true),
  ])("makes an account at the next visit after the end of %s", async (_, at) => {
    invited += 1;
    const email = `github${invited}@example.com`;
    github.somebody = { id: String(5000 + invited), email, isVerified: true, name: "Ada" };
    const browser = new Browser({ app: platform.app, here: HERE });
    const back = await browser.pass(await browser.start("github", "signup"));
    const before = await counts();
    const dying = await dieAt(sql, at);
    const died = await browser.comeBack(back);
    await dying[Symbol.asyncDispose]();
    const after = await counts();

    expect(after).toEqual(before);
    expect(died).toContain("error=internal_error");
    expect(browser.jar.cookies.has("wrenn_sid")).toBe(false);
    // The visit is over, whatever came of it.
    expect(await browser.comeBack(back)).toContain("error=invalid_state");
    await browser.visit("github", "signup");
    expect(await browser.me()).toMatchObject({ email, providers: ["github"] });
  });
});

test("an identity that two people connect at once is one's, however often that one does", async () => {
  github.somebody = { id: "7000", email: "g7@example.com", isVerified: true, name: "Ada" };
  const [one, two] = [await platform.person(), await platform.person()];
  const visits = await Promise.all(
    [one, two, one].map(async ({ token }) => {
      const browser = new Browser({ app: platform.app, here: HERE });
      const headers = { authorization: `Bearer ${token}` };
      const started = await browser.ask("/v1/me/providers/github/connect", headers);
      const { auth_url: url } = (await started.json()) as { auth_url: string };
      return { browser, back: await browser.pass(url) };
    }),
  );

  const ends = await Promise.all(visits.map(({ browser, back }) => browser.comeBack(back)));
  const outcomes = ends.map((end) => /connected|already_linked/.exec(end)?.[0]);
  const owners = await sql`select users.email from oauth_providers
    join users on users.id = user_id where provider_id = '7000'`;
  const isTwos = owners[0]?.email === two.email;
  expect(owners).toHaveLength(1);
  expect(outcomes).toEqual(
    isTwos
      ? ["already_linked", "connected", "already_linked"]
      : ["connected", "already_linked", "connected"],
  );
});
