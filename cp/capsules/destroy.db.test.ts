import { expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { eq } from "drizzle-orm";
import { decodeId, newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  TestControlPlane,
  TestPlatform,
  toAnswer,
} from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, events, hosts } from "../db/tables.ts";
import { settleOperations } from "./settle.ts";

const platform = await forThisFile(TestPlatform.start());

async function rowOf(externalId: string, { database } = platform) {
  const id = decodeId("capsule", externalId) ?? newId("capsule");
  const [row] = await database.db.select().from(capsules).where(eq(capsules.id, id));
  return row;
}

async function destroyEvents(externalId: string): Promise<number> {
  const rows = await platform.database.db.select().from(events);
  return rows.filter(({ type, resource }) => {
    return type === "capsule.destroy" && resource.id === externalId;
  }).length;
}

test("destroying again, or twenty times at once, is one destroy", async () => {
  const id = await platform.create();
  const destroy = () => platform.call("DELETE", `/v1/capsules/${id}`);

  const together = await Promise.all(Array.from({ length: 20 }, destroy));
  const again = await destroy();

  expect([...together, again].every(({ status }) => status === 204)).toBe(true);
  expect(await rowOf(id)).toMatchObject({ status: "stopped", stateDeadline: null });
  expect(await destroyEvents(id)).toBe(1);
});

test("a destroy during a create wins: nothing is left and the create is told", async () => {
  platform.agent.bootMs = 200;
  const creating = platform.call("POST", "/v1/capsules", { body: {} });
  await waitFor("the capsule on the host", () => platform.agent.capsules.size, {
    holds: (count) => count === 1,
  });
  const id = [...platform.agent.capsules.keys()][0] ?? "";

  const destroyed = await platform.call("DELETE", `/v1/capsules/${id}`);
  const created = await creating;

  expect(destroyed.status).toBe(204);
  expect([created.status, created.body.error.code]).toEqual([409, "conflict"]);
  expect(platform.agent.capsules.size).toBe(0);
  expect((await rowOf(id))?.status).toBe("stopped");
  platform.agent.bootMs = 0;
});

// The host begins only after it was told that there is nothing to begin.
test("a create that reaches the host after the destroy leaves nothing there", async () => {
  const hold = Promise.withResolvers<void>();
  platform.agent.faultBefore("createSandbox", () => hold.promise);
  const calls = platform.agent.calls.length;
  const creating = platform.call("POST", "/v1/capsules", { body: {} });
  await waitFor("a call of createSandbox", () => platform.agent.calls.slice(calls), {
    holds: (all) => all.includes("createSandbox"),
  });
  const { body } = await platform.call("GET", "/v1/capsules");
  const id = (Object.values(body)[0] as { id: string }).id;

  const destroyed = await platform.call("DELETE", `/v1/capsules/${id}`);
  hold.resolve();
  const created = await creating;

  expect([destroyed.status, created.status]).toEqual([204, 409]);
  expect(platform.agent.capsules.size).toBe(0);
});

test("a failed capsule can be destroyed", async () => {
  platform.agent.faultBefore("createSandbox", () => {
    throw new ConnectError("no", Code.Internal);
  });
  await platform.call("POST", "/v1/capsules", { body: {} });
  const [failed] = await platform.database.db
    .select()
    .from(capsules)
    .where(eq(capsules.status, "error"));
  if (failed === undefined) throw new Error("no capsule has failed");

  const { deps } = platform.controlPlane;
  const { done } = await platform.controlPlane.capsules.destroy(
    { teamId: platform.team.id, actor: { type: "api_key", id: newId("apiKey"), name: "k" } },
    failed.id,
  );
  await done;

  const [row] = await deps.db.select().from(capsules).where(eq(capsules.id, failed.id));
  expect(row?.status).toBe("stopped");
});

test("a destroy that the host does not confirm is kept by the loop", async () => {
  const id = await platform.create();
  for (let failures = 0; failures < 2; failures++) {
    platform.agent.faultBefore("destroySandbox", () => {
      throw new ConnectError("busy", Code.Internal);
    });
  }

  const answer = await platform.call("DELETE", `/v1/capsules/${id}`);
  const meanwhile = await platform.call("GET", `/v1/capsules/${id}`);
  const [listed, listedToFirstClients] = await Promise.all([
    platform.call("GET", "/v1/capsules"),
    platform.call("GET", "/compat/0.1/v1/capsules"),
  ]);
  expect((await rowOf(id))?.status).toBe("stopping");

  await waitFor(
    "a pass that stops it",
    async () => {
      await settleOperations(platform.controlPlane.deps);
      return (await rowOf(id))?.status;
    },
    { holds: (status) => status === "stopped" },
  );
  expect([answer.status, meanwhile.body.status]).toEqual([202, "stopping"]);
  expect<unknown>(listed.body).toMatchObject([{ id, status: "stopping" }]);
  // They know it as `stopped`, which is not listed.
  expect<unknown>(listedToFirstClients.body).toEqual([]);
  expect(platform.agent.capsules.size).toBe(0);
  expect(await destroyEvents(id)).toBe(1);
});

test("nobody waits for a host that is known not to answer", async () => {
  const id = await platform.create();
  await platform.database.db.update(hosts).set({ status: "unreachable" });
  const calls = platform.agent.calls.length;

  const answer = await platform.call("DELETE", `/v1/capsules/${id}`);

  expect(answer.status).toBe(202);
  expect(platform.agent.calls.slice(calls)).toEqual([]);
  await platform.database.db.update(hosts).set({ status: "online" });
  await waitFor(
    "a pass that stops it",
    async () => {
      await settleOperations(platform.controlPlane.deps);
      return (await rowOf(id))?.status;
    },
    { holds: (status) => status === "stopped" },
  );
  expect(platform.agent.capsules.size).toBe(0);
});

test("two control planes create and destroy one team's capsules at once", async () => {
  await using second = await TestControlPlane.start(platform.database);
  const both = [platform.controlPlane, second];
  const request = (method: string, path: string) =>
    new Request(`http://localhost${path}`, {
      method,
      headers: { "x-api-key": platform.team.apiKey },
      ...(method === "POST" ? { body: "{}" } : {}),
    });

  const created = await Promise.all(
    Array.from({ length: 10 }, () =>
      both.map((each) => each.handle(request("POST", "/v1/capsules"))),
    )
      .flat()
      .map(async (answer) => (await toAnswer(await answer)).body.id),
  );
  const destroyed = await Promise.all(
    created.flatMap((id) =>
      both.map((each) => each.handle(request("DELETE", `/v1/capsules/${id}`))),
    ),
  );

  expect(destroyed.every(({ status }) => status === 204)).toBe(true);
  expect(platform.agent.capsules.size).toBe(0);
  expect(await Promise.all(created.map(destroyEvents))).toEqual(created.map(() => 1));
});
