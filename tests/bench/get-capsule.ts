// Reads of capsules per second through the API, of one and of many, against a bare server that does the
// same two look-ups.

import postgres, { type Sql } from "postgres";
import { decodeId, encodeId, type Id, idFromUuid } from "../../proto/ids.ts";
import type { Client } from "../harness/client.ts";
import { platform } from "../harness/platform.ts";
import { inTurn, type Row } from "./rows.ts";

const RUNS = 5;
const CONNECTIONS = 32;
const DURATION_MS = 2_000;

export async function benchGetCapsule(client: Client): Promise<Row[]> {
  const { baseUrl, account, databaseUrl } = await platform();
  const [capsule] = await client.list();
  const id = decodeId("capsule", capsule?.id ?? "");
  if (id === null) throw new Error("a capsule must be running");

  const sql = postgres(databaseUrl, { max: 10 });
  await using bare = bareServer(sql);
  await using copies = await copiesOf(sql, id);
  const rate = (origin: string, ids: readonly string[]) => {
    const urls = ids.map((each) => `${origin}/${each}`);
    return requestsPerSecond(urls, account.apiKey);
  };
  const row = async (name: string, ids: readonly Id<"capsule">[]): Promise<Row> => {
    const external = ids.map((each) => encodeId("capsule", each));
    const medians = await inTurn(
      RUNS,
      () => rate(`${baseUrl}/v1/capsules`, external),
      () => rate(`http://127.0.0.1:${bare.port}`, ids),
    );
    const baselineIs = "a bare Bun.serve with the same two queries";
    return { name, unit: "req/s", ...medians, baselineIs };
  };
  return [
    await row(`GET /v1/capsules/{id}, ${CONNECTIONS} connections`, [id]),
    await row(`the same of ${CONNECTIONS} capsules, ${CONNECTIONS} connections`, copies.ids),
  ];
}

/** The least a server can do that checks a key and reads a row: no framework, no schema, no log. */
function bareServer(sql: Sql) {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: async (request) => {
      const key = request.headers.get("x-api-key") ?? "";
      const hash = new Bun.CryptoHasher("sha256").update(key).digest("hex");
      const keys = await sql`select team_id from team_api_keys where key_hash = ${hash}`;
      const teamId = keys[0]?.team_id;
      const id = request.url.slice(request.url.lastIndexOf("/") + 1);
      const rows = await sql`select * from capsules where id = ${id} and team_id = ${teamId}`;
      return Response.json(rows[0]);
    },
  });
  return {
    port: server.port,
    async [Symbol.asyncDispose]() {
      await server.stop(true);
      await sql.end();
    },
  };
}

/** As many rows as there are connections, of capsules that have ended: nobody looks after them. */
async function copiesOf(sql: Sql, id: Id<"capsule">) {
  const rows = await sql`
    insert into capsules
    select (jsonb_populate_record(c, jsonb_build_object('id', gen_random_uuid(), 'status', 'stopped'))).*
    from capsules c, generate_series(1, ${CONNECTIONS}) where c.id = ${id}
    returning id`;
  const ids = rows.map((row) => idFromUuid("capsule", row.id));
  return {
    ids,
    async [Symbol.asyncDispose]() {
      await sql`delete from capsules where id = any(${ids})`;
    },
  };
}

async function requestsPerSecond(urls: readonly string[], apiKey: string): Promise<number> {
  const program = [process.execPath, `${import.meta.dirname}/load.ts`, urls.join(",")];
  const load = Bun.spawn(
    [...program, String(CONNECTIONS), String(DURATION_MS), "x-api-key", apiKey],
    { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  );
  const output = await new Response(load.stdout).text();
  if ((await load.exited) !== 0) throw new Error(`The load generator failed on ${urls[0]}`);
  return JSON.parse(output).requestsPerSecond;
}
