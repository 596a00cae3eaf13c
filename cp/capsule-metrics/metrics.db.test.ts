import { beforeAll, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  addTeam,
  TestPlatform,
  type TestTeam,
} from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";

interface Point {
  readonly timestamp_unix: number;
  readonly cpu_pct: number;
  readonly mem_bytes: number;
  readonly disk_bytes: number;
}

const DAY_MS = 24 * 3600 * 1000;

const platform = await forThisFile(TestPlatform.start());
let id: string;
beforeAll(async () => {
  id = await platform.create();
});

const get = (query = "", capsule = id, team?: TestTeam) =>
  platform.call("GET", `/v1/capsules/${capsule}/metrics${query}`, team ? { team } : {});

async function points(query: string, capsule = id): Promise<readonly Point[]> {
  const { body } = await get(query, capsule);
  return Array.isArray(body.points) ? body.points : [];
}

/** A capsule that its host has run for longer than a day. */
async function oldCapsule(): Promise<string> {
  const created = await platform.create();
  const known = platform.agent.capsules.get(created);
  if (!known) throw new Error("the agent does not have it");
  platform.agent.capsules.set(created, { ...known, createdAt: Date.now() - 2 * DAY_MS });
  return created;
}

test("a running capsule's metrics come from its host, of ten minutes unless asked", async () => {
  await waitFor("two points", () => points(""), { holds: (all) => all.length >= 2 });

  const { status, body } = await get();

  expect(status).toBe(200);
  expect(Object.keys(body).toSorted()).toEqual(["points", "range", "sandbox_id"]);
  expect(body).toMatchObject({ sandbox_id: id, range: "10m" });
  expect((await points("")).slice(0, 2)).toEqual([
    { timestamp_unix: expect.any(Number), cpu_pct: 0, mem_bytes: 4096, disk_bytes: 8192 },
    { timestamp_unix: expect.any(Number), cpu_pct: 100, mem_bytes: 8192, disk_bytes: 16_384 },
  ]);
});

test.each([
  { range: "5m", sec: 300, everySec: 0.5 },
  { range: "10m", sec: 600, everySec: 0.5 },
  { range: "1h", sec: 3600, everySec: 30 },
  { range: "2h", sec: 7200, everySec: 30 },
  { range: "6h", sec: 6 * 3600, everySec: 300 },
  { range: "12h", sec: 12 * 3600, everySec: 300 },
  { range: "24h", sec: 24 * 3600, everySec: 300 },
])("$range reaches as far back as it says", async ({ range, sec, everySec }) => {
  const old = await oldCapsule();

  const { body } = await get(`?range=${range}`, old);
  const found = await points(`?range=${range}`, old);

  const ageSec = Date.now() / 1000 - (found[0]?.timestamp_unix ?? 0);
  expect(body.range).toBe(range);
  expect(ageSec).toBeGreaterThan(sec - everySec);
  expect(ageSec).toBeLessThan(sec + 2);
  expect(Math.abs(found.length - sec / everySec)).toBeLessThanOrEqual(1);
});

test.each(["7m", "", "10M", "10m,1h"])(
  "a range of %j is refused, naming the field",
  async (range) => {
    const { status, body } = await get(`?range=${range}`);

    expect([status, body.error.code]).toEqual([400, "invalid_request"]);
    expect(body.error.message).toStartWith("range: ");
  },
);

test("a malformed id is refused, and a capsule of nobody or of another team is not found", async () => {
  const stranger = await addTeam(platform.database);
  const nobodys = `cl-${"0".repeat(25)}`;

  const answers = [await get("", "cl-no"), await get("", nobodys), await get("", id, stranger)];

  expect(answers.map(({ status, body }) => [status, body.error.code])).toEqual([
    [400, "invalid_request"],
    [404, "not_found"],
    [404, "not_found"],
  ]);
});

test("a capsule that does not run has none", async () => {
  const destroyed = await platform.create();
  await platform.call("DELETE", `/v1/capsules/${destroyed}`);

  const { status, body } = await get("", destroyed);

  expect<unknown>({ status, body }).toMatchObject({
    status: 404,
    body: {
      error: {
        code: "not_found",
        message: `capsule "${destroyed}" has no metrics: it neither runs nor rests`,
      },
    },
  });
});

test("a capsule whose host says that it does not run has none either", async () => {
  const lost = await platform.create();
  platform.agent.loseCapsule(lost, "its VMM ended");

  const { status, body } = await get("", lost);

  expect([status, body.error.code]).toEqual([404, "not_found"]);
});

test("a host that does not answer or fails is told apart from a capsule without metrics", async () => {
  platform.agent.faultBefore("getSandboxMetrics", () => {
    throw new ConnectError("the agent is stopping", Code.Unavailable);
  });
  platform.agent.faultBefore("getSandboxMetrics", () => {
    throw new ConnectError("a secret of the host", Code.Internal);
  });

  const answers = [await get(), await get()];

  expect(answers.map(({ status, body }) => [status, body.error.code])).toEqual([
    [503, "host_unavailable"],
    [502, "agent_error"],
  ]);
  expect(JSON.stringify(answers)).not.toContain("secret");
});

test("looking is no activity", async () => {
  const quiet = await platform.create();
  const before = (await platform.call("GET", `/v1/capsules/${quiet}`)).body.last_active_at;
  await platform.database.sql`update capsules set last_active_at = now() - interval '1 hour'`;

  await get("", quiet);

  const after = (await platform.call("GET", `/v1/capsules/${quiet}`)).body.last_active_at;
  expect(String(after) < String(before)).toBe(true);
});
