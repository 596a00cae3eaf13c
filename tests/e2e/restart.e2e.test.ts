// An agent is restarted under load: no microVM is lost, and whatever request fails because of it is
// served when it is repeated within two seconds.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { startAgent } from "../../scripts/dev/programs.ts";
import type { Client } from "../harness/client.ts";
import { adminClient, platform } from "../harness/platform.ts";
import { StreamClient } from "../harness/stream-client.ts";
import { GUEST_MS, waitFor } from "../harness/wait-for.ts";

const TEST_TIMEOUT_MS = 300_000;
/** What a client may have to wait before its request is served, from when an agent answers again. */
const RETRY_MS = 2_000;
/** A failed request is repeated this often. */
const RETRY_EVERY_MS = 100;
const ROUNDS = process.env.WRENN_SOAK ? 10 : 1;
/** A shell would start a program for each of its waits. */
const TICKER = '$| = 1; while (1) { print "tick\\n"; select undef, undef, undef, 0.1 }';

let client: Client;
let steady: string;
let resting: string;
const template = `restart-${crypto.randomUUID().slice(0, 8)}`;

beforeAll(async () => {
  client = await adminClient();
  steady = (await client.create({ memory_mb: 256 })).id;
  await client.json("POST", "/v1/snapshots", { sandbox_id: steady, name: template });
  resting = (await client.create({ template })).id;
  await client.exec(steady, {
    cmd: "perl",
    args: ["-e", TICKER],
    background: true,
    tag: "ticker",
  });
}, TEST_TIMEOUT_MS);

afterAll(async () => {
  for (const id of [steady, resting]) await client.destroy(id);
  await client.json("DELETE", `/v1/snapshots/${template}`);
}, TEST_TIMEOUT_MS);

test.each(Array.from({ length: ROUNDS }, () => ["SIGTERM", "SIGKILL"] as const).flat())(
  "an agent that ends by %s under load loses no microVM and no request that is repeated",
  async (signal) => {
    const identity = "cat /proc/sys/kernel/random/boot_id; pgrep -o perl";
    const before = (await client.sh(steady, identity)).stdout;
    const restarts = new Restarts();
    const stop = new AbortController();
    const actors = [
      act("exec", { stop: stop.signal, restarts, work: runCommand }),
      act("files", { stop: stop.signal, restarts, work: roundTripFile }),
      act("attach", { stop: stop.signal, restarts, work: attach }),
      act("rest", { stop: stop.signal, restarts, work: pauseAndResume }),
      act("create", { stop: stop.signal, restarts, work: createAndDestroy }),
    ];
    await eachHasWorked(actors, 1);

    await restarts.restartAgent(signal);
    await eachHasWorked(actors, 2);
    stop.abort();
    await Promise.all(actors.map(({ done }) => done));

    expect(actors.map(({ name, lost }) => [name, lost])).toEqual(
      actors.map(({ name }) => [name, []]),
    );
    // Or there was no load.
    expect(restarts.repeated).toBeGreaterThan(0);
    expect((await client.sh(steady, identity)).stdout).toBe(before);
    expect((await client.list()).map(({ id, status }) => [id, status]).toSorted()).toEqual(
      [steady, resting].map((id) => [id, "running"]).toSorted(),
    );
  },
  TEST_TIMEOUT_MS,
);

/** Knows since when an agent answers. */
class Restarts {
  #up: Promise<void> = Promise.resolve();
  upSince = 0;
  /** Requests that failed and were served when they were repeated. */
  repeated = 0;

  /** Resolves once an agent answers. */
  get up(): Promise<void> {
    return this.#up;
  }

  async restartAgent(signal: NodeJS.Signals): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#up = promise;
    const parts = await platform();
    const record = await parts.processes.running("agent");
    if (!record) throw new Error("no agent runs");
    process.kill(record.pid, signal);
    await parts.processes.ended(record, 30_000);
    await startAgent(parts, () => Promise.reject(new Error("it is registered already")));
    this.upSince = Date.now();
    resolve();
  }
}

interface Actor {
  readonly name: string;
  readonly done: Promise<void>;
  /** Since the last restart. */
  worked: number;
  /** Failures that were none of the restart's, or outlasted it. */
  readonly lost: string[];
}

interface Acting {
  readonly stop: AbortSignal;
  readonly restarts: Restarts;
  readonly work: (serve: Serve) => Promise<void>;
}

/** Makes a request, again and again while it fails, for as long as a client has to. */
type Serve = <T>(request: () => Promise<T>) => Promise<T>;

/** Works without a pause until it is stopped. */
function act(name: string, { stop, restarts, work }: Acting): Actor {
  const lost: string[] = [];
  const serve: Serve = async (request) => await served(request, restarts);
  const run = async () => {
    while (!stop.aborted && lost.length === 0) {
      try {
        await work(serve);
        actor.worked++;
      } catch (error) {
        lost.push(String(error));
      }
    }
  };
  const actor: Actor = { name, worked: 0, lost, done: Promise.resolve().then(run) };
  return actor;
}

async function served<T>(request: () => Promise<T>, restarts: Restarts): Promise<T> {
  let failedAt = 0;
  for (;;) {
    const startedAt = Date.now();
    try {
      const answer = await request();
      if (failedAt > 0) restarts.repeated++;
      return answer;
    } catch (error) {
      failedAt ||= Date.now();
      const isLate = startedAt > Math.max(failedAt, restarts.upSince) + RETRY_MS;
      if (isLate) throw error;
    }
    await Bun.sleep(RETRY_EVERY_MS);
    await restarts.up;
  }
}

async function eachHasWorked(actors: readonly Actor[], times: number): Promise<void> {
  for (const actor of actors) actor.worked = 0;
  const look = () => actors.map(({ name, worked, lost }) => ({ name, worked, lost: lost.length }));
  await waitFor(`${times} pieces of work of each`, look, {
    holds: (all) => all.every(({ worked, lost }) => worked >= times || lost > 0),
    timeoutMs: GUEST_MS,
  });
}

async function runCommand(serve: Serve): Promise<void> {
  const { stdout } = await serve(() => client.sh(steady, "echo $((6 * 7))"));
  expect(stdout).toBe("42\n");
}

async function roundTripFile(serve: Serve): Promise<void> {
  const content = crypto.randomUUID().repeat(100);
  await serve(() => client.write(steady, "/home/wrenn-user/load", content));
  const read = await serve(() => client.read(steady, "/home/wrenn-user/load"));
  expect(new TextDecoder().decode(read)).toBe(content);
}

/** A client whose stream ends attaches again. */
async function attach(serve: Serve): Promise<void> {
  const { baseUrl, account } = await platform();
  await serve(async () => {
    const path = `/v1/capsules/${steady}/processes/ticker/stream`;
    await using stream = await StreamClient.open(baseUrl, path, { "x-api-key": account.apiKey });
    await stream.until("start");
    for (let lines = 0; lines < 5; lines++) await stream.until("stdout");
  });
}

async function pauseAndResume(serve: Serve): Promise<void> {
  for (const verb of ["pause", "resume"]) {
    const headers = { "idempotency-key": crypto.randomUUID() };
    await serve(async () => {
      const path = `/v1/capsules/${resting}/${verb}`;
      const answer = await client.fetch(path, { method: "POST", headers });
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${verb}: ${answer.status} ${text}`);
    });
  }
  expect((await serve(() => client.sh(resting, "echo back"))).stdout).toBe("back\n");
}

async function createAndDestroy(serve: Serve): Promise<void> {
  const { id } = await serve(() => client.create({ template }));
  expect((await serve(() => client.sh(id, "echo new"))).stdout).toBe("new\n");
  await serve(() => client.destroy(id));
}
