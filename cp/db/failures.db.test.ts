// What a client is told of each failure of a statement, with the errors that the driver makes of a real server's.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { sql } from "drizzle-orm";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { createErrorHandler } from "../error-response.ts";
import { createLog } from "../log.ts";
import { type Database, openDatabase, type Tx } from "./client.ts";

const direct = await forThisFile(cloneDatabase());
let database: Database;
beforeAll(async () => {
  database = openDatabase(direct.url, { connectionsMax: 3 });
  await direct.sql`create table counters (id int primary key, n int not null)`;
  await direct.sql`insert into counters values (1, 0), (2, 0)`;
});
afterAll(() => database.close());

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return await work.then(
    () => new Error("it succeeded"),
    (error) => error,
  );
}

/** The answer to a request that failed so, and what the log says. */
async function told(error: unknown) {
  const lines: string[] = [];
  const log = createLog("debug", (line) => lines.push(line));
  const request = new Request("http://localhost/v1/capsules");
  const requestIds = new WeakMap([[request, "req_0"]]);
  const response = createErrorHandler({ log, requestIds })({ error, code: "UNKNOWN", request });
  const body = JSON.parse(await response.text());
  const [line = "{}"] = lines;
  return {
    answer: [response.status, body.error.code, body.error.retryable],
    retryAfter: response.headers.get("retry-after"),
    text: JSON.stringify(body),
    line: JSON.parse(line),
  };
}

const AWAY = [503, "service_unavailable", true];
const OURS = [500, "internal_error", false];

test.each([
  ["08000", "a connection exception", AWAY],
  ["08003", "no connection", AWAY],
  ["08006", "a connection that failed", AWAY],
  ["08P01", "a broken protocol", AWAY],
  ["25006", "a standby", AWAY],
  ["25P03", "a transaction that was idle for too long", AWAY],
  ["25P04", "a transaction that took too long", AWAY],
  ["40001", "a serialization failure", AWAY],
  ["40P01", "a deadlock", AWAY],
  ["53100", "a full disk", AWAY],
  ["53200", "no memory", AWAY],
  ["53300", "too many connections", AWAY],
  ["55P03", "a lock that is held", AWAY],
  ["57014", "a timeout of statements", AWAY],
  ["57P01", "a shutdown", AWAY],
  ["57P02", "a crash", AWAY],
  ["57P03", "a start", AWAY],
  ["57P05", "a session that was idle for too long", AWAY],
  ["58030", "an error of input or output", AWAY],
  ["22P02", "text that is no number", OURS],
  ["22023", "a wrong parameter", OURS],
  ["23505", "a duplicate", OURS],
  ["25P02", "a failed transaction", OURS],
  ["42501", "a right that is missing", OURS],
  ["42P01", "a missing table", OURS],
  ["XX000", "a bug of the server", OURS],
])("SQLSTATE %s, %s, is answered %p", async (state, _, answer) => {
  const raise = sql.raw(`do $$ begin raise exception 's3cret' using errcode = '${state}'; end $$`);
  const { line, text, ...seen } = await told(await failureOf(database.db.execute(raise)));

  expect(seen).toEqual({ answer, retryAfter: answer === AWAY ? "1" : null });
  expect(text).not.toContain("s3cret");
  expect([line.level, line.requestId]).toEqual([answer === AWAY ? "warn" : "error", "req_0"]);
  expect(line.error).toContain("s3cret");
});

test("a statement that takes too long is told as an outage, and which one it was to the log", async () => {
  const startedAt = performance.now();
  const error = await failureOf(
    database.db.transaction(async (tx) => {
      await tx.execute(sql`set local statement_timeout = 50`);
      await tx.execute(sql`select pg_sleep(60)`);
    }),
  );
  const tookMs = performance.now() - startedAt;

  const { answer, line } = await told(error);
  expect(answer).toEqual(AWAY);
  expect(line.error).toContain("select pg_sleep(60)");
  expect(line.error).toContain("canceling statement due to statement timeout");
  // Its connection lives: nothing waits for the end of it.
  expect(tookMs).toBeLessThan(900);
});

test("of two transactions in each other's way one is told to try again, and the other goes on", async () => {
  const add = (first: number, second: number, met: Promise<void>, meet: () => void) =>
    database.db.transaction(async (tx) => {
      await bump(tx, first);
      meet();
      await met;
      await bump(tx, second);
    });
  const bump = (tx: Tx, id: number) =>
    tx.execute(sql`update counters set n = n + 1 where id = ${id}`);
  const [a, b] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const outcomes = await Promise.allSettled([
    add(1, 2, b.promise, a.resolve),
    add(2, 1, a.promise, b.resolve),
  ]);

  const lost = outcomes.flatMap((outcome) =>
    outcome.status === "rejected" ? [outcome.reason] : [],
  );
  expect(lost.length).toBe(1);
  expect((await told(lost[0])).answer).toEqual(AWAY);
  expect(await direct.sql`select n from counters order by id`).toMatchObject([{ n: 1 }, { n: 1 }]);
});

test("a serialization failure and a write on a standby are told so, too", async () => {
  const read = (tx: Tx) => tx.execute(sql`select n from counters where id = 1`);
  const write = (tx: Tx) => tx.execute(sql`update counters set n = 9 where id = 1`);
  const overtaken = await failureOf(
    database.db.transaction(
      async (tx) => {
        await read(tx);
        await direct.sql`update counters set n = 7 where id = 1`;
        await write(tx);
      },
      { isolationLevel: "serializable" },
    ),
  );
  const standby = await failureOf(database.db.transaction(write, { accessMode: "read only" }));

  expect((await told(overtaken)).answer).toEqual(AWAY);
  expect((await told(standby)).answer).toEqual(AWAY);
});

test("a session that an operator ends is told so, and the next one serves", async () => {
  const error = await failureOf(
    database.db.transaction((tx) => tx.execute(sql`select pg_terminate_backend(pg_backend_pid())`)),
  );

  expect((await told(error)).answer).toEqual(AWAY);
  await waitFor("the next session", () =>
    database.db.execute(sql`select 1`).then(
      () => true,
      () => false,
    ),
  );
});
