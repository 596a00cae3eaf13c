// What a host says of capsules that are not its own. Hosts of teams are run by them: they may say anything, and the
// ids of capsules stand in the addresses of their ports.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { eq } from "drizzle-orm";
import { decodeId, encodeId, type Id, newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SimulatedAgent } from "../../tests/harness/simulated-agent.ts";
import { addHost, addTeam, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { capsules, hosts } from "../db/tables.ts";
import type { HostToAsk } from "./queries.ts";
import { reconcileHost } from "./reconcile.ts";

const HOUR_MS = 3_600_000;

const platform = await forThisFile(TestPlatform.start());
const { db } = platform.database;

let agent: SimulatedAgent;
let host: HostToAsk;
let teamId: Id<"team">;
let id: Id<"capsule">;

beforeEach(async () => {
  agent = new SimulatedAgent();
  const team = await addTeam(platform.database, true);
  teamId = team.id;
  const { address } = agent;
  const hostId = await addHost(platform.database, address, { type: "byoc", teamId });
  host = { ...agent.place, id: hostId };
  id = decodeId("capsule", await platform.create()) ?? newId("capsule");
});
afterEach(async () => {
  await agent[Symbol.asyncDispose]();
  await db.delete(capsules);
  await db.delete(hosts).where(eq(hosts.id, host.id));
});

/** The host tells that it has the capsule, as it is, and lies about the rest. */
async function claim(): Promise<void> {
  const wireId = encodeId("capsule", id);
  const simulated = platform.agent.capsules.get(wireId);
  if (simulated === undefined) throw new Error("unreachable: it was created");
  const lies = {
    lastActiveAt: Date.now() + HOUR_MS,
    durableAtUnix: BigInt(Math.floor(Date.now() / 1000)),
    diskUsedBytes: 2n ** 40n,
  };
  agent.capsules.set(wireId, { ...simulated, ...lies });
  await reconcileHost(platform.controlPlane.deps, host, "quarantine");
}

async function row() {
  const [found] = await db.select().from(capsules).where(eq(capsules.id, id));
  return found;
}

test.each(["running", "paused"] as const)(
  "a capsule that is %s elsewhere stays as it is",
  async (status) => {
    const path = `/v1/capsules/${encodeId("capsule", id)}`;
    platform.agent.pauses.isSealing = false;
    if (status === "paused") await platform.call("POST", `${path}/pause`);
    platform.agent.pauses.isSealing = true;
    const before = await row();

    await claim();

    expect(before?.status).toBe(status);
    expect(await row()).toEqual(before);
  },
);

test("a team's host does not get another team's capsule whose own host was deleted", async () => {
  const gone = newId("host");
  await db.update(capsules).set({ hostId: gone }).where(eq(capsules.id, id));

  await claim();

  expect((await row())?.hostId).toBe(gone);
});

test("a team's host that registered again gets the team's", async () => {
  await db
    .update(capsules)
    .set({ hostId: newId("host"), teamId })
    .where(eq(capsules.id, id));

  await claim();

  expect((await row())?.hostId).toBe(host.id);
});
