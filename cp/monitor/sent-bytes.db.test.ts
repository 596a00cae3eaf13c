import { expect, test } from "bun:test";
import { decodeId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { monitorHostsLoop } from "../loops/monitor-hosts.ts";

const platform = await forThisFile(TestPlatform.start());
const pass = () =>
  monitorHostsLoop(platform.controlPlane.deps, "quarantine").run(new AbortController().signal);

test("what a capsule has sent is counted once, however many look at once or late", async () => {
  const wireId = await platform.create();
  const id = decodeId("capsule", wireId) ?? "";
  const simulated = platform.agent.capsules.get(wireId);
  if (simulated === undefined) throw new Error("unreachable: it was created");
  const sent = async () => {
    const { body } = await platform.call("GET", "/v1/usage/capsules");
    const { capsules: used } = body as object as { capsules: { id: string; sent_bytes: number }[] };
    return used.find((each) => each.id === wireId)?.sent_bytes;
  };
  const tell = async (bytes: bigint | null) => {
    simulated.sentBytes = bytes;
    await Promise.all([pass(), pass(), pass()]);
    return await sent();
  };

  const told = [await tell(null), await tell(1000n), await tell(2n ** 40n), await tell(500n)];
  // A day later, as it were.
  await platform.database.sql`update capsule_usage set day = day - 1`;
  const later = await tell(2n ** 40n + 1n);
  const days = await platform.database.sql`select sent_bytes::float8 as bytes from capsule_usage
    where capsule_id = ${id} order by day`;

  expect(told).toEqual([0, 1000, 2 ** 40, 2 ** 40]);
  expect(later).toBe(2 ** 40 + 1);
  expect(days.map(({ bytes }) => bytes)).toEqual([2 ** 40, 1]);
});
