// Two programs share the deliveries of one database; one after the other is killed while they are at it.

import { expect, test } from "bun:test";
import { decodeId, newId } from "../../proto/ids.ts";
import { ControlPlane } from "../../tests/harness/control-plane.ts";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { Receiver } from "../../tests/harness/receiver.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { recordEvents, SYSTEM_ACTOR } from "../events/outbox.ts";

const KILLS = process.env.WRENN_SOAK === undefined ? 3 : 30;
const EVENTS_PER_KILL = 60;
const CAPSULES = 20;

test("what programs that are killed were at arrives, each event, in order of each capsule", async () => {
  await using database = await cloneDatabase();
  const { db, sql } = database;
  const settings = { WRENN_CHANNEL_ALLOW_CIDRS: "127.0.0.0/8" };
  const start = () => ControlPlane.start(database.url, settings);
  // Slow enough to be killed in the middle of.
  await using receiver = new Receiver(() => Bun.sleep(20).then(() => new Response()));
  await using steady = await start();
  const token = await steady.person("ada@example.com");
  const channel = { name: "all", provider: "webhook", events: ["capsule.create"] };
  const config = { url: receiver.url };
  const headers = { authorization: `Bearer ${token}` };
  const made = await steady.post("/v1/channels", { ...channel, config }, headers);
  const teamId = decodeId("team", made.body.team_id ?? "") ?? newId("team");

  // As if the minutes of those that are gone were over.
  const makeDue = () =>
    sql`update channel_deliveries set next_attempt_at = now() where status = 'pending'`;
  let written = 0;
  for (let kill = 0; kill < KILLS; kill += 1) {
    await using doomed = await start();
    for (let i = 0; i < EVENTS_PER_KILL; i += 1) {
      const subject = { type: "sandbox", id: `cl-${written % CAPSULES}` };
      const metadata = { number: String(written) };
      written += 1;
      const event = { teamId, subject, type: "capsule.create", metadata } as const;
      await recordEvents(db, [{ ...event, outcome: "success", actor: SYSTEM_ACTOR }]);
    }
    const before = receiver.got.length;
    await waitFor("some deliveries", () => receiver.got.length > before);
    await doomed.kill();
    await makeDue();
  }
  await waitFor(
    "all deliveries",
    async () => {
      // A statement of a program that is gone may have claimed some behind it.
      await makeDue();
      const [row] = await sql`select count(*)::int as left from channel_deliveries
        where status <> 'delivered'`;
      return row?.left;
    },
    { holds: (left) => left === 0, timeoutMs: 60_000, everyMs: 2000 },
  );

  expect(made.status).toBe(201);
  const numbers = receiver.got.map(({ body }) => Number(JSON.parse(body).metadata.number));
  const ids = receiver.got.map(({ headers: sent }) => sent.get("webhook-id"));
  expect(new Set(numbers).size).toBe(written);
  // Doubles are known by their event.
  expect(new Set(ids).size).toBe(written);
  for (let capsule = 0; capsule < CAPSULES; capsule += 1) {
    const own = [...new Set(numbers.filter((number) => number % CAPSULES === capsule))];
    expect(own).toEqual(own.toSorted((a, b) => a - b));
  }
}, 180_000);
