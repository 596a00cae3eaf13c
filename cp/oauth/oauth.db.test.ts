// Signing in by a provider, and connecting one: with a real OpenID provider, and a server that has GitHub's endpoints.

import { beforeEach, describe, expect, test } from "bun:test";
import { AccountsPlatform, PASSWORD, type Person } from "../../tests/harness/accounts-platform.ts";
import { Browser } from "../../tests/harness/browser.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  CLIENT,
  GithubServer,
  OpenidServer,
  type Somebody,
} from "../../tests/harness/identity-providers.ts";

const HERE = "http://wrenn.test";
const PAGES = "https://app.wrenn.test";
const corp = await forThisFile(OpenidServer.start(`${HERE}/auth/oauth/corp/callback`));
const github = await forThisFile(Promise.resolve(new GithubServer()));
const platform = await forThisFile(
  AccountsPlatform.start({
    github: { url: github.url, ...CLIENT },
    openid: [
      { name: "corp", issuer: corp.issuer, ...CLIENT },
      { name: "away", issuer: "http://127.0.0.1:1", ...CLIENT },
    ],
  }),
);
const { sql } = platform.database;
const openBrowser = () => new Browser({ app: platform.app, here: HERE });
const BOTH = ["corp", "github"] as const;
type Name = (typeof BOTH)[number];

let people = 0;

/** Somebody new sits down at the browser. */
function sitDown(more: Partial<Somebody> = {}): Somebody {
  people += 1;
  const email = `oauth${people}@example.com`;
  const somebody = { id: String(1000 + people), email, isVerified: true, name: "Ada", ...more };
  corp.somebody = somebody;
  github.somebody = somebody;
  return somebody;
}

beforeEach(() => {
  sitDown();
});

const page = (name: string) => `${PAGES}/auth/${name}/callback`;
const failed = (name: string, failure: string) => `${page(name)}?error=${failure}`;

async function connected(person: Person, name: Name): Promise<string> {
  const browser = openBrowser();
  const { token } = person;
  const started = await browser.ask(`/v1/me/providers/${name}/connect`, {
    authorization: `Bearer ${token}`,
  });
  const { auth_url: url } = (await started.json()) as { auth_url: string };
  return await browser.comeBack(await browser.pass(url));
}

describe.each(BOTH)("%s", (name) => {
  test("signs up, then in: the same account, with a session of its own", async () => {
    const somebody = sitDown({ name: "Grace" });
    const first = openBrowser();
    const second = openBrowser();

    expect(await first.visit(name, "signup")).toBe(page(name));
    expect(first.jar.cookies.get("wrenn_oauth_new_signup")).toBe("1");
    expect(await second.visit(name)).toBe(page(name));
    expect(second.jar.cookies.has("wrenn_oauth_new_signup")).toBe(false);
    const [one, two] = [await first.me(), await second.me()];
    expect(one).toMatchObject({
      ...{ email: somebody.email, name: "Grace", role: "owner" },
      ...{ has_password: false, providers: [name] },
    });
    expect(two).toEqual(one);
    expect(first.jar.cookies.get("wrenn_sid")).not.toBe(second.jar.cookies.get("wrenn_sid"));
  });

  test("knows nobody who has not signed up there, whoever has that id elsewhere", async () => {
    await openBrowser().visit(BOTH.find((other) => other !== name) ?? name, "signup");
    expect(await openBrowser().visit(name)).toBe(failed(name, "no_account"));
  });

  test("makes no account of an address that it does not vouch for", async () => {
    sitDown({ isVerified: false });
    expect(await openBrowser().visit(name, "signup")).toBe(failed(name, "email_not_verified"));
    sitDown({ isVerified: "true" });
    const inWords = await openBrowser().visit(name, "signup");
    expect(inWords).toBe(failed(name, "email_not_verified"));
  });

  test("opens no account by a mail address: who has it must connect the provider", async () => {
    const person = await platform.person();
    sitDown({ email: person.email.toUpperCase() });

    expect(await openBrowser().visit(name, "signup")).toBe(failed(name, "email_taken"));
    expect(await connected(person, name)).toBe(`${PAGES}/dashboard/settings?connected=${name}`);
    const browser = openBrowser();
    expect(await browser.visit(name)).toBe(page(name));
    expect(await browser.me()).toMatchObject({ email: person.email, has_password: true });
  });

  test("takes an address back from a sign-up that nobody activated", async () => {
    const { email } = sitDown();
    const token = await platform.signUp(email, "Squatter");

    expect(await openBrowser().visit(name, "signup")).toBe(page(name));
    const { status } = await platform.call("POST", "/v1/auth/activate", { body: { token } });
    expect(status).toBe(400);
    const login = { email, password: PASSWORD };
    expect((await platform.call("POST", "/v1/auth/login", { body: login })).status).toBe(401);
  });

  test("finds an account by who somebody is, whatever becomes of addresses", async () => {
    const before = sitDown();
    await openBrowser().visit(name, "signup");
    const heir = sitDown({ email: before.email });
    expect(await openBrowser().visit(name, "signup")).toBe(failed(name, "email_taken"));
    expect(await openBrowser().visit(name)).toBe(failed(name, "no_account"));

    sitDown({ ...heir, id: before.id, email: "moved@example.com" });
    const browser = openBrowser();
    expect(await browser.visit(name)).toBe(page(name));
    expect(await browser.me()).toMatchObject({ email: before.email });
  });

  test("of five sign-ups of one person at once, one makes the account, and all are in", async () => {
    const { email } = sitDown();
    const browsers = Array.from({ length: 5 }, () => openBrowser());
    const backs = await Promise.all(
      browsers.map(async (browser) => await browser.pass(await browser.start(name, "signup"))),
    );

    const pages = await Promise.all(browsers.map((browser, i) => browser.comeBack(backs[i] ?? "")));
    expect(pages).toEqual(Array.from(browsers, () => page(name)));
    expect(await sql`select 1 from users where email = ${email}`).toHaveLength(1);
    const isNew = browsers.filter(({ jar }) => jar.cookies.has("wrenn_oauth_new_signup"));
    expect(isNew).toHaveLength(1);
  });

  test("of two people with one address who sign up at once, one gets it", async () => {
    const one = sitDown();
    const first = openBrowser();
    const firstBack = await first.pass(await first.start(name, "signup"));
    sitDown({ email: one.email });
    const second = openBrowser();
    const secondBack = await second.pass(await second.start(name, "signup"));

    const pages = await Promise.all([first.comeBack(firstBack), second.comeBack(secondBack)]);
    expect(pages.toSorted()).toEqual([page(name), failed(name, "email_taken")]);
  });

  test("lets nobody in whose account is disabled", async () => {
    const { email } = sitDown();
    await openBrowser().visit(name, "signup");
    await sql`update users set status = 'disabled' where email = ${email}`;

    expect(await openBrowser().visit(name)).toBe(failed(name, "account_deactivated"));
  });

  test("may be told no", async () => {
    corp.somebody = null;
    github.somebody = null;

    expect(await openBrowser().visit(name, "signup")).toBe(failed(name, "access_denied"));
  });
});

describe("a visit", () => {
  test("goes to the provider with PKCE, a state, and our address, and keeps them to itself", async () => {
    const browser = openBrowser();
    const response = await browser.ask("/auth/oauth/corp");
    const { searchParams } = new URL(response.headers.get("location") ?? "");

    expect(response.status).toBe(302);
    expect(Object.fromEntries(searchParams)).toMatchObject({
      response_type: "code",
      code_challenge_method: "S256",
      code_challenge: expect.stringMatching(/^[\w-]{43}$/),
      state: expect.stringMatching(/^[0-9a-f]{64}$/),
      redirect_uri: `${HERE}/auth/oauth/corp/callback`,
    });
    expect(response.headers.getSetCookie()).toEqual([
      expect.stringMatching(
        /^wrenn_oauth=[0-9a-f]{64}; HttpOnly; Path=\/; Max-Age=600; SameSite=Lax$/,
      ),
    ]);
    expect(response.headers.get("cache-control")).toBe("no-store");
  });

  test("behind TLS has a cookie that no neighbour sets", async () => {
    const request = new Request("http://localhost/auth/oauth/corp", {
      headers: { "x-forwarded-proto": "https" },
    });
    const response = await platform.app.handle(request);

    expect(response.headers.get("set-cookie")).toMatch(/^__Host-wrenn_oauth=.*; Secure$/);
  });

  test.each(BOTH)("ends once: what came back is no use a second time (%s)", async (name) => {
    const browser = openBrowser();
    const back = await browser.pass(await browser.start(name, "signup"));
    const cookies = new Map(browser.jar.cookies);

    expect(await browser.comeBack(back)).toBe(page(name));
    for (const [key, value] of cookies) browser.jar.cookies.set(key, value);
    expect(await browser.comeBack(back)).toBe(failed(name, "invalid_state"));
  });

  test("ends in the browser that it began in: nobody is signed in by a link", async () => {
    const attacker = openBrowser();
    const back = await attacker.pass(await attacker.start("corp", "signup"));
    const victim = openBrowser();
    const other = openBrowser();
    await other.start("corp");

    expect(await victim.comeBack(back)).toBe(failed("corp", "invalid_state"));
    expect(victim.jar.cookies.size).toBe(0);
    expect(await other.comeBack(back)).toBe(failed("corp", "invalid_state"));
  });

  test("with a cookie that a neighbour has added ends nowhere", async () => {
    const browser = openBrowser();
    const back = await browser.pass(await browser.start("corp", "signup"));
    const own = browser.jar.header();
    const request = new Request(`http://localhost${back}`, {
      headers: { cookie: `wrenn_oauth=${"0".repeat(64)}; ${own}` },
    });
    const response = await platform.app.handle(request);

    expect(response.headers.get("location")).toBe(failed("corp", "invalid_state"));
  });

  test("takes no code of another visit, for its PKCE verifier is another one", async () => {
    for (const name of BOTH) {
      const thief = openBrowser();
      const stolen = new URL(await thief.pass(await thief.start(name, "signup")), HERE);
      const browser = openBrowser();
      const back = new URL(await browser.pass(await browser.start(name, "signup")), HERE);
      back.searchParams.set("code", stolen.searchParams.get("code") ?? "");

      const told = await browser.comeBack(`${back.pathname}${back.search}`);
      expect(told).toBe(failed(name, "exchange_failed"));
    }
  });

  test("comes back from the provider that it went to", async () => {
    const browser = openBrowser();
    const back = await browser.pass(await browser.start("github", "signup"));

    expect(await browser.comeBack(back.replace("/github/", "/corp/"))).toBe(
      failed("corp", "invalid_state"),
    );
  });

  test("leads to our pages only, whatever is asked for", async () => {
    const browser = openBrowser();
    const evil = encodeURIComponent("https://evil.test");
    const response = await browser.ask(
      `/auth/oauth/corp?intent=signup&redirect=${evil}&redirect_uri=${evil}&next=${evil}`,
    );
    const back = await browser.pass(response.headers.get("location") ?? "");

    expect(await browser.comeBack(`${back}&redirect=${evil}`)).toBe(page("corp"));
    expect(await browser.comeBack("/auth/oauth/..%2f..%2fevil.test/callback?state=x")).toBe("400");
  });

  test.each([
    ["/auth/oauth/corp/callback", failed("corp", "invalid_state")],
    ["/auth/oauth/corp/callback?error=access_denied", failed("corp", "invalid_state")],
    [`/auth/oauth/corp/callback?code=c&state=${"0".repeat(64)}`, failed("corp", "invalid_state")],
    ["/auth/oauth/nowhere", "404"],
    ["/auth/oauth/away", "503"],
    ["/auth/oauth/corp?intent=connect", "400"],
  ])("%s leads to %s", async (path, to) => {
    expect(await openBrowser().comeBack(path)).toBe(to);
  });

  test("without a code says so", async () => {
    const browser = openBrowser();
    const state = new URL(await browser.start("corp")).searchParams.get("state");

    expect(await browser.comeBack(`/auth/oauth/corp/callback?state=${state}`)).toBe(
      failed("corp", "missing_code"),
    );
  });

  test("leaves no code, token or secret in the log", async () => {
    const browser = openBrowser();
    const back = await browser.pass(await browser.start("corp", "signup"));
    await browser.comeBack(back);
    const told = platform.logged.join("\n");
    const { searchParams } = new URL(back, HERE);

    expect(told).not.toContain(CLIENT.clientSecret);
    expect(told).not.toContain(searchParams.get("code") ?? "");
    expect(told).not.toContain(browser.jar.cookies.get("wrenn_sid") ?? "");
  });
});

test("of the first two accounts of an installation, made at once, one administers it", async () => {
  await using fresh = await AccountsPlatform.start({
    ...{ github: { url: github.url, ...CLIENT }, openid: [] },
  });
  const browsers = [0, 1].map(() => new Browser({ app: fresh.app, here: HERE }));
  const backs: string[] = [];
  for (const browser of browsers) {
    sitDown();
    backs.push(await browser.pass(await browser.start("github", "signup")));
  }

  await Promise.all(browsers.map((browser, i) => browser.comeBack(backs[i] ?? "")));
  const admins = await Promise.all(browsers.map(async (browser) => (await browser.me()).is_admin));
  expect(admins.toSorted()).toEqual([false, true]);
});

describe("connecting", () => {
  const settings = (query: string) => `${PAGES}/dashboard/settings?${query}`;

  test("is told by mail, and takes no identity that is somebody else's", async () => {
    const owner = await platform.person();
    const other = await platform.person();

    expect(await connected(owner, "github")).toBe(settings("connected=github"));
    expect(await connected(owner, "github")).toBe(settings("connected=github"));
    expect(await connected(other, "github")).toBe(settings("connect_error=already_linked"));
    expect((await platform.mailsTo(owner.email)).at(-1)).toContain("github was connected");
    const entries = await sql`select action, metadata from audit_logs
      where actor_name = ${owner.email} and action like 'provider_%'`;
    expect<unknown>([...entries]).toEqual([
      { action: "provider_connect", metadata: { provider: "github" } },
    ]);
  });

  test("takes one identity of a provider", async () => {
    const owner = await platform.person();
    await connected(owner, "corp");
    sitDown();

    expect(await connected(owner, "corp")).toBe(settings("connect_error=already_linked"));
  });

  test("ends with the session that asked for it", async () => {
    const owner = await platform.person();
    const browser = openBrowser();
    const authorization = `Bearer ${owner.token}`;
    const started = await browser.ask("/v1/me/providers/corp/connect", { authorization });
    const { auth_url: url } = (await started.json()) as { auth_url: string };
    const back = await browser.pass(url);
    await platform.call("POST", "/v1/auth/logout", { token: owner.token });

    expect(await browser.comeBack(back)).toBe(settings("connect_error=invalid_state"));
  });

  test("does not turn a login in the same browser into one that connects", async () => {
    const somebody = sitDown();
    await openBrowser().visit("corp", "signup");
    const owner = await platform.person();
    const browser = openBrowser();
    const authorization = `Bearer ${owner.token}`;
    await browser.ask("/v1/me/providers/corp/connect", { authorization });

    expect(await browser.visit("corp")).toBe(page("corp"));
    expect(await browser.me()).toMatchObject({ email: somebody.email });
  });

  test("can be undone while there is another way in", async () => {
    const owner = await platform.person();
    await connected(owner, "github");
    const undo = (name: string, token: string) =>
      platform.call("DELETE", `/v1/me/providers/${name}`, { token });

    expect((await undo("github", owner.token)).status).toBe(204);
    expect((await undo("github", owner.token)).status).toBe(404);
    expect((await platform.mailsTo(owner.email)).at(-1)).toContain("github was disconnected");
    expect(await openBrowser().visit("github")).toBe(failed("github", "no_account"));
  });

  test("of two last ways in one stays, also when both are taken away at once", async () => {
    const somebody = sitDown();
    const browser = openBrowser();
    await browser.visit("corp", "signup");
    await sql`insert into oauth_providers (provider, provider_id, user_id)
      select 'github', ${somebody.id}, id from users where email = ${somebody.email}`;
    const headers = {
      cookie: browser.jar.header(),
      "x-csrf-token": browser.jar.cookies.get("wrenn_csrf") ?? "",
      origin: PAGES,
    };
    const undo = (name: string) => platform.call("DELETE", `/v1/me/providers/${name}`, { headers });

    const answers = await Promise.all([undo("corp"), undo("github")]);
    expect(answers.map(({ status }) => status).toSorted()).toEqual([204, 400]);
    const refused = answers.find(({ status }) => status === 400);
    expect(refused?.body.error.code).toBe("last_login_method");
  });
});
