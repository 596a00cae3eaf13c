// A pool whose connections die unheard, one by one or all, at a server that answers everybody else.

import { expect, test } from "bun:test";
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SeverableLink } from "../../tests/harness/severable-link.ts";
import { isOutage } from "../outage.ts";
import { AnswerWatch } from "./answer-watch.ts";
import { watchedClient } from "./watched-client.ts";

const CONNECTIONS = 3;
/** As of a pool whose statements are short. */
const WAIT_MS_MAX = 1500;
/** Between two requests, from before the connections die until well after they are given up. */
const EVERY_MS = 3;
const FOR_MS = 5000;

const direct = await forThisFile(cloneDatabase());
await direct.sql`create table effects (n int)`;

test("dead connections are given up, no statement is done twice, and every place serves again", async () => {
  const url = new URL(direct.url);
  const target = { hostname: url.hostname, port: Number(url.port || 5432) };
  await using link = new SeverableLink(target);
  url.hostname = "127.0.0.1";
  url.port = String(link.port);
  const watch = new AnswerWatch({ waitMsMax: WAIT_MS_MAX });
  const socket: object = { socket: watch.connect };
  const options = { max: CONNECTIONS, backoff: () => 0.25, onnotice: () => {}, ...socket };
  const client = postgres(url.href, options);
  const db = drizzle(watchedClient(client, watch));
  const insert = (n: number) =>
    n % 2 === 0
      ? db.execute(sql`insert into effects values (${n})`)
      : db.transaction((tx) => tx.execute(sql`insert into effects values (${n})`));
  await Promise.all(
    Array.from({ length: CONNECTIONS }, () => db.execute(sql`select pg_sleep(0.1)`)),
  );

  const endsAtMs = performance.now() + FOR_MS;
  /** How each failed; null where it did not. */
  const asked: Promise<unknown>[] = [];
  for (let n = 0; performance.now() < endsAtMs; n++) {
    if (n === 100) link.loseOpen();
    const outcome = insert(n).then(
      () => null,
      (error) => error,
    );
    asked.push(outcome);
    await Bun.sleep(EVERY_MS);
  }
  const outcomes = await Promise.all(asked);
  const pids = await Promise.all(
    Array.from({ length: CONNECTIONS }, () =>
      db.execute<{ pid: number }>(sql`select pg_backend_pid() as pid, pg_sleep(0.3)`),
    ),
  );
  await client.end({ timeout: 1 });
  watch.close();

  const failures = outcomes.filter((failure) => failure !== null);
  expect(failures.length).toBeGreaterThan(0);
  expect(failures.filter((failure) => !isOutage(failure))).toEqual([]);
  const rows = await direct.sql`select n, count(*)::int as times from effects group by n`;
  const times = new Map(rows.map((row) => [row.n, row.times]));
  expect([...times.values()].filter((count) => count !== 1)).toEqual([]);
  const done = outcomes.flatMap((failure, n) => (failure === null ? [n] : []));
  expect(done.filter((n) => !times.has(n))).toEqual([]);
  // The last second's.
  expect(outcomes.slice(-100)).toEqual(Array(100).fill(null));
  expect(new Set(pids.map(([row]) => row?.pid)).size).toBe(CONNECTIONS);
});
