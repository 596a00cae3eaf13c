// Reads through the API, of one capsule and of many, by key and by session, and logins, against a bare server
// that asks the database for the same.

import postgres, { type Sql } from "postgres";
import { decodeId, encodeId, type Id, idFromUuid } from "../../proto/ids.ts";
import { logIn } from "../../scripts/dev/account.ts";
import type { Client } from "../harness/client.ts";
import { platform } from "../harness/platform.ts";
import { startBareApi } from "./bare-api.ts";
import { inTurn, type Row, timed } from "./rows.ts";

const RUNS = 5;
const CONNECTIONS = 32;
const DURATION_MS = 2_000;
const LISTED = 1_000;
/** Of one account, an hour may have 200. */
const LOGINS = 10;

/** A header that tells who is asking. */
type Caller = readonly [name: string, value: string];

export async function benchGetCapsule(client: Client): Promise<Row[]> {
  const { baseUrl, account, databaseUrl } = await platform();
  const [capsule] = await client.list();
  const id = decodeId("capsule", capsule?.id ?? "");
  if (id === null) throw new Error("a capsule must be running");

  const sql = postgres(databaseUrl, { max: 10 });
  await using _ = { [Symbol.asyncDispose]: () => sql.end() };
  await using bare = startBareApi(sql);
  await using copies = await copiesOf(sql, id, { count: CONNECTIONS, status: "stopped" });
  const compare = async (name: string, caller: Caller, paths: Paths): Promise<Row> => {
    const rate = (origin: string, of: readonly string[]) =>
      requestsPerSecond(
        of.map((path) => `${origin}/v1/capsules${path}`),
        caller,
      );
    const medians = await inTurn(
      RUNS,
      () => rate(baseUrl, paths.ours),
      () => rate(bare.origin, paths.bare),
    );
    return { name, unit: "req/s", ...medians, baselineIs: "a bare Bun.serve, same queries" };
  };
  const key = ["x-api-key", account.apiKey] as const;
  const token = await logIn(baseUrl, account.email, account.password);
  const session = ["authorization", `Bearer ${token}`] as const;
  const one = pathsOf([id]);
  const rows = [
    await compare(`GET /v1/capsules/{id} by key, ${CONNECTIONS} connections`, key, one),
    await compare(`the same of ${CONNECTIONS} capsules`, key, pathsOf(copies.ids)),
    await compare(`the same by session, of one`, session, one),
    await benchLogin({ ours: baseUrl, bare: bare.origin }, account),
  ];
  const { teamId } = await ownerOf(sql, id);
  const listed = { count: LISTED - (await countListed(sql, teamId)), status: "hibernated" };
  await using _listed = await copiesOf(sql, id, listed);
  const all = { ours: [""], bare: [""] };
  return [...rows, await compare(`GET /v1/capsules, ${LISTED} of them`, key, all)];
}

interface Paths {
  readonly ours: readonly string[];
  readonly bare: readonly string[];
}

function pathsOf(ids: readonly Id<"capsule">[]): Paths {
  return { ours: ids.map((id) => `/${encodeId("capsule", id)}`), bare: ids.map((id) => `/${id}`) };
}

async function benchLogin(
  origins: { ours: string; bare: string },
  { email, password }: { email: string; password: string },
): Promise<Row> {
  const logIns = (origin: string) => async () => {
    const body = JSON.stringify({ email, password });
    const headers = { "content-type": "application/json" };
    const ms = await timed(async () => {
      for (let i = 0; i < LOGINS; i++) {
        const url = `${origin}/v1/auth/login`;
        const response = await fetch(url, { method: "POST", headers, body });
        await response.arrayBuffer();
        if (!response.ok) throw new Error(`${url} answered ${response.status}`);
      }
    });
    return (LOGINS * 1000) / ms;
  };
  const medians = await inTurn(RUNS, logIns(origins.ours), logIns(origins.bare));
  const baselineIs = "a bare Bun.serve: same password hash, a session in a transaction";
  return {
    name: "POST /v1/auth/login, one after the other",
    unit: "req/s",
    ...medians,
    baselineIs,
  };
}

async function ownerOf(sql: Sql, id: Id<"capsule">): Promise<{ teamId: string }> {
  const [row] = await sql<{ teamId: string }[]>`
    select team_id as "teamId" from capsules where id = ${id}`;
  if (row === undefined) throw new Error("unreachable: the capsule has no row");
  return row;
}

async function countListed(sql: Sql, teamId: string): Promise<number> {
  const [row] = await sql<{ count: number }[]>`
    select count(*)::int as count from capsules
    where team_id = ${teamId} and status not in ('stopped', 'error')`;
  return row?.count ?? 0;
}

/** Rows of capsules that nobody looks after. */
async function copiesOf(
  sql: Sql,
  id: Id<"capsule">,
  { count, status }: { count: number; status: string },
) {
  const rows = await sql`
    insert into capsules
    select (jsonb_populate_record(
      c, jsonb_build_object('id', gen_random_uuid(), 'status', ${status}::text))).*
    from capsules c, generate_series(1, ${count}) where c.id = ${id}
    returning id`;
  const ids = rows.map((row) => idFromUuid("capsule", row.id));
  return {
    ids,
    async [Symbol.asyncDispose]() {
      await sql`delete from capsules where id = any(${ids})`;
    },
  };
}

async function requestsPerSecond(urls: readonly string[], caller: Caller): Promise<number> {
  const program = [process.execPath, `${import.meta.dirname}/load.ts`, urls.join(",")];
  const load = Bun.spawn([...program, String(CONNECTIONS), String(DURATION_MS), ...caller], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  const output = await new Response(load.stdout).text();
  if ((await load.exited) !== 0) throw new Error(`The load generator failed on ${urls[0]}`);
  return JSON.parse(output).requestsPerSecond;
}
