// The least a server can do that answers like the API: no framework, no schema, no log, no limit of rates. It asks
// the database for the same: who is calling, and what they want.

import type { Sql } from "postgres";

export interface BareApi extends AsyncDisposable {
  readonly origin: string;
}

/** `GET /v1/capsules`, `GET /v1/capsules/<id>` by key or token, `POST /v1/auth/login`. */
export function startBareApi(sql: Sql): BareApi {
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: async (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/v1/auth/login") return await logIn(sql, JSON.parse(await request.text()));
      const teamId = await teamOf(sql, request.headers);
      if (pathname === "/v1/capsules") return Response.json(await listOf(sql, teamId));
      const id = pathname.slice(pathname.lastIndexOf("/") + 1);
      const rows = await sql`select * from capsules where id = ${id} and team_id = ${teamId}`;
      return Response.json(rows[0]);
    },
  });
  return {
    origin: `http://127.0.0.1:${server.port}`,
    [Symbol.asyncDispose]: () => server.stop(true),
  };
}

async function teamOf(sql: Sql, headers: Headers): Promise<string> {
  const token = headers.get("authorization")?.split(" ")[1];
  if (token === undefined) {
    const hash = sha256(headers.get("x-api-key") ?? "");
    const [key] = await sql`
      select k.team_id from team_api_keys k join teams t on t.id = k.team_id
      where k.key_hash = ${hash} and t.deleted_at is null`;
    return key?.team_id;
  }
  const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString());
  const [session] = await sql`
    select s.team_id, u.status, ut.role from sessions s
    join users u on u.id = s.user_id join teams t on t.id = s.team_id
    left join users_teams ut on ut.user_id = s.user_id and ut.team_id = s.team_id
    where s.id = ${claims.jti} and s.expires_at > now()`;
  return session?.team_id;
}

async function listOf(sql: Sql, teamId: string) {
  return await sql`
    select * from capsules where team_id = ${teamId} and status not in ('stopped', 'error')
    order by created_at desc, id desc`;
}

/** The new session is a copy of another one of the user's. */
async function logIn(sql: Sql, asked: { email: string; password: string }): Promise<Response> {
  const [user] = await sql`select * from users where email = ${asked.email}`;
  if (!(await Bun.password.verify(asked.password, user?.password_hash))) {
    return new Response("", { status: 401 });
  }
  const id = sha256(crypto.randomUUID());
  await sql.begin(async (tx) => {
    await tx`select id from users where id = ${user?.id} for update`;
    await tx`
      insert into sessions
      select (jsonb_populate_record(s, jsonb_build_object('id', ${id}::text))).*
      from sessions s where user_id = ${user?.id} limit 1`;
  });
  return Response.json({ id });
}

function sha256(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}
