// Channels as their teams keep them.

import { expect, setDefaultTimeout, test } from "bun:test";
import { createHmac } from "node:crypto";
import { Webhook } from "standardwebhooks";
import { decodeId, newId } from "../../proto/ids.ts";
import { AccountsPlatform, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { Receiver } from "../../tests/harness/receiver.ts";
import { CHANNEL_TESTS_PER_TEAM } from "../rate-limiter.ts";
import { ConfigSealing } from "./config-sealing.ts";
import { CHANNELS_PER_TEAM_MAX, Channels } from "./service.ts";

setDefaultTimeout(60_000);

const platform = await forThisFile(AccountsPlatform.start());
const { db, sql } = platform.database;
const EVENTS = ["capsule.create"];
const SECRET = "a secret of one's own";

const call = (method: string, path: string, { token }: Person, body?: unknown) =>
  platform.call(method, `/v1/channels${path}`, { token, body });
const create = (person: Person, more: object = {}) =>
  call("POST", "", person, {
    ...{ name: "ops", provider: "webhook", config: { url: "https://hooks.test/x" } },
    ...{ events: EVENTS, ...more },
  });
const tryOut = (person: Person, provider: string, config: object) =>
  call("POST", "/test", person, { provider, config });

test("a channel is made, read, changed and deleted by its team, and its secret is told once", async () => {
  const [person, other] = [await platform.person(), await platform.person()];
  const made = await create(person, { name: "  Ops  On Call " });
  const { id } = made.body;
  const read = await call("GET", `/${id}`, person);
  const update = { name: "ops", events: ["capsule.pause", "host.down"] };
  const updated = await call("PATCH", `/${id}`, person, update);
  const config = { url: "https://hooks.test/y" };
  const rotated = await call("PUT", `/${id}/config`, person, { config });
  const own = { ...config, secret: `${SECRET}-x`.replaceAll(" ", "-") };
  const again = await call("PUT", `/${id}/config`, person, { config: own });
  const listed = await call("GET", "", person);
  const strangers = await Promise.all([
    call("GET", `/${id}`, other),
    call("PATCH", `/${id}`, other, update),
    call("PUT", `/${id}/config`, other, { config }),
    call("DELETE", `/${id}`, other),
  ]);
  const removed = [await call("DELETE", `/${id}`, person), await call("DELETE", `/${id}`, person)];

  expect<unknown>(made).toEqual({
    status: 201,
    body: {
      ...{ id: expect.stringMatching(/^ch-/), team_id: person.teamId, name: "ops-on-call" },
      ...{ provider: "webhook", events: EVENTS, status: "active" },
      ...{ created_at: expect.stringMatching(/Z$/), updated_at: expect.stringMatching(/Z$/) },
      secret: expect.stringMatching(/^[0-9a-f]{64}$/),
      standard_webhooks_secret: expect.stringMatching(/^whsec_/),
    },
  });
  expect(read.body).not.toHaveProperty("secret");
  expect([updated.body.name, updated.body.events]).toEqual(["ops", update.events]);
  expect(rotated.body.secret).not.toBe(made.body.secret);
  expect(again.body.secret).toBe(own.secret);
  expect(Object.values(listed.body)).toHaveLength(1);
  expect(JSON.stringify([listed.body, updated.body])).not.toMatch(/secret|hooks\.test/);
  expect(strangers.map(({ status }) => status)).toEqual([404, 404, 404, 204]);
  expect(removed.map(({ status }) => status)).toEqual([204, 204]);
  expect((await call("GET", `/${id}`, person)).status).toBe(404);
  const log = await platform.call("GET", "/v1/audit-logs?resource_type=channel", person);
  const entries = log.body.items as { action: string; status: string }[];
  expect(entries.map(({ action, status }) => `${action} ${status}`)).toEqual([
    ...["delete warning", "rotate_config info", "rotate_config info", "update info"],
    "create success",
  ]);
});

test.each([
  ["name: must have 1 to 64", { name: "a/b" }],
  ["provider: expected one of webhook,", { provider: "pager" }],
  ["provider: ", { provider: undefined }],
  ["events", { events: [] }],
  ["events", { events: ["capsule.state.changed"] }],
  ["config.url: is missing", { config: {} }],
  ["config.url: must be a URL that begins", { config: { url: "ftp://h/x" } }],
  ["config.url: must have no user", { config: { url: "https://u:p@h/x" } }],
  ["config.secret: must have 16 to 256", { config: { url: "https://h/", secret: "short" } }],
  ["config.urll: webhook has none", { config: { url: "https://h/", urll: "x" } }],
  ["config.webhook_url: must be like", of("discord", "https://discord.com/api/hooks/1/a")],
  ["config.webhook_url: must be like", of("slack", "https://hooks.slack.com/services/T/B")],
  ["config.webhook_url: must be like", of("teams", "https://x.webhook.office.com/webhookb2/1")],
  ["config.webhook_url: must be a URL of", of("googlechat", "https://chat.evil.test/v1/x")],
  ["config.bot_token: must be", { provider: "telegram", config: { bot_token: "x", chat_id: "1" } }],
  ["config.webhook_url: must be like", of("slack", "https://hooks.slack.com/services/T/B/%zz")],
  [
    "config.homeserver_url: must have no query",
    { provider: "matrix", config: matrix({ homeserver_url: "https://m.test/?a=" }) },
  ],
  ["config.room_id: is missing", { provider: "matrix", config: matrix({ room_id: "" }) }],
  ["config.room_id: must be like", { provider: "matrix", config: matrix({ room_id: "#a:b" }) }],
  ["config.to: must be a mail address", { provider: "email", config: { to: "nobody" } }],
  ["config.to: must be addresses of members", { provider: "email", config: { to: "a@evil.test" } }],
])("what is wrong is told by its field: %s", async (message, more) => {
  const { status, body } = await create(await personOfTable, more);
  expect([status, body.error.code]).toEqual([400, "invalid_request"]);
  expect(body.error.message).toStartWith(message);
});
const personOfTable = platform.person();

function of(provider: string, webhook_url: string) {
  return { provider, config: { webhook_url } };
}

function matrix(more: object) {
  return { homeserver_url: "https://m.test", access_token: "t", room_id: "!r:m.test", ...more };
}

test("names are one channel's each, and a team has a bounded number", async () => {
  const person = await platform.person();
  const [first, second] = [await create(person), await create(person, { name: "OPS" })];
  const other = await create(person, { name: "other" });
  const renamed = await call("PATCH", `/${other.body.id}`, person, { name: "ops", events: EVENTS });
  await sql`insert into channels (id, team_id, name, provider)
    select gen_random_uuid(), ${decodeId("team", person.teamId)}, 'c' || n, 'webhook'
    from generate_series(1, ${CHANNELS_PER_TEAM_MAX - 2}) as n`;
  const beyond = await create(person, { name: "beyond" });

  expect([first, second, other, renamed, beyond].map(({ status }) => status)).toEqual([
    ...[201, 409, 201, 409, 409],
  ]);
});

test("nothing of a config is readable in the database, and another key takes over", async () => {
  const person = await platform.person();
  const key = crypto.getRandomValues(new Uint8Array(32));
  const { body } = await create(person);
  const id = decodeId("channel", body.id) ?? newId("channel");
  const stored = JSON.stringify(await sql`select config, key_name from channels where id = ${id}`);
  const rotating = new Channels({
    ...{ db, sender: platform.sender, rateLimiter: platform.rateLimiter },
    sealing: new ConfigSealing([key, new Uint8Array(32)]),
  });
  const counts = [await rotating.reseal(), await rotating.reseal()];
  const row = await rotating.get({ id, teamId: decodeId("team", person.teamId) ?? newId("team") });

  expect(stored).not.toMatch(/hooks\.test/);
  expect(stored).not.toContain(String(body.secret));
  expect(counts[0]).toBeGreaterThan(0);
  expect(counts[1]).toBe(0);
  expect(new ConfigSealing([key]).open(id, row)).toEqual({
    ...{ url: "https://hooks.test/x", secret: String(body.secret) },
  });
  expect(() => platform.channels.configOf(row)).toThrow("no key");
  // A value belongs to its place: none can be put into another channel.
  expect(() => new ConfigSealing([key]).open(newId("channel"), row)).toThrow();
});

test("a webhook is signed as we say, and as the library of Standard Webhooks wants it", async () => {
  const person = await platform.person();
  await using receiver = new Receiver();
  for (const secret of ["0123456789abcdef-own", `whsec_${btoa("0123456789abcdefghijklmn")}`]) {
    receiver.got.length = 0;
    const sent = await tryOut(person, "webhook", { url: `${receiver.url}/in?a=1`, secret });
    const { standard_webhooks_secret: standard } = (
      await create(person, { name: secret.slice(0, 6), config: { url: receiver.url, secret } })
    ).body;
    const [got] = receiver.got;
    if (got === undefined) throw new Error("nothing came");
    const headers = Object.fromEntries(got.headers);
    const signed = `${headers["x-wrenn-timestamp"]}.${got.body}`;
    const mac = createHmac("sha256", secret).update(signed).digest("hex");

    expect(sent).toEqual({ status: 200, body: { status: "ok" } as never });
    expect([got.method, got.path]).toEqual(["POST", "/in?a=1"]);
    expect(headers).toMatchObject({
      ...{ "content-type": "application/json", "x-wrenn-signature": `sha256=${mac}` },
      "x-wrenn-delivery": expect.stringMatching(/^[0-9a-f-]{36}$/),
      "x-wrenn-timestamp": expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
    });
    expect(new Webhook(String(standard)).verify(got.body, headers)).toMatchObject({
      ...{ event: "channel.test", team_id: "test", actor: { type: "system" } },
      ...{ id: headers["webhook-id"], resource: { type: "channel", id: "test" } },
    });
    expect(() => new Webhook(String(standard)).verify(`${got.body} `, headers)).toThrow();
  }
});

test("a mail goes to members of the team, and to no one who has left it", async () => {
  const person = await platform.person();
  const sent = await tryOut(person, "email", { to: person.email });
  const [mail] = (await platform.mailsTo(person.email)).slice(-1);

  expect(sent.status).toBe(200);
  expect(mail).toContain("Subject: This is a test of a channel\n");
  expect(mail).toContain("Resource: channel test");
});

test("a test tells what went wrong, in words about the receiver alone", async () => {
  const person = await platform.person();
  await using receiver = new Receiver(({ path }) =>
    path === "/moved"
      ? Response.redirect("http://127.0.0.1:1/", 302)
      : new Response("internals", { status: 418 }),
  );
  const port = receiver.port;
  const urls = [`${receiver.url}/no`, `${receiver.url}/moved`, "http://127.0.0.1:9/"];
  const denied = ["http://169.254.169.254/latest", "http://[::1]/", "http://10.0.0.1/"];
  const said = [];
  for (const url of [...urls, ...denied]) {
    said.push((await tryOut(person, "webhook", { url })).body.error.message);
  }

  const prefix = "config: the receiver did not take the test: ";
  expect(said.map((text) => text.replace(prefix, ""))).toEqual([
    ...["answered 418", "answered 302: redirects are not followed"],
    expect.stringMatching(/^no answer: \w+$/),
    ...denied.map(() => "the address is not allowed"),
  ]);
  expect(receiver.got).toHaveLength(2);
  expect(port).toBeGreaterThan(0);
});

test("a team tries a bounded number of channels out", async () => {
  const person = await platform.person();
  const { attemptsMax } = CHANNEL_TESTS_PER_TEAM;
  for (let number = 0; number < attemptsMax; number += 1) {
    await platform.rateLimiter.attempt(
      CHANNEL_TESTS_PER_TEAM,
      decodeId("team", person.teamId) ?? "",
    );
  }

  expect((await tryOut(person, "email", { to: person.email })).status).toBe(429);
});
