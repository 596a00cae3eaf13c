// The number of a control plane, on a database that goes away unheard.

import { expect, test } from "bun:test";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SeverableLink } from "../../tests/harness/severable-link.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { LOCK_CLASS } from "./lock-session.ts";
import { Operations } from "./operations.ts";

const database = await forThisFile(cloneDatabase());

/** The numbers that the database knows to be somebody's. */
async function held(): Promise<string[]> {
  const rows = await database.sql`
    select lpad(to_hex(objid::bigint), 8, '0') as number from pg_locks
    where locktype = 'advisory' and granted and classid::bigint = ${LOCK_CLASS}
      and database = (select oid from pg_database where datname = current_database())`;
  return rows.map(({ number }) => number);
}

const numberOf = (operations: Operations) => operations.next().slice(0, 8);

function linked(): { link: SeverableLink; url: string } {
  const url = new URL(database.url);
  const link = new SeverableLink({ hostname: url.hostname, port: Number(url.port || 5432) });
  url.hostname = "127.0.0.1";
  url.port = String(link.port);
  return { link, url: url.href };
}

// Nothing is asked on that connection but by itself: a way that swallows packets ends none.
test("a session whose server falls silent is given up, and another is taken", async () => {
  const { link, url } = linked();
  await using _link = link;
  await using operations = await Operations.open(url);
  const first = numberOf(operations);

  link.hold();
  await waitFor("the session's end", () => link.clientsLeft > 0);
  link.release();
  await waitFor("another number", () => numberOf(operations) !== first);

  // The server hears of the first one's end after that.
  await waitFor("the first number's end", held, {
    holds: (numbers) => Bun.deepEquals(numbers, [numberOf(operations)]),
  });
});

test("a session whose connection is dead is given up, though the server answers others", async () => {
  const { link, url } = linked();
  await using _link = link;
  await using operations = await Operations.open(url);
  const first = numberOf(operations);

  link.loseOpen();

  await waitFor("another number", () => numberOf(operations) !== first);
  await waitFor("the first number's end", held, {
    holds: (numbers) => Bun.deepEquals(numbers, [numberOf(operations)]),
  });
});

test("a session that was ended is taken again at once", async () => {
  await using operations = await Operations.open(database.url);
  const first = numberOf(operations);
  await database.sql`
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = 'wrenn-cp-operations' and datname = current_database()`;

  await waitFor("another number", () => numberOf(operations) !== first);
  expect(await held()).toEqual([numberOf(operations)]);
});

test("a number is kept as long as its session lives, and is nobody's after it", async () => {
  const operations = await Operations.open(database.url);
  const first = numberOf(operations);
  const connections = async () => {
    const rows = await database.sql`
      select pid, query from pg_stat_activity
      where application_name = 'wrenn-cp-operations' and datname = current_database()`;
    return rows.map(({ query }) => String(query).trim());
  };
  await waitFor("a look", connections, { holds: (seen) => Bun.deepEquals(seen, ["select"]) });
  const kept = [numberOf(operations), ...(await held())];
  await operations[Symbol.asyncDispose]();

  expect(kept).toEqual([first, first]);
  await waitFor("its end", connections, { holds: ({ length }) => length === 0 });
  expect(await held()).toEqual([]);
});
