// Repeated pauses, resumes, forks and snapshots: one of each, however often it is asked for.

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { eq } from "drizzle-orm";
import { type Answer, TestPlatform, until } from "../../tests/harness/simulated-agent-platform.ts";
import { capsules, idempotencyKeys } from "../db/tables.ts";

let platform: TestPlatform;

beforeAll(async () => {
  platform = await TestPlatform.start();
});

afterAll(async () => {
  await platform[Symbol.asyncDispose]();
});

afterEach(async () => {
  await platform.database.db.delete(capsules);
  platform.agent.capsules.clear();
  platform.agent.pauses.takesMs = 0;
});

type Verb = "pause" | "resume" | "fork" | "snapshot";
const VERBS = ["pause", "resume", "fork", "snapshot"] as const;

/** The capsule that the verb may be used on. */
async function subject(verb: Verb): Promise<string> {
  const id = await platform.create();
  if (verb === "resume") await platform.call("POST", `/v1/capsules/${id}/pause`);
  return id;
}

async function ask(verb: Verb, id: string, key: string): Promise<Answer> {
  const headers = { "idempotency-key": key };
  return verb === "snapshot"
    ? await platform.call("POST", "/v1/snapshots", { body: { sandbox_id: id }, headers })
    : await platform.call("POST", `/v1/capsules/${id}/${verb}`, { headers });
}

const METHODS = {
  pause: "pauseSandbox",
  resume: "resumeSandbox",
  fork: "forkSandbox",
  snapshot: "createSnapshot",
} as const;
const callsOf = (verb: Verb) =>
  platform.agent.calls.filter((method) => method === METHODS[verb]).length;

/** As if the control plane had died after the host's answer, before it kept its own. */
async function forgetAnswer(key: string, begun: unknown): Promise<void> {
  await platform.database.db
    .update(idempotencyKeys)
    .set({ status: null, response: begun })
    .where(eq(idempotencyKeys.key, key));
}

async function begunOf(key: string): Promise<unknown> {
  const own = eq(idempotencyKeys.key, key);
  return (await platform.database.db.select().from(idempotencyKeys).where(own))[0]?.response;
}

test.each(VERBS)("a repeated %s is answered by the first one, without the host", async (verb) => {
  const id = await subject(verb);
  const before = callsOf(verb);

  const first = await ask(verb, id, `repeat-${verb}`);
  const again = await ask(verb, id, `repeat-${verb}`);

  expect(first.status).toBeLessThan(300);
  expect<unknown>(again).toEqual(first);
  expect(callsOf(verb) - before).toBe(1);
});

test.each(VERBS)("five times %s at once with one key is done once", async (verb) => {
  const id = await subject(verb);
  platform.agent.pauses.takesMs = 80;
  const before = callsOf(verb);

  const answers = await Promise.all(
    Array.from({ length: 5 }, () => ask(verb, id, `storm-${verb}`)),
  );

  expect(answers.map(({ status }) => status < 300)).toEqual(Array(5).fill(true));
  expect(new Set(answers.map(({ body }) => JSON.stringify(body))).size).toBe(1);
  expect(callsOf(verb) - before).toBe(1);
});

test.each(VERBS)("a %s whose control plane died is answered by what became of it", async (verb) => {
  const id = await subject(verb);
  const key = `orphan-${verb}`;
  const held = Promise.withResolvers<void>();
  platform.agent.faultBefore(METHODS[verb], () => held.promise);
  const asking = ask(verb, id, key);
  await until(async () => (await platform.database.db.select().from(idempotencyKeys)).length > 0);
  await until(() => platform.agent.underWay > 0);
  const begun = await begunOf(key);
  held.resolve();
  const first = await asking;
  await forgetAnswer(key, begun);

  const again = await ask(verb, id, key);

  expect(first.status).toBeLessThan(300);
  expect([again.status, ids(again)]).toEqual([first.status, ids(first)]);
  expect(await begunOf(key)).toEqual(JSON.parse(JSON.stringify(again.body)));
});

test("the key of a pause is no key of a resume", async () => {
  const id = await platform.create();
  await ask("pause", id, "mixed");

  const answer = await ask("resume", id, "mixed");

  expect([answer.status, answer.body.error.code]).toEqual([409, "conflict"]);
  expect(answer.body.error.message).toStartWith("idempotency-key: ");
});

test("a pause that was refused before it began leaves its key free", async () => {
  const id = await subject("resume");

  const refused = await ask("pause", id, "free");
  await platform.call("POST", `/v1/capsules/${id}/resume`);
  const later = await ask("pause", id, "free");

  expect([refused.status, later.status]).toEqual([409, 200]);
});

test("a pause that failed changed nothing: its key may be used again", async () => {
  const id = await platform.create();
  platform.agent.faultBefore("pauseSandbox", () => {
    throw new ConnectError("no", Code.Internal);
  });

  const first = await ask("pause", id, "refused");
  const again = await ask("pause", id, "refused");

  expect([first.status, first.body.error.code]).toEqual([502, "agent_error"]);
  expect([again.status, again.body.status]).toEqual([200, "paused"]);
});

test("a pause whose end nobody knew yet is answered by its end", async () => {
  const id = await platform.create();
  for (const method of ["pauseSandbox", "listSandboxes"] as const) {
    platform.agent.faultBefore(method, () => {
      throw new ConnectError("no", Code.Internal);
    });
  }
  const first = await ask("pause", id, "undecided");
  const again = ask("pause", id, "undecided");
  await platform.database.db.update(capsules).set({ status: "paused", stateDeadline: null });

  expect(first.status).toBe(502);
  expect((await again).body).toMatchObject({ id, status: "paused" });
});

/** Of what was made, in no order. */
function ids({ body }: Answer): unknown {
  if (!Array.isArray(body)) return body.id ?? body.name;
  return body.map(({ capsule }) => capsule.id).toSorted();
}
