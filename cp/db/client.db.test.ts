// The pool on a server that hangs: a link in front of a real one holds what passes, or a real lock does.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { sql } from "drizzle-orm";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SeverableLink } from "../../tests/harness/severable-link.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { isOutage } from "../outage.ts";
import { type Database, openDatabase } from "./client.ts";

const CONNECTIONS = 3;
/** What is told of silence comes within seconds; the machine may be busy. */
const TOLD_MS_MAX = 10_000;

const direct = await forThisFile(cloneDatabase());
let link: SeverableLink;
let database: Database;
const told: boolean[] = [];

beforeAll(async () => {
  const url = new URL(direct.url);
  link = new SeverableLink({ hostname: url.hostname, port: Number(url.port || 5432) });
  url.hostname = "127.0.0.1";
  url.port = String(link.port);
  const options = { connectionsMax: CONNECTIONS, told: (isSilent: boolean) => told.push(isSilent) };
  database = openDatabase(url.href, options);
  await direct.sql`create table effects (name text)`;
});

afterAll(async () => {
  await database.close();
  await link[Symbol.asyncDispose]();
});

const one = () => database.db.execute(sql`select 1 as one`);
const isAnswered = () =>
  one().then(
    () => true,
    () => false,
  );
const effects = async () =>
  (await direct.sql`select name from effects order by name`).map((row) => row.name);

/** How the work fails; throws when it does not, or takes too long. */
async function outage(work: Promise<unknown>): Promise<boolean> {
  const startedAt = performance.now();
  const error = await work.then(
    () => new Error("it was answered"),
    (error) => error,
  );
  expect(performance.now() - startedAt).toBeLessThan(TOLD_MS_MAX);
  return isOutage(error);
}

/** All places of the pool work, within the time that a new connection takes. */
async function expectWholePool(): Promise<void> {
  await waitFor("an answer", isAnswered, { holds: (answered) => answered });
  const startedAt = performance.now();
  const sleeps = Array.from({ length: CONNECTIONS }, () =>
    database.db.transaction((tx) => tx.execute(sql`select pg_backend_pid(), pg_sleep(0.3)`)),
  );
  const pids = (await Promise.all(sleeps)).map(([row]) => row?.pg_backend_pid);

  expect(new Set(pids).size).toBe(CONNECTIONS);
  expect(performance.now() - startedAt).toBeLessThan(4000);
}

test("queries, under way and waiting for a place, fail while the server hangs", async () => {
  await one();
  link.hold();
  const failed = await Promise.all(Array.from({ length: 30 }, () => outage(one())));
  const startedAt = performance.now();
  const next = await outage(one());
  const nextMs = performance.now() - startedAt;
  link.release();

  expect([failed.every(Boolean), next]).toEqual([true, true]);
  expect(nextMs).toBeLessThan(2000);
  expect(told).toEqual([true]);
  await expectWholePool();
  expect(told).toEqual([true, false]);
});

test("a pool that never had a connection fails, too, and comes to life", async () => {
  link.hold();
  const url = new URL(direct.url);
  url.hostname = "127.0.0.1";
  url.port = String(link.port);
  const fresh = openDatabase(url.href, { connectionsMax: 2 });
  const ask = () => fresh.db.execute(sql`select 1`);
  const failed = await Promise.all(Array.from({ length: 8 }, () => outage(ask())));
  link.release();

  expect(failed.every(Boolean)).toBe(true);
  const answered = () =>
    ask().then(
      () => true,
      () => false,
    );
  await waitFor("an answer", answered, { holds: (isThere) => isThere });
  await fresh.close();
});

test("a transaction that hangs takes effect once or never, and leaves its place whole", async () => {
  const add = (name: string, hangs: boolean) =>
    database.db.transaction(async (tx) => {
      await tx.execute(sql`insert into effects values (${name})`);
      if (hangs) link.hold();
      await tx.execute(sql`insert into effects values (${`${name}, too`})`);
    });
  const failed = await outage(add("lost", true));
  link.release();
  await expectWholePool();
  await add("kept", false);

  expect(failed).toBe(true);
  expect(await effects()).toEqual(["kept", "kept, too"]);
  await direct.sql`delete from effects`;
});

test("a transaction whose COMMIT hangs is told as an outage, and may have happened, once", async () => {
  let runs = 0;
  const failed = await outage(
    database.db.transaction(async (tx) => {
      runs += 1;
      await tx.execute(sql`insert into effects values ('committed')`);
      link.hold();
    }),
  );
  link.release();
  await expectWholePool();

  expect([failed, runs]).toEqual([true, 1]);
  const seen = await waitFor("the late commit", effects, { holds: ({ length }) => length > 0 });
  expect(seen).toEqual(["committed"]);
  await direct.sql`delete from effects`;
});

test("work that goes on after its transaction was lost reaches the database no more", async () => {
  const gone = Promise.withResolvers<void>();
  const late = Promise.withResolvers<boolean>();
  const failed = outage(
    database.db.transaction(async (tx) => {
      const [row] = await tx.execute<{ pid: number }>(sql`select pg_backend_pid() as pid`);
      await direct.sql`select pg_terminate_backend(${row?.pid ?? 0})`;
      await gone.promise;
      late.resolve(await outage(tx.execute(sql`insert into effects values ('late')`)));
    }),
  );

  expect(await failed).toBe(true);
  gone.resolve();
  expect(await late.promise).toBe(true);
  await expectWholePool();
  expect(await effects()).toEqual([]);
});

test("a transaction that is rolled back because of an outage elsewhere frees its place", async () => {
  const away = Object.assign(new Error("Redis is away"), { code: "ECONNREFUSED" });
  const works = Array.from({ length: CONNECTIONS * 2 }, () =>
    database.db.transaction(async (tx) => {
      await tx.execute(sql`insert into effects values ('rolled back')`);
      throw away;
    }),
  );

  expect((await Promise.allSettled(works)).map(({ status }) => status)).toEqual(
    works.map(() => "rejected"),
  );
  await expectWholePool();
  expect(await effects()).toEqual([]);
});

// A lock, a large sort: the server answers others meanwhile.
test("a statement that takes its time is no silence", async () => {
  const before = told.length;
  const [row] = await database.db.execute(sql`select pg_sleep(5)::text as slept`);

  expect(row).toEqual({ slept: "" });
  expect(told.length).toBe(before);
});
