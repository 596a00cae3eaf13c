// The control plane is killed while it pauses, resumes, snapshots and forks real capsules. The client
// repeats its request with the same key and gets one answer; record and host agree, nothing is lost.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { startControlPlane } from "../../scripts/dev/programs.ts";
import { agentClient } from "../harness/agent-client.ts";
import type { Client } from "../harness/client.ts";
import { adminClient, platform } from "../harness/platform.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";

const TEST_TIMEOUT_MS = 240_000;
/** Milliseconds into the request at which the control plane is killed. */
const KILL_AFTER_MS = process.env.WRENN_SOAK ? [0, 10, 30, 60, 100, 200, 400, 800, 1_600] : [60];
const VERBS = ["pause", "resume", "snapshot", "fork"] as const;
type Verb = (typeof VERBS)[number];

const STATE = "cat /proc/sys/kernel/random/boot_id /dev/shm/nonce";

let client: Client;
let id: string;
let state: string;

beforeAll(async () => {
  client = await adminClient();
  id = (await client.create({ memory_mb: 256 })).id;
  await client.sh(id, "head -c 16 /dev/urandom | base64 > /dev/shm/nonce");
  state = await stateOf(id);
}, TEST_TIMEOUT_MS);

afterAll(async () => {
  await client.destroy(id);
}, TEST_TIMEOUT_MS);

test.each(KILL_AFTER_MS.flatMap((ms) => VERBS.map((verb) => [verb, ms] as const)))(
  "a %s whose control plane is killed after %p ms is answered when it is repeated",
  async (verb, ms) => {
    if (verb === "resume") await client.json("POST", `/v1/capsules/${id}/pause`);
    const name = `crash-${crypto.randomUUID().slice(0, 8)}`;
    const key = crypto.randomUUID();

    const first = ask(verb, { key, name }).catch(() => null);
    await Bun.sleep(ms);
    await killAndRestart();
    await first;
    const answer = await waitFor("an answer", () => ask(verb, { key, name }).catch(() => null), {
      holds: (reported) => reported !== null && reported.status < 500,
      timeoutMs: GUEST_MS,
    });

    const left = leftOf(verb, answer?.body);
    expect([answer?.status, await recordAndHostAgree()]).toEqual([OK[verb], true]);
    if (verb === "pause") await client.json("POST", `/v1/capsules/${id}/resume`);
    for (const child of left) {
      expect(await stateOf(child)).toBe(state);
      await client.destroy(child);
    }
    if (verb === "snapshot") await client.json("DELETE", `/v1/snapshots/${name}`);
    expect(await stateOf(id)).toBe(state);
  },
  TEST_TIMEOUT_MS,
);

const OK: Readonly<Record<Verb, number>> = { pause: 200, resume: 200, snapshot: 201, fork: 201 };

async function ask(
  verb: Verb,
  { key, name }: { key: string; name: string },
): Promise<{ status: number; body: unknown }> {
  const path = verb === "snapshot" ? "/v1/snapshots" : `/v1/capsules/${id}/${verb}`;
  const body = verb === "snapshot" ? { sandbox_id: id, name } : {};
  const answer = await client.fetch(path, {
    method: "POST",
    headers: { "idempotency-key": key, "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  return { status: answer.status, body: await answer.json() };
}

/** The forks that run; what failed says so and has left nothing. */
function leftOf(verb: Verb, body: unknown): string[] {
  if (verb !== "fork" || !Array.isArray(body)) return [];
  return body.flatMap(({ capsule }) => (capsule === undefined ? [] : [capsule.id]));
}

async function killAndRestart(): Promise<void> {
  const parts = await platform();
  const record = await parts.processes.running("cp");
  if (!record) throw new Error("no control plane runs");
  process.kill(record.pid, "SIGKILL");
  await parts.processes.ended(record, 10_000);
  await startControlPlane(parts);
}

async function recordAndHostAgree(): Promise<boolean> {
  const agent = await agentClient();
  const agree = await waitFor(
    "record and host to agree",
    async () => {
      const onRecord = (await client.list()).map((capsule) => [capsule.id, capsule.status]);
      const { sandboxes } = await agent.listSandboxes({});
      const onHost = sandboxes.map(({ sandboxId, status }) => [sandboxId, status]);
      return [onRecord.toSorted(), onHost.toSorted()];
    },
    { holds: ([onRecord, onHost]) => Bun.deepEquals(onRecord, onHost), timeoutMs: 60_000 },
  );
  return agree.length === 2;
}

async function stateOf(capsule: string): Promise<string> {
  return (await client.sh(capsule, STATE)).stdout;
}
