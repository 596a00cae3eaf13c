// A pool whose connections die unheard, one or all, at a server that answers everybody else, or are cut.

import { expect, test } from "bun:test";
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SeverableLink } from "../../tests/harness/severable-link.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { isOutage } from "../outage.ts";
import { AnswerWatch } from "./answer-watch.ts";
import { watchedClient } from "./watched-client.ts";

/** As of a pool whose statements are short. */
const WAIT_MS_MAX = 1500;
/** Between two requests, from before the connections die until so many in a row are served again. */
const EVERY_MS = 3;
const SERVED_MIN = 100;
const FOR_MS_MAX = 25_000;

const direct = await forThisFile(cloneDatabase());
await direct.sql`create table effects (run int, n int)`;

/** So many connections by a link, all open. */
async function linkedPool(max: number, waitMsMax = WAIT_MS_MAX) {
  await using undone = new AsyncDisposableStack();
  const url = new URL(direct.url);
  const target = { hostname: url.hostname, port: Number(url.port || 5432) };
  const link = undone.use(new SeverableLink(target));
  url.hostname = "127.0.0.1";
  url.port = String(link.port);
  const watch = undone.adopt(new AnswerWatch({ waitMsMax }), (it) => it.close());
  const socket: object = { socket: watch.connect };
  const client = postgres(url.href, { max, backoff: () => 0.25, onnotice: () => {}, ...socket });
  undone.defer(() => client.end({ timeout: 1 }));
  const db = drizzle(watchedClient(client, watch));
  const pids = async () => {
    const rows = await Promise.all(
      Array.from({ length: max }, () =>
        db.execute<{ pid: number }>(sql`select pg_backend_pid() as pid, pg_sleep(0.3)`),
      ),
    );
    return new Set(rows.map(([row]) => row?.pid));
  };
  await pids();
  const resources = undone.move();
  return { link, db, pids, [Symbol.asyncDispose]: () => resources.disposeAsync() };
}

/** How it failed; null if it did not. */
const failureOf = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => null,
    (error) => error,
  );

test.each<
  [what: string, strike: (link: SeverableLink) => void, heal: (link: SeverableLink) => void]
>([
  ["all connections die", (link) => link.loseOpen(), () => {}],
  ["one connection dies", (link) => link.loseOpen(1), () => {}],
  ["all connections are cut", (link) => link.cut(), (link) => link.mend()],
])("where %s no statement is done twice, and every place serves again", async (_, strike, heal) => {
  const connections = 3;
  await using pool = await linkedPool(connections);
  const { link, db } = pool;
  const run = Math.floor(Math.random() * 2 ** 31);
  const insert = (n: number) => {
    const statement = sql`insert into effects values (${run}, ${n})`;
    return n % 2 === 0 ? db.execute(statement) : db.transaction((tx) => tx.execute(statement));
  };

  const endsAtMs = performance.now() + FOR_MS_MAX;
  const asked: Promise<unknown>[] = [];
  let failed = 0;
  let servedSince = 0;
  for (let n = 0; servedSince < SERVED_MIN && performance.now() < endsAtMs; n++) {
    if (n === 100) strike(link);
    if (n === 150) heal(link);
    const outcome = failureOf(insert(n));
    void outcome.then((failure) => {
      if (failure !== null) failed += 1;
      servedSince = failure === null && failed > 0 ? servedSince + 1 : 0;
    });
    asked.push(outcome);
    await Bun.sleep(EVERY_MS);
  }
  const isServed = performance.now() < endsAtMs;
  const outcomes = await Promise.all(asked);

  const failures = outcomes.filter((failure) => failure !== null);
  expect(failures.length).toBeGreaterThan(0);
  expect(failures.filter((failure) => !isOutage(failure))).toEqual([]);
  const rows = await direct.sql`
    select n, count(*)::int as times from effects where run = ${run} group by n`;
  const times = new Map(rows.map((row) => [row.n, row.times]));
  expect([...times.values()].filter((count) => count !== 1)).toEqual([]);
  const done = outcomes.flatMap((failure, n) => (failure === null ? [n] : []));
  expect(done.filter((n) => !times.has(n))).toEqual([]);
  expect(isServed).toBe(true);
  await waitFor("all places", () => pool.pids().catch(() => new Set()), {
    holds: ({ size }) => size === connections,
  });
});

test("what waited behind a dead connection is not given up with the next ones, too", async () => {
  await using pool = await linkedPool(1, 2 * WAIT_MS_MAX);
  // Of a transaction nothing is sent before it has the connection for itself.
  const slow = () => pool.db.transaction((tx) => tx.execute(sql`select pg_sleep(0.15)`));
  pool.link.loseOpen();

  const outcomes = await Promise.all(Array.from({ length: 6 }, () => failureOf(slow())));

  expect(outcomes.map((failure) => failure === null)).toEqual([
    ...[false, true, true, true, true, true],
  ]);
});

test("what waits for its turn behind statements that go on ends nobody's connection", async () => {
  const connections = 2;
  await using pool = await linkedPool(connections);
  const before = await pool.pids();
  const slow = () => pool.db.transaction((tx) => tx.execute(sql`select pg_sleep(0.4)`));

  // The last waits for more than twice the bound.
  const outcomes = await Promise.all(Array.from({ length: 16 }, () => failureOf(slow())));

  expect(outcomes.filter((failure) => failure !== null)).toEqual([]);
  expect(await pool.pids()).toEqual(before);
});

test("a connection that dies takes nobody along who hears of the server", async () => {
  const connections = 3;
  await using pool = await linkedPool(connections);
  let begun = 0;
  const long = () =>
    pool.db.transaction(async (tx) => {
      for (let i = 0; i < 8; i++) {
        await tx.execute(sql`select pg_sleep(0.4)`);
        if (i === 0) begun += 1;
      }
    });
  const running = Array.from({ length: connections }, () => failureOf(long()));
  await waitFor("all to have begun", async () => begun, { holds: (n) => n === connections });
  pool.link.loseOpen(1);

  const outcomes = await Promise.all(running);

  expect(outcomes.filter((failure) => failure === null).length).toBe(connections - 1);
  expect(outcomes.filter((failure) => failure !== null && !isOutage(failure))).toEqual([]);
});
