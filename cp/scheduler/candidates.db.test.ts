// Which hosts a create may go to, and what counts as taken there.

import { afterEach, expect, test } from "bun:test";
import { eq } from "drizzle-orm";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { addHost, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { capsules, hosts } from "../db/tables.ts";

const platform = await forThisFile(TestPlatform.start());
const { db } = platform.database;
const create = (body: object) => platform.call("POST", "/v1/capsules", { body });

afterEach(async () => {
  await db.delete(capsules);
  platform.agent.capsules.clear();
});

test("a host that has told no address is none to ask, however much it has", async () => {
  // The other host is less empty, and so would come second.
  await create({});
  const id = await addHost(platform.database, "", { memoryMb: 1_048_576, cpuCores: 256 });

  const { status } = await create({});
  await db.delete(hosts).where(eq(hosts.id, id));

  expect(status).toBe(201);
});

test("a hibernated capsule holds nothing of the host that it was on", async () => {
  const large = { memory_mb: 12_000 };
  await db.update(hosts).set({ memoryMb: 16_000 });
  await create(large);
  const meanwhile = await create(large);
  await db.update(capsules).set({ status: "hibernated" });
  const after = await create(large);

  expect([meanwhile.status, after.status]).toEqual([503, 201]);
});
