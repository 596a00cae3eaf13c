// Work that a client was answered 202 about, or did not wait for: whether its control plane is killed in the
// middle or the client hangs up, it is finished or undone, and nothing is left on its way.

import { afterAll, afterEach, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { encodeId } from "../../proto/ids.ts";
import type { Method } from "../../tests/harness/simulated-agent.ts";
import { type Answer, TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { ControlPlaneProgram } from "../../tests/harness/simulated-agent-program.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { ENDED_STATES, OPERATION_STATES } from "../capsule-states.ts";
import { capsules, events, templateOperations } from "../db/tables.ts";

setDefaultTimeout(60_000);

interface Work {
  readonly source: "none" | "running" | "paused";
  readonly request: (id: string) => readonly [method: string, path: string, body?: unknown];
  readonly call: Method;
  /** The states of its source and of what comes of it, when the host does it and when the call is lost. */
  readonly done: readonly string[];
  readonly lost: readonly string[];
}

const WORK: readonly Work[] = [
  {
    ...{ source: "none", call: "createSandbox", done: ["running"], lost: ["error"] },
    request: () => ["POST", "/v1/capsules"],
  },
  {
    ...{ source: "running", call: "pauseSandbox", done: ["paused"], lost: ["running"] },
    request: (id) => ["POST", `/v1/capsules/${id}/pause`],
  },
  {
    ...{ source: "paused", call: "resumeSandbox", done: ["running"], lost: ["paused"] },
    request: (id) => ["POST", `/v1/capsules/${id}/resume`],
  },
  {
    // Made in both cases: the host is asked again, which knows the attempt by the template's id.
    ...{ source: "running", call: "createSnapshot", done: ["running"], lost: ["running"] },
    request: (id) => ["POST", "/v1/snapshots", { sandbox_id: id, name: "ours" }],
  },
  {
    ...{ source: "running", call: "forkSandbox" },
    ...{ done: ["running", "running", "running"], lost: ["error", "error", "running"] },
    request: (id) => ["POST", `/v1/capsules/${id}/fork`, { count: 2 }],
  },
  {
    ...{ source: "running", call: "destroySandbox", done: ["stopped"], lost: ["stopped"] },
    request: (id) => ["DELETE", `/v1/capsules/${id}`],
  },
];

const SOURCES = WORK.filter(({ source }) => source !== "none").length;
/** A created capsule and two forks. */
const MADE = 3;
const IN_BETWEEN: readonly string[] = OPERATION_STATES;

let platform: TestPlatform;
let program: ControlPlaneProgram;

beforeAll(async () => {
  platform = await TestPlatform.start();
  program = await ControlPlaneProgram.start(platform);
});

afterAll(async () => {
  await program.end("SIGTERM");
  await platform[Symbol.asyncDispose]();
});

afterEach(() => platform.forgetCapsules());

async function sourceOf({ source }: Work): Promise<string> {
  if (source === "none") return "";
  const id = (await program.call("POST", "/v1/capsules"))?.body.id ?? "";
  if (source === "paused") await program.call("POST", `/v1/capsules/${id}/pause`);
  return id;
}

/** Has the host stop at the work: before it does anything, or when it is done and before it says so. */
function holdHost({ call }: Work, at: "lost" | "done") {
  const { promise, resolve } = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  const fault = async () => {
    reached.resolve();
    await promise;
    if (at === "lost") throw new Error("the request was lost");
  };
  if (at === "lost") platform.agent.faultBefore(call, fault);
  else platform.agent.faultAfter(call, fault);
  return { reached: reached.promise, letGo: resolve };
}

/** Asks for all of it, the next when the host is at the one before. */
async function askForAll(
  at: "done" | "lost",
  options: { readonly prefer: string; readonly signal?: AbortSignal },
) {
  const sources: string[] = [];
  for (const work of WORK) sources.push(await sourceOf(work));
  const holds: Array<() => void> = [];
  const answers: Array<Promise<Answer | null>> = [];
  for (const [i, work] of WORK.entries()) {
    const { reached, letGo } = holdHost(work, at);
    const [method, path, body] = work.request(sources[i] ?? "");
    holds.push(letGo);
    answers.push(program.call(method, path, { ...options, body }));
    await reached;
  }
  const letGo = () => {
    for (const each of holds) each();
  };
  return { sources, answers, letGo };
}

/** Of each work the states of its source and of what came of it, which nothing leads anywhere any more. */
async function statesAtRest(sources: readonly string[], count: number): Promise<string[][]> {
  const { db } = platform.database;
  const rows = await waitFor("every capsule to be at rest", () => db.select().from(capsules), {
    holds: (all) => all.length === count && !all.some(({ status }) => IN_BETWEEN.includes(status)),
  });
  await waitFor("the end of work on templates", () => db.select().from(templateOperations), {
    holds: (all) => all.length === 0,
  });
  const byAge = rows.toSorted((a, b) => Number(a.createdAt) - Number(b.createdAt));
  const statusOf = (id: string) => byAge.find((row) => encodeId("capsule", row.id) === id)?.status;
  const [created, ...forks] = byAge.slice(SOURCES).map(({ status }) => status);
  return WORK.map(({ call }, i) => {
    if (call === "createSandbox") return [created ?? ""];
    const made = call === "forkSandbox" ? forks : [];
    return [...made, statusOf(sources[i] ?? "") ?? ""].toSorted();
  });
}

/** Record and host agree, and each capsule's events are one path to where it is. */
async function expectTold(): Promise<void> {
  const rows = await platform.database.db.select().from(capsules);
  const all = await platform.database.db.select().from(events).orderBy(events.id);
  const onRecord = rows
    .filter(({ status }) => !ENDED_STATES.some((ended) => ended === status))
    .map(({ id, status }) => [encodeId("capsule", id), status]);
  const onHost = [...platform.agent.capsules].map(([id, { status }]) => [id, status]);
  expect(onRecord.toSorted()).toEqual(onHost.toSorted());
  for (const { id, status } of rows) {
    const own = all.filter(({ resource }) => resource.id === encodeId("capsule", id));
    const steps = own.map(({ metadata }) => metadata);
    expect(steps.at(-1)?.to).toBe(status);
    expect(steps.slice(1).map(({ from }) => from)).toEqual(steps.slice(0, -1).map(({ to }) => to));
  }
}

test.each(["done", "lost"] as const)(
  "what was accepted, and is %s at the host, ends when its control plane is killed",
  async (at) => {
    const { sources, answers, letGo } = await askForAll(at, { prefer: "respond-async" });
    const accepted = await Promise.all(answers);
    await program.end("SIGKILL");
    letGo();
    program = await ControlPlaneProgram.start(platform);

    expect(await statesAtRest(sources, SOURCES + MADE)).toEqual(WORK.map((work) => [...work[at]]));
    expect(accepted.map((answer) => answer?.status)).toEqual(WORK.map(() => 202));
    expect(platform.agent.pauses.templates.size).toBe(1);
    await expectTold();
  },
);

test("a client that hangs up before it is answered changes nothing", async () => {
  const client = new AbortController();
  const options = { prefer: "wait=60", signal: client.signal };
  const { sources, answers, letGo } = await askForAll("done", options);
  client.abort();
  const cut = await Promise.all(answers);
  letGo();

  expect(await statesAtRest(sources, SOURCES + MADE)).toEqual(WORK.map(({ done }) => [...done]));
  expect(cut).toEqual(WORK.map(() => null));
  expect(platform.agent.pauses.templates.size).toBe(1);
  await expectTold();
});
