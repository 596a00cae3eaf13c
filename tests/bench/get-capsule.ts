// Reads of one capsule per second through the API, against a bare server that does the same two look-ups.

import postgres from "postgres";
import type { Client } from "../harness/client.ts";
import { platform } from "../harness/platform.ts";
import { inTurn, type Row } from "./rows.ts";

const RUNS = 5;
const CONNECTIONS = 32;
const DURATION_MS = 2_000;

export async function benchGetCapsule(client: Client): Promise<Row> {
  const { baseUrl, account, databaseUrl } = await platform();
  const [capsule] = await client.list();
  if (!capsule) throw new Error("a capsule must be running");

  const sql = postgres(databaseUrl, { max: 10 });
  // The least a server can do that checks a key and reads a row: no framework, no schema, no log.
  const bare = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: async (request) => {
      const key = request.headers.get("x-api-key") ?? "";
      const hash = new Bun.CryptoHasher("sha256").update(key).digest("hex");
      const keys = await sql`select team_id from team_api_keys where key_hash = ${hash}`;
      const teamId = keys[0]?.team_id;
      const rows = await sql`select * from capsules where team_id = ${teamId} limit 1`;
      return Response.json(rows[0]);
    },
  });
  try {
    const medians = await inTurn(
      RUNS,
      () => requestsPerSecond(`${baseUrl}/v1/capsules/${capsule.id}`, account.apiKey),
      () => requestsPerSecond(`http://127.0.0.1:${bare.port}/`, account.apiKey),
    );
    return {
      name: "GET /v1/capsules/{id}, 32 connections",
      unit: "req/s",
      ...medians,
      baselineIs: "a bare Bun.serve with the same two queries",
    };
  } finally {
    await bare.stop(true);
    await sql.end();
  }
}

async function requestsPerSecond(url: string, apiKey: string): Promise<number> {
  const program = [process.execPath, `${import.meta.dirname}/load.ts`, url];
  const load = Bun.spawn(
    [...program, String(CONNECTIONS), String(DURATION_MS), "x-api-key", apiKey],
    { stdin: "ignore", stdout: "pipe", stderr: "inherit" },
  );
  const output = await new Response(load.stdout).text();
  if ((await load.exited) !== 0) throw new Error(`The load generator failed on ${url}`);
  return JSON.parse(output).requestsPerSecond;
}
