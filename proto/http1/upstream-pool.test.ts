// The bounds of a pool: how many connections there are, how long one is kept, and that none outlives the pool.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { Upstream, UpstreamPool, type UpstreamPoolOptions } from "./upstream-pool.ts";

let port: number;
/** At the server. */
let opened: number;
let closed: number;
let resources: AsyncDisposableStack;

beforeEach(() => {
  resources = new AsyncDisposableStack();
  opened = closed = 0;
  const socket = { open: () => void opened++, close: () => void closed++, data: () => {} };
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket });
  resources.defer(() => server.stop(true));
  port = server.port;
});

afterEach(() => resources.disposeAsync());

function poolOf(more: Partial<UpstreamPoolOptions>): UpstreamPool {
  const pool = new UpstreamPool({
    address: { hostname: "127.0.0.1", port },
    idleMax: 8,
    idleMs: 60_000,
    connectionsMax: 16,
    retryAfterMs: [],
    dialTimeoutMs: 5_000,
    isFickle: false,
    ...more,
  });
  return resources.adopt(pool, (pool) => pool.close());
}

async function dialled(pool: UpstreamPool): Promise<Upstream> {
  const upstream = await pool.dial();
  if (typeof upstream === "string") throw new Error(upstream);
  return upstream;
}

test("those that are being opened count, too", async () => {
  const pool = poolOf({ connectionsMax: 2 });

  const outcomes = await Promise.all([pool.dial(), pool.dial(), pool.dial()]);

  expect(outcomes.map((outcome) => outcome instanceof Upstream || outcome)).toEqual([
    true,
    true,
    "busy",
  ]);
  expect(pool.size).toBe(2);
});

test("one that was idle for too long is not used again, whoever looked after it last", async () => {
  const pool = poolOf({ idleMs: 1 });
  pool.release(await dialled(pool));
  await Bun.sleep(5);

  expect(pool.take()).toBe(null);
  expect(pool.size).toBe(0);
});

test("one that is opened while its pool ends is ended with it", async () => {
  const pool = poolOf({});

  const dialling = pool.dial();
  pool.close();

  expect(await dialling).toBe("closed");
  expect(pool.size).toBe(0);
  await waitFor("its end at the server", () => opened === 1 && closed === 1);
});
