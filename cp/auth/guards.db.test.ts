import { expect, test } from "bun:test";
import { createHmac } from "node:crypto";
import { decodeId } from "../../proto/ids.ts";
import {
  AccountsPlatform,
  JWT_SECRET,
  type Person,
} from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { PUBLIC_ROUTES } from "../app.ts";

const platform = await forThisFile(AccountsPlatform.start());

const me = async (token: string): Promise<unknown[]> => {
  const { status, body } = await platform.call("GET", "/v1/me", { token });
  return [status, body.error?.code];
};

function subjectOf({ token, teamId }: Person) {
  const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
  const userId = decodeId("user", claims.sub);
  const team = decodeId("team", teamId);
  if (userId === null || team === null) throw new Error("not the ids of a person");
  const { jti: sessionId, role, email, name } = claims;
  return {
    claims,
    subject: { sessionId, userId, teamId: team, role, email, name, isAdmin: false },
  };
}

function guardedRoutes() {
  return platform.app.routes.filter(({ method, path }) => !PUBLIC_ROUTES.has(`${method} ${path}`));
}

test("every route but the public ones answers 401 to a stranger, whatever is sent", async () => {
  const guarded = guardedRoutes();
  const answers = await Promise.all(
    guarded.flatMap(({ method, path }) =>
      [undefined, "{bad", "x".repeat(2_000_000)].map(async (body) => {
        const url = `http://localhost${path.replaceAll(/:\w+/g, "x")}`;
        const init = method === "GET" || body === undefined ? { method } : { method, body };
        const response = await platform.app.handle(new Request(url, init));
        const { error } = JSON.parse(await response.text());
        return [method, path, response.status, error.code];
      }),
    ),
  );

  expect(guarded.length).toBeGreaterThan(15);
  expect(answers).toEqual(answers.map(([method, path]) => [method, path, 401, "unauthorized"]));
});

// Nothing is authenticated by a cookie that a page of somebody else's made the browser send: not a read, not a
// change, not a WebSocket, not a stream of events.
test("no guarded route lets another page use our cookies; keys and tokens need none", async () => {
  const [own = ""] = platform.ownOrigins;
  const foreign = { cookie: "wrenn_sid=s3cret", origin: "https://evil.example" };
  const upgrade = { upgrade: "websocket" };
  // The others are the operator's, who shows a token of no session.
  const apiRoutes = guardedRoutes().filter(({ path }) => path.startsWith("/v1/"));
  const cases: [headers: Record<string, string>, status: number][] = [
    [foreign, 403],
    [{ ...foreign, accept: "text/event-stream" }, 403],
    [{ ...foreign, ...upgrade }, 403],
    [{ ...foreign, authorization: "Basic YTpi" }, 403],
    [{ cookie: "__Host-wrenn_sid=s3cret", "sec-fetch-site": "same-site" }, 403],
    [{ ...foreign, origin: own }, 401],
    [{ ...foreign, "x-api-key": "wrn_0" }, 401],
    [{ ...foreign, authorization: "Bearer a.b.c" }, 401],
  ];
  const answers = await Promise.all(
    apiRoutes.flatMap(({ method, path }) =>
      cases.map(async ([headers, status]) => {
        const url = `http://localhost${path.replaceAll(/:\w+/g, "x")}`;
        const response = await platform.app.handle(new Request(url, { method, headers }));
        const { error } = JSON.parse(await response.text());
        const isForeign = error.reason === "origin_not_allowed";
        return [method, path, headers, [response.status, isForeign], [status, status === 403]];
      }),
    ),
  );

  expect(answers.filter(([, , , told, expected]) => !Bun.deepEquals(told, expected))).toEqual([]);
});

test("who shows nothing is told of both kinds of credentials", async () => {
  const response = await platform.app.handle(new Request("http://localhost/v1/capsules"));

  const { error } = JSON.parse(await response.text());
  expect(error.message).toBe("an API key, a bearer token or a session is required");
});

test("every public route is one of the app's", () => {
  const routes = new Set(platform.app.routes.map(({ method, path }) => `${method} ${path}`));

  expect([...PUBLIC_ROUTES].filter((route) => !routes.has(route))).toEqual([]);
});

test("every route says what it answers", () => {
  const silent = platform.app.routes.filter(({ hooks }) => hooks.response === undefined);

  expect(silent.map(({ method, path }) => `${method} ${path}`)).toEqual([]);
});

test("a token carries the claims that clients read, and works for six hours", async () => {
  const person = await platform.person("Claims");
  const { claims } = subjectOf(person);
  const early = await me(person.token);
  platform.clock.advance(6 * 3600_000 - 60_000);
  const late = await me(person.token);
  platform.clock.advance(120_000);
  const expired = await me(person.token);

  expect(claims).toEqual({
    jti: expect.stringMatching(/^[0-9a-f]{64}$/),
    sub: expect.stringMatching(/^usr-/),
    team_id: person.teamId,
    role: "owner",
    email: person.email,
    name: "Claims",
    is_admin: true,
    iat: expect.any(Number),
    exp: expect.any(Number),
  });
  expect([early, late, expired]).toEqual([
    [200, undefined],
    [200, undefined],
    [401, "unauthorized"],
  ]);
});

test("a token that is forged, unsigned, endless, of no session, another algorithm or a host is refused", async () => {
  const person = await platform.person();
  const { subject } = subjectOf(person);
  const [header = "", payload = "", signature = ""] = person.token.split(".");
  const unsigned = Buffer.from('{"alg":"none"}').toString("base64url");
  const keyed = Buffer.from('{"alg":"HS256","kid":"../../dev/null"}').toString("base64url");
  const sessionless = await platform.tokens.signUser({ ...subject, sessionId: "" });
  const hs512 = Buffer.from('{"alg":"HS512","typ":"JWT"}').toString("base64url");
  const { exp: _, ...endless } = subjectOf(person).claims;
  const endlessly = `${header}.${Buffer.from(JSON.stringify(endless)).toString("base64url")}`;
  const mac = createHmac("sha256", JWT_SECRET).update(endlessly).digest("base64url");
  const hostId = decodeId("host", `host-${"1".repeat(25)}`);
  if (hostId === null) throw new Error("not a host id");

  const tokens = [
    "",
    "nonsense",
    `${header}.${payload}.${signature.slice(0, -4)}AAAA`,
    `${unsigned}.${payload}.`,
    `${endlessly}.${mac}`,
    `${hs512}.${payload}.${signature}`,
    `${keyed}.${payload}.${signature}`,
    `${keyed}.${payload}.${createHmac("sha256", "").update(`${keyed}.${payload}`).digest("base64url")}`,
    sessionless,
    await platform.tokens.signUser({ ...subject, sessionId: "0".repeat(64) }),
    await platform.tokens.signHost({ hostId, certName: "" }),
    (await platform.tokens.signUser({ ...subject, userId: subjectOf(person).subject.userId })) +
      "x",
    "x".repeat(100_000),
  ];
  for (const token of tokens) expect(await me(token)).toEqual([401, "unauthorized"]);
});

test("a token of a user who was removed is refused", async () => {
  const person = await platform.person();
  await platform.database.sql`delete from users_teams where user_id in (
    select id from users where email = ${person.email})`;
  await platform.database.sql`delete from users where email = ${person.email}`;

  expect(await me(person.token)).toEqual([401, "unauthorized"]);
});

test("a deactivated account is told so on its next request", async () => {
  const { token, email } = await platform.person();
  await platform.database.sql`update users set status = 'disabled' where email = ${email}`;

  expect(await me(token)).toEqual([403, "account_deactivated"]);
});

// The first Wrenn believed the token's team for six hours.
test("one who left a team, or whose team was deleted, can't act for it any more", async () => {
  const leaver = await platform.person();
  const orphan = await platform.person("Orphan");
  const { sql } = platform.database;
  await sql`delete from users_teams where user_id = (
    select id from users where email = ${leaver.email})`;
  await sql`update teams set deleted_at = now() where name = 'Orphan''s Team'`;

  for (const { token } of [leaver, orphan]) {
    for (const path of ["/v1/api-keys", "/v1/capsules"]) {
      const { status, body } = await platform.call("GET", path, { token });
      expect([status, body.error.code]).toEqual([403, "forbidden"]);
    }
    expect(await me(token)).toEqual([200, undefined]);
  }
});
