// What the driver does at the end of a connection, which is patched (patches/).

import { expect, test } from "bun:test";
import { connect } from "node:net";
import postgres from "postgres";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SeverableLink } from "../../tests/harness/severable-link.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";

/** Far below what the driver waits for a connection. */
const SOON_MS = 3_000;
const CONNECT_TIMEOUT_SEC = 20;

const database = await forThisFile(cloneDatabase());
const { hostname, port } = new URL(database.url);
const link = await forThisFile(
  Promise.resolve(new SeverableLink({ hostname, port: Number(port || 5432) })),
);

// What was to be written as a connection ended was written to none, and neither was what came later on its place
// in the pool: each attempt took as long as a connection may.
test("a query that comes as its connection ends fails, and the next one is answered", async () => {
  const ends: Promise<unknown>[] = [];
  const socket = () => {
    const made = connect(link.port, "127.0.0.1");
    // What is asked now is written in the next round, and the driver hears of the end in this one.
    made.once("end", () => ends.push(query().catch((error: unknown) => error)));
    return made;
  };
  const options: object = { max: 1, connect_timeout: CONNECT_TIMEOUT_SEC, socket };
  const sql = postgres(database.url, options);
  const query = async () => (await sql`select 1 as one`)[0]?.one;
  await query();

  link.cut();
  link.mend();
  await waitFor("the end of the connection", () => ends.length);
  const late = await ends[0];
  const next = await Promise.race([query(), Bun.sleep(SOON_MS).then(() => "nothing")]);
  await sql.end({ timeout: 0 });

  expect(late).toBeInstanceOf(Error);
  expect(next).toBe(1);
});
