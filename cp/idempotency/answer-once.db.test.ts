// Repeated pauses, resumes, forks and snapshots: one of each, however often it is asked for.

import { afterEach, expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { eq } from "drizzle-orm";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { type Answer, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules, idempotencyKeys } from "../db/tables.ts";

const platform = await forThisFile(TestPlatform.start());

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

/** As if the control plane had died after the host's answer, before it kept the outcome. */
async function forgetOutcome(key: string): Promise<void> {
  const own = eq(idempotencyKeys.key, key);
  await platform.database.db.update(idempotencyKeys).set({ code: null }).where(own);
}

async function rowOf(key: string) {
  const own = eq(idempotencyKeys.key, key);
  return (await platform.database.db.select().from(idempotencyKeys).where(own))[0];
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
  await waitFor("the key on record", () => platform.database.db.select().from(idempotencyKeys), {
    holds: (keys) => keys.length > 0,
  });
  await waitFor("a call under way at the agent", () => platform.agent.underWay > 0);
  const begun = await rowOf(key);
  held.resolve();
  const first = await asking;
  await forgetOutcome(key);

  const again = await ask(verb, id, key);

  expect(first.status).toBeLessThan(300);
  expect([again.status, ids(again)]).toEqual([first.status, ids(first)]);
  expect([begun?.code, (await rowOf(key))?.code]).toEqual([null, ""]);
  expect((await rowOf(key))?.subjectIds).toEqual(begun?.subjectIds ?? []);
});

// Another program than the first one answers: it knows of the work what the record says.
test("a repeated fork has the same outcomes, each with its own code, as its capsules are by now", async () => {
  const id = await subject("fork");
  platform.agent.faultBefore("createSandbox", () => {
    throw new ConnectError("no slot is free", Code.ResourceExhausted);
  });
  const fork = () => {
    const headers = { "idempotency-key": "some" };
    return platform.call("POST", `/v1/capsules/${id}/fork`, { body: { count: 3 }, headers });
  };

  const first = await fork();
  const again = await fork();
  const made = entries(first).find(({ capsule }) => capsule !== undefined)?.capsule;
  await platform.call("DELETE", `/v1/capsules/${made?.id}`);
  const later = entries(await fork()).find(({ capsule }) => capsule?.id === made?.id);

  expect(
    entries(first)
      .map(({ error }) => error?.code ?? "runs")
      .toSorted(),
  ).toEqual(["no_hosts_available", "runs", "runs"]);
  expect<unknown>(again).toEqual(first);
  expect(later?.capsule).toMatchObject({ status: "stopped" });
});

test("a repeated snapshot whose template is gone says so, and makes no other", async () => {
  const id = await subject("snapshot");
  const first = await ask("snapshot", id, "gone");
  await platform.call("DELETE", `/v1/snapshots/${first.body.name}`);
  const before = callsOf("snapshot");

  const again = await ask("snapshot", id, "gone");

  expect([again.status, again.body.error.code]).toEqual([409, "conflict"]);
  expect(callsOf("snapshot")).toBe(before);
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

interface Entry {
  readonly capsule?: { readonly id: string };
  readonly error?: { readonly code: string };
}

const entries = ({ body }: Answer): Entry[] => Object.values(body as object);

/** Of what was made, in no order. */
function ids({ body }: Answer): unknown {
  if (!Array.isArray(body)) return body.id ?? body.name;
  return body.map(({ capsule }) => capsule.id).toSorted();
}
