// Events on their way to channels: each arrives, in order, whatever happens to receivers and control planes.

import { afterEach, expect, setDefaultTimeout, test } from "bun:test";
import { decodeId, encodeId, type Id, newId } from "../../proto/ids.ts";
import { AccountsPlatform, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { Receiver } from "../../tests/harness/receiver.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { AddressGuard } from "../address-guard.ts";
import { Sender } from "../channels/sender.ts";
import { recordEvents, SYSTEM_ACTOR } from "../events/outbox.ts";
import { createLog } from "../log.ts";
import { DELIVER_CHANNELS, deliverChannelsLoop } from "../loops/deliver-channels.ts";
import { LoopDriver } from "../loops/driver.ts";
import { Outbound } from "../outbound/outbound.ts";
import { Deliverer, type DeliveryCounts, IN_FLIGHT_PER_CHANNEL_MAX } from "./deliverer.ts";

setDefaultTimeout(60_000);

const platform = await forThisFile(AccountsPlatform.start());
const { db, sql } = platform.database;
const logged: string[] = [];

function open(sender = platform.sender, wake = () => {}): Deliverer {
  const { channels } = platform;
  const log = createLog("debug", (line) => logged.push(line));
  return new Deliverer({ db, channels, sender, log, wake });
}

afterEach(async () => {
  await sql`delete from channels`;
  await sql`delete from events`;
});

const teamOf = ({ teamId }: Person): Id<"team"> => decodeId("team", teamId) ?? newId("team");

async function addChannel({ token }: Person, url: string, more: object = {}): Promise<string> {
  const name = `c-${crypto.randomUUID().slice(0, 8)}`;
  const body = { name, provider: "webhook", config: { url }, events: ["capsule.create"], ...more };
  const answer = await platform.call("POST", "/v1/channels", { token, body });
  if (answer.status !== 201) throw new Error(JSON.stringify(answer.body));
  return answer.body.id;
}

async function happen(person: Person, ...ids: string[]): Promise<void> {
  const teamId = teamOf(person);
  for (const id of ids) {
    const subject = { type: "sandbox", id };
    const event = { teamId, subject, type: "capsule.create", actor: SYSTEM_ACTOR } as const;
    await recordEvents(db, [{ ...event, outcome: "success" }]);
  }
  await platform.events.place();
}

/** Passes until that holds of the sum of what they did. */
async function until(
  deliverer: Deliverer,
  holds: (counts: DeliveryCounts) => boolean,
): Promise<DeliveryCounts> {
  const sum = { begun: 0, delivered: 0, postponed: 0, dead: 0 };
  await waitFor(
    "deliveries",
    async () => {
      const counts = await deliverer.pass();
      for (const name of Object.keys(sum) as (keyof DeliveryCounts)[]) sum[name] += counts[name];
      return { ...sum };
    },
    { holds },
  );
  return sum;
}

const makeDue = () => sql`update channel_deliveries set next_attempt_at = now()`;
const heal = () => sql`update channels set failures = 0, paused_until = null`;
const rows = () => sql<
  { status: string; attempts: number; in_sec: number; error: string; response_status: number }[]
>`select status, attempts, error, response_status,
    extract(epoch from next_attempt_at - now())::float8 as in_sec
  from channel_deliveries order by position`;

test("each channel is told of what it asks for, of its team, once, and in order of each capsule", async () => {
  const [person, other] = [await platform.person(), await platform.person()];
  await using receiver = new Receiver();
  await using pauses = new Receiver();
  await addChannel(person, receiver.url);
  await addChannel(person, pauses.url, { events: ["capsule.pause"] });
  await addChannel(other, pauses.url);
  await using one = open();
  await using two = open();
  const ids = Array.from({ length: 60 }, (_, i) => `cl-${i % 6}`);
  await happen(person, ...ids);

  await Promise.all([
    until(one, () => receiver.got.length >= 60),
    until(two, () => receiver.got.length >= 60),
  ]);
  await Promise.all([one[Symbol.asyncDispose](), two[Symbol.asyncDispose]()]);

  expect(receiver.told.toSorted()).toEqual(ids.toSorted());
  const told = receiver.got.map(({ body }) => JSON.parse(body) as { id: string });
  const places = await sql<{ event_id: Id<"event">; id: string }[]>`
    select event_id, resource->>'id' as id from events order by position`;
  for (const capsule of new Set(ids)) {
    const inOrder = places.filter(({ id }) => id === capsule);
    const arrived = told.filter((_, i) => receiver.told[i] === capsule);
    expect(arrived.map(({ id }) => id)).toEqual(
      inOrder.map(({ event_id }) => encodeId("event", event_id)),
    );
  }
  expect(pauses.got).toEqual([]);
  expect(await rows()).toMatchObject(ids.map(() => ({ status: "delivered", attempts: 1 })));
});

// What is forgotten would be delivered again, once the minute of its claim is over.
test("what ends while a pass writes down what has ended is written down, too", async () => {
  const person = await platform.person();
  await using receiver = new Receiver();
  await addChannel(person, receiver.url);
  await using loops = new LoopDriver(createLog("error", () => {}));
  await using deliverer = open(platform.sender, () => loops.wake(DELIVER_CHANNELS));
  const ids = Array.from({ length: 300 }, (_, i) => `cl-${i}`);
  const teamId = teamOf(person);
  await recordEvents(
    db,
    ids.map((id) => {
      const subject = { type: "sandbox", id };
      return { teamId, subject, type: "capsule.create", outcome: "success", actor: SYSTEM_ACTOR };
    }),
  );
  await platform.events.place();
  loops.start(deliverChannelsLoop(deliverer));

  const left = () => sql`select id from channel_deliveries where status = 'pending'`;
  await waitFor("all of them", left, { holds: ({ length }) => length === 0 });
  expect(receiver.told.toSorted()).toEqual(ids.toSorted());
});

test("one that fails is tried after 10 and 30 seconds, holds up its capsule only, and is dead then", async () => {
  const person = await platform.person();
  await using receiver = new Receiver(({ body }) =>
    body.includes("cl-bad") ? new Response(null, { status: 500 }) : new Response(),
  );
  const channel = await addChannel(person, receiver.url);
  await using deliverer = open();
  await happen(person, "cl-bad", "cl-bad", "cl-good");

  await until(deliverer, ({ postponed, delivered }) => postponed === 1 && delivered === 1);
  const first = await rows();
  await makeDue();
  await until(deliverer, ({ postponed }) => postponed === 1);
  const second = await rows();
  await heal();
  await makeDue();
  await until(deliverer, ({ dead }) => dead === 1);
  const third = await rows();

  expect(receiver.told.slice(0, 2).toSorted()).toEqual(["cl-bad", "cl-good"]);
  expect(first).toMatchObject([
    { status: "pending", attempts: 1, error: "answered 500", response_status: 500 },
    { status: "pending", attempts: 0 },
    { status: "delivered", attempts: 1 },
  ]);
  expect(first[0]?.in_sec).toBeWithin(5, 10);
  expect(second[0]).toMatchObject({ status: "pending", attempts: 2 });
  expect(second[0]?.in_sec).toBeWithin(20, 30);
  expect(third[0]).toMatchObject({ status: "dead", attempts: 3 });

  const { token } = person;
  const path = `/v1/channels/${channel}/deliveries`;
  const { items } = (await platform.call("GET", `${path}?status=dead`, { token })).body;
  const [dead] = items as { id: string }[];
  expect(dead).toMatchObject({
    ...{ event: "capsule.create", event_id: expect.stringMatching(/^evt-/), attempts: 3 },
    ...{ resource_id: "cl-bad", response_status: 500, error: "answered 500" },
  });
  const again = await platform.call("POST", `${path}/${dead?.id}/redeliver`, { token });
  const twice = await platform.call("POST", `${path}/${dead?.id}/redeliver`, { token });
  expect([again.status, again.body.status, twice.status]).toEqual([202, "pending", 409]);
  const pages = await platform.call("GET", `${path}?limit=2`, { token });
  const rest = await platform.call("GET", `${path}?before=${pages.body.next_before}`, { token });
  expect([pages.body.items, rest.body.items]).toMatchObject([
    [{ resource_id: "cl-good" }, { resource_id: "cl-bad" }],
    [{ id: dead?.id }],
  ]);
});

test("each attempt is one transaction to Matrix, and what is sent again another, with all its time", async () => {
  const person = await platform.person();
  const { token } = person;
  await using receiver = new Receiver(
    (_, count) => new Response(null, { status: count === 1 ? 500 : 200 }),
  );
  const config = { homeserver_url: receiver.url, access_token: "t", room_id: "!r:m.test" };
  const channel = await addChannel(person, "", { provider: "matrix", config });
  await using deliverer = open();
  await happen(person, "cl-1");
  await until(deliverer, ({ postponed }) => postponed === 1);
  await makeDue();
  await until(deliverer, ({ delivered }) => delivered === 1);
  await sql`update channel_deliveries set created_at = now() - interval '25 hours'`;
  const path = `/v1/channels/${channel}/deliveries`;
  const { items } = (await platform.call("GET", path, { token })).body;
  const [{ id } = { id: "" }] = items as { id: string }[];
  await platform.call("POST", `${path}/${id}/redeliver`, { token });
  const buried = await deliverer.expire();
  await until(deliverer, ({ delivered }) => delivered === 1);

  const [first, second, third] = receiver.got.map((got) => got.path);
  expect([second === first, third === first]).toEqual([true, false]);
  expect(buried).toEqual({ dead: 0, expired: 0 });
});

test("receivers that hang hold up nobody, and after a few failures are tried one at a time", async () => {
  const person = await platform.person();
  const never = Promise.withResolvers<void>();
  await using hanging = new Receiver(() => never.promise.then(() => new Response()));
  await using receiver = new Receiver();
  await addChannel(person, hanging.url);
  await addChannel(person, receiver.url);
  const { clock, mailer } = platform;
  const guard = new AddressGuard(["127.0.0.0/8"]);
  const outbound = new Outbound({ guard, timeoutMs: 5000 });
  const deliverer = open(new Sender({ db, clock, mailer, outbound, telegramUrl: "" }));
  const ids = Array.from({ length: 30 }, (_, i) => `cl-${i}`);
  await happen(person, ...ids);

  await until(deliverer, () => receiver.got.length === 30 && hanging.got.length > 0);
  const failedMeanwhile = await sql`select id from channels where failures > 0`;
  await until(deliverer, ({ postponed }) => postponed >= 8);
  const [channel] = await sql`select failures, paused_until > now() as paused from channels
    where failures > 0`;
  const asked = hanging.got.length;
  await makeDue();
  await sql`update channels set paused_until = null`;
  const probe = await deliverer.pass();
  never.resolve();
  await deliverer[Symbol.asyncDispose]();

  expect([...failedMeanwhile]).toEqual([]);
  // The first to fail leave room before there are enough to tell.
  expect(asked).toBeLessThan(2 * IN_FLIGHT_PER_CHANNEL_MAX);
  expect(channel?.failures).toBeGreaterThanOrEqual(IN_FLIGHT_PER_CHANNEL_MAX);
  expect(channel?.paused).toBe(true);
  expect(probe).toMatchObject({ begun: 1 });
});

test("a receiver that answers 429 is asked again when it says, and loses no attempt", async () => {
  const person = await platform.person();
  await using receiver = new Receiver((_, count) =>
    count === 1
      ? new Response(null, { status: 429, headers: { "retry-after": "120" } })
      : new Response(),
  );
  await addChannel(person, receiver.url);
  await using deliverer = open();
  await happen(person, "cl-1");
  await until(deliverer, ({ postponed }) => postponed === 1);
  await happen(person, "cl-2");
  const meanwhile = await deliverer.pass();
  const [waiting] = await rows();
  const [channel] = await sql`select failures,
    extract(epoch from paused_until - now())::float8 as sec from channels`;
  await makeDue();
  await heal();
  await until(deliverer, ({ delivered }) => delivered === 2);

  expect(waiting).toMatchObject({ status: "pending", attempts: 0, response_status: 429 });
  expect(waiting?.in_sec).toBeWithin(100, 120);
  expect(channel).toMatchObject({ failures: 0 });
  expect(channel?.sec).toBeWithin(100, 120);
  expect(meanwhile).toMatchObject({ begun: 0 });
});

test("what a control plane that died had taken is delivered by another, under the same event id", async () => {
  const person = await platform.person();
  const never = Promise.withResolvers<Response>();
  await using receiver = new Receiver((_, count) => (count === 1 ? never.promise : new Response()));
  await addChannel(person, receiver.url);
  await happen(person, "cl-1");
  const dying = open();
  await dying.pass();
  await waitFor("a delivery", () => receiver.got.length === 1);

  await using other = open();
  const meanwhile = await other.pass();
  await makeDue();
  await until(other, ({ delivered }) => delivered === 1);
  // It was only silent, and says too late that it failed.
  never.resolve(new Response(null, { status: 500 }));
  await dying[Symbol.asyncDispose]();

  const ids = receiver.got.map(({ headers }) => headers.get("webhook-id"));
  const attempts = receiver.got.map(({ headers }) => headers.get("x-wrenn-delivery"));
  expect(meanwhile).toMatchObject({ begun: 0 });
  expect([new Set(ids).size, new Set(attempts).size]).toEqual([1, 2]);
  expect(await rows()).toMatchObject([{ status: "delivered", attempts: 1 }]);
});

test("who must end breaks off what hangs, and leaves it to others at once, with all its attempts", async () => {
  const person = await platform.person();
  const never = Promise.withResolvers<void>();
  await using receiver = new Receiver(() => never.promise.then(() => new Response()));
  await addChannel(person, receiver.url);
  await happen(person, "cl-1");
  const ending = open();
  await ending.pass();
  await waitFor("a delivery", () => receiver.got.length === 1);

  await ending[Symbol.asyncDispose]();
  await using other = open();
  const begun = await other.pass();
  never.resolve();

  expect(begun).toMatchObject({ begun: 1 });
  expect(await rows()).toMatchObject([{ status: "pending", attempts: 0 }]);
});

test("what waits too long is given up, and what is not kept is forgotten", async () => {
  const person = await platform.person();
  await addChannel(person, "http://127.0.0.1:9");
  await happen(person, "cl-old", "cl-late", "cl-new");
  await sql`update channel_deliveries set created_at = now() - interval '25 hours'
    where resource = 'cl-late'`;
  await sql`delete from events where resource->>'id' = 'cl-old'`;
  await using deliverer = open();

  expect(await deliverer.expire()).toEqual({ dead: 1, expired: 1 });
  expect(await rows()).toMatchObject([
    { status: "dead", error: "not delivered in time" },
    { status: "pending" },
  ]);
});
