// Pausing and resuming through the public API, on real microVMs.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { apiError, type Capsule, type Client } from "../harness/client.ts";
import { adminClient, platform } from "../harness/platform.ts";
import { StreamClient } from "../harness/stream-client.ts";
import { tickerArgs } from "../harness/ticker.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";

/** Guests are emulated here: a boot takes tens of seconds. */
const TEST_TIMEOUT_MS = 240_000;
/** Of the guest's clock from ours once a resume is answered; a round trip is part of it. */
const CLOCK_SKEW_SEC_MAX = 2;
const TICKS = "/home/wrenn-user/ticks";
const TICKER = { cmd: "perl", args: tickerArgs(TICKS), background: true };

interface Rested extends Capsule {
  readonly durable_at?: string;
  readonly metadata?: Record<string, string>;
}

let client: Client;
let id: string;

beforeAll(async () => {
  client = await adminClient();
  id = (await client.create({ memory_mb: 256 })).id;
}, TEST_TIMEOUT_MS);

afterAll(async () => {
  await client.destroy(id);
}, TEST_TIMEOUT_MS);

const pause = () => client.json<Rested>("POST", `/v1/capsules/${id}/pause`);
const resume = (body?: unknown) => client.json<Rested>("POST", `/v1/capsules/${id}/resume`, body);
const sh = async (line: string) => (await client.sh(id, line)).stdout.trim();
const ticksOf = async (capsuleId: string) =>
  Number.parseInt((await client.sh(capsuleId, `cat ${TICKS}`)).stdout, 10);

test(
  "files, processes and what they count survive a pause; the clock is right again",
  async () => {
    await client.exec(id, { ...TICKER, tag: "ticker" });
    await client.write(id, "/home/wrenn-user/kept", "kept\n");
    await waitFor("ticks", () => ticksOf(id), {
      holds: (ticks) => ticks > 2,
      timeoutMs: 60_000,
    });
    const bootId = await sh("cat /proc/sys/kernel/random/boot_id");

    const paused = await pause();
    const refused = await apiError(client.sh(id, "true"));
    const ticksBefore = paused.status;
    const resumed = await resume();
    const clock = Number(await sh("date +%s"));
    const now = Date.now() / 1000;
    const ticks = await ticksOf(id);

    expect([ticksBefore, refused.status, refused.code]).toEqual(["paused", 409, "invalid_state"]);
    expect([resumed.status, resumed.metadata?.resumed_from]).toEqual(["running", "memory"]);
    expect(Math.abs(now - clock)).toBeLessThan(CLOCK_SKEW_SEC_MAX);
    expect(await sh("cat /home/wrenn-user/kept; cat /proc/sys/kernel/random/boot_id")).toBe(
      `kept\n${bootId}`,
    );
    await waitFor("more ticks", () => ticksOf(id), {
      holds: (later) => later > ticks,
      timeoutMs: 60_000,
    });
    const { processes } = await client.json<{ processes: { tag?: string }[] }>(
      "GET",
      `/v1/capsules/${id}/processes`,
    );
    expect(processes.map(({ tag }) => tag)).toContain("ticker");
  },
  TEST_TIMEOUT_MS,
);

test(
  "a durable pause is resumed from what was written, with the same memory",
  async () => {
    const ticks = await ticksOf(id);

    await pause();
    await waitFor("a durable capsule", () => client.json<Rested>("GET", `/v1/capsules/${id}`), {
      holds: ({ durable_at }) => durable_at !== undefined,
      timeoutMs: GUEST_MS,
    });
    const resumed = await resume();

    expect([resumed.metadata?.resumed_from, resumed.durable_at]).toEqual(["memory", undefined]);
    await waitFor("more ticks", () => ticksOf(id), {
      holds: (later) => later > ticks,
      timeoutMs: 60_000,
    });
  },
  TEST_TIMEOUT_MS,
);

test(
  "of two resumes at once one succeeds and one is refused",
  async () => {
    await pause();

    const resumes = await Promise.allSettled([resume(), resume()]);

    expect(resumes.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    expect(await sh("echo alive")).toBe("alive");
  },
  TEST_TIMEOUT_MS,
);

test(
  "streams that are open at a pause end with it, and their processes are there after it",
  async () => {
    const { baseUrl, account } = await platform();
    const open = (route: string) =>
      StreamClient.open(baseUrl, `/v1/capsules/${id}/${route}`, { "x-api-key": account.apiKey });
    await using output = await open("exec/stream");
    output.send({
      type: "start",
      cmd: "/bin/sh",
      args: ["-c", "while :; do echo x; sleep 0.1; done"],
    });
    const { pid } = await output.until("start");
    await output.until("stdout");
    await using terminal = await open("pty");
    terminal.send({ type: "start", cmd: "/bin/sh" });
    const { tag } = await terminal.until("started");
    terminal.type("MEMORY=kept\n");
    await terminal.untilOutput("kept");

    await pause();
    const ends = await Promise.all([output.rest(), terminal.rest()]);
    await resume();
    await using attached = await open(`processes/${pid}/stream`);
    await attached.until("stdout");
    await using again = await open("pty");
    again.send({ type: "connect", tag });
    again.type('echo "it was $MEMORY"\n');

    expect(ends.map((messages) => messages.at(-1)?.type)).toEqual(["error", "error"]);
    await again.untilOutput("it was kept");
    again.send({ type: "kill" });
    await client.json("DELETE", `/v1/capsules/${id}/processes/${pid}`);
  },
  TEST_TIMEOUT_MS,
);

test(
  "of two pauses at once one succeeds and one is refused, or both are one by their key",
  async () => {
    const pauses = await Promise.allSettled([pause(), pause()]);
    const statuses = pauses.map(({ status }) => status).toSorted();
    await resume();
    const headers = { "idempotency-key": crypto.randomUUID() };
    const keyed = await Promise.all(
      [1, 2].map(() => client.fetch(`/v1/capsules/${id}/pause`, { method: "POST", headers })),
    );
    const answers = await Promise.all(keyed.map((answer) => answer.json()));
    await resume();

    expect(statuses).toEqual(["fulfilled", "rejected"]);
    expect(answers[0]).toMatchObject({ id, status: "paused" });
    expect(answers[1]).toEqual(answers[0]);
  },
  TEST_TIMEOUT_MS,
);

test(
  "without its memory a paused capsule boots its disk",
  async () => {
    await sh("sync");
    const bootId = await sh("cat /proc/sys/kernel/random/boot_id");
    await pause();

    const resumed = await resume({ memory: false });

    expect(resumed.metadata?.resumed_from).toBe("disk");
    expect(await sh("cat /home/wrenn-user/kept")).toBe("kept");
    expect(await sh("cat /proc/sys/kernel/random/boot_id")).not.toBe(bootId);
  },
  TEST_TIMEOUT_MS,
);

test(
  "a capsule starts from a snapshot with its source's files and processes, which goes on",
  async () => {
    await client.exec(id, { ...TICKER, tag: "ticks" });
    const name = `e2e-${crypto.randomUUID().slice(0, 8)}`;

    const made = await client.json("POST", "/v1/snapshots", { sandbox_id: id, name });
    const child = (await client.create({ template: name })).id;
    const boot = "cat /proc/sys/kernel/random/boot_id";
    const [own, childs] = [await sh(boot), (await client.sh(child, boot)).stdout.trim()];
    const ticks = await ticksOf(child);
    await waitFor("ticks of the child", () => ticksOf(child), {
      holds: (later) => later > ticks,
      timeoutMs: 60_000,
    });
    await client.json("DELETE", `/v1/snapshots/${name}`);
    const kept = (await client.sh(child, "cat /home/wrenn-user/kept")).stdout;
    await client.destroy(child);

    expect(made).toMatchObject({ name, type: "snapshot", vcpus: 1, memory_mb: 256 });
    expect([childs, kept]).toEqual([own, "kept\n"]);
  },
  TEST_TIMEOUT_MS,
);

test(
  "forks go on from the same instant, each with what the source had",
  async () => {
    await sh("echo forked > /dev/shm/memory");

    const forks = await client.json<{ capsule?: Capsule; error?: { code: string } }[]>(
      "POST",
      `/v1/capsules/${id}/fork`,
      { count: 2 },
    );
    const answers = [];
    for (const { capsule } of forks) {
      if (capsule === undefined) continue;
      answers.push((await client.sh(capsule.id, "cat /dev/shm/memory")).stdout);
      await client.destroy(capsule.id);
    }

    expect(forks.map(({ error }) => error)).toEqual([undefined, undefined]);
    expect(answers).toEqual(["forked\n", "forked\n"]);
    expect(await sh("cat /dev/shm/memory")).toBe("forked");
  },
  TEST_TIMEOUT_MS,
);

test(
  "an unused capsule is paused after its timeout, and the record says so",
  async () => {
    const short = await client.create({ memory_mb: 256, timeout_sec: 3 });

    await waitFor("the capsule to be paused", () => client.get(short.id), {
      holds: ({ status }) => status === "paused",
      timeoutMs: 60_000,
    });

    await client.destroy(short.id);
  },
  TEST_TIMEOUT_MS,
);
