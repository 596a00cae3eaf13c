// Who gets a stream, and what becomes of clients that misbehave.

import { beforeAll, describe, expect, test } from "bun:test";
import { newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { RawWebSocket } from "../../tests/harness/raw-websocket.ts";
import {
  addTeam,
  JWT_SECRET,
  OWN_ORIGINS,
  TestPlatform,
} from "../../tests/harness/simulated-agent-platform.ts";
import { StreamClient } from "../../tests/harness/stream-client.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { CsrfTokens } from "../auth/csrf-tokens.ts";
import { createTokens } from "../auth/tokens.ts";
import { systemClock } from "../clock.ts";
import { users, usersTeams } from "../db/tables.ts";
import { Sessions } from "../sessions/service.ts";
import { MESSAGE_BYTES_MAX, STRANGERS_PER_ADDRESS_MAX } from "./limits.ts";

const ROUTES = ["exec/stream", "processes/x/stream", "pty"];

const platform = await forThisFile(TestPlatform.start());
let base: URL;
let id: string;
beforeAll(async () => {
  base = platform.controlPlane.listen().url;
  id = await platform.create();
});

const open = (route: string, headers: Record<string, string> = {}, capsule = id) =>
  StreamClient.open(base, `/v1/capsules/${capsule}/${route}`, headers);
const key = () => ({ "x-api-key": platform.team.apiKey });
const firstOf = async (client: StreamClient) => {
  const [first, ...others] = await client.rest();
  return [first?.type, first?.code, others.length, await client.closed];
};

async function memberToken(): Promise<string> {
  const userId = newId("user");
  const teamId = platform.team.id;
  const email = `${userId}@example.com`;
  const { db } = platform.database;
  await db.insert(users).values({ id: userId, email, name: "M", status: "active" });
  await db.insert(usersTeams).values({ userId, teamId, role: "member" });
  const tokens = createTokens({ secret: JWT_SECRET, clock: systemClock });
  const sessions = new Sessions({ db, csrfTokens: new CsrfTokens(JWT_SECRET) });
  const client = { userAgent: "", address: "" };
  const { id: sessionId } = await sessions.begin(db, { userId, teamId, client });
  const person = { userId, teamId, role: "member", email, name: "M", isAdmin: false } as const;
  return await tokens.signUser({ ...person, sessionId });
}

describe("a client without headers", () => {
  test("says who it is in its first message", async () => {
    await using client = await open("exec/stream");
    client.send({ type: "auth", token: await memberToken() });
    client.send({ type: "start", cmd: "/bin/echo", args: ["hello"] });

    expect((await client.until("stdout")).data).toBe("hello\n");
  });

  test.each(ROUTES)("gets nothing on %s before it does", async (route) => {
    await using eager = await open(route);
    eager.send({ type: "start", cmd: "/bin/echo" });
    await using liar = await open(route);
    liar.send({ type: "auth", token: "nonsense" });
    await using odd = await open(route);
    odd.send({ type: "auth", token: 7 });

    expect(await firstOf(eager)).toEqual(["error", "unauthorized", 0, 1008]);
    expect(await firstOf(liar)).toEqual(["error", "unauthorized", 0, 1008]);
    expect(await firstOf(odd)).toEqual(["error", "invalid_request", 0, 1008]);
  });

  test("is told to try again while the database does not say who it is", async () => {
    const { sql } = platform.database;
    await using client = await open("exec/stream");
    const token = await memberToken();
    await sql.unsafe(`
      create function away() returns boolean language plpgsql as $$
        begin raise exception 'canceled' using errcode = '57014'; end $$;
      alter table users rename to kept_users;
      create view users as select * from kept_users where away()`);
    client.send({ type: "auth", token });
    const [first] = await client.rest();
    await sql.unsafe("drop view users; alter table kept_users rename to users");

    expect(first).toMatchObject({ type: "error", code: "service_unavailable", retryable: true });
  });

  test("has five seconds for it", async () => {
    const startedAt = performance.now();
    await using client = await open("pty", { "x-api-key": "wrn_nonsense" });
    const end = await firstOf(client);

    expect(end).toEqual(["error", "unauthorized", 0, 1008]);
    expect(performance.now() - startedAt).toBeGreaterThan(4900);
  }, 10_000);

  // Of each the beginning of a message may be held, up to a mebibyte.
  test("is one of few of its address, and in all, until it has said so", async () => {
    const from = (address: string) => ({ "x-forwarded-for": address });
    const open = (headers: Record<string, string>) =>
      RawWebSocket.open(base, pathTo("pty"), headers).catch(({ message }) => String(message));
    const all = await Promise.all(
      Array.from({ length: STRANGERS_PER_ADDRESS_MAX }, () => open(from("192.0.2.1"))),
    );
    const refused = await open(from("192.0.2.1"));
    const [other, known] = [
      await open(from("192.0.2.2")),
      await open({ ...key(), ...from("192.0.2.1") }),
    ];
    const taken = [...all, other, known].filter((socket) => typeof socket !== "string");
    for (const socket of taken) await socket[Symbol.asyncDispose]();
    const again = await waitFor("a place", () => open(from("192.0.2.1")), {
      holds: (socket) => typeof socket !== "string",
    });

    expect(taken).toHaveLength(STRANGERS_PER_ADDRESS_MAX + 2);
    expect(String(refused)).toStartWith("HTTP/1.1 503");
    if (typeof again !== "string") await again[Symbol.asyncDispose]();
  });

  test("and without an upgrade is a stranger like on any route", async () => {
    const answers = await Promise.all(
      ROUTES.map((route) => platform.controlPlane.handle(new Request(pathOf(route)))),
    );

    expect(answers.map(({ status }) => status)).toEqual([401, 401, 401]);
  });
});

test.each(ROUTES)("a page of somebody else does not get %s with our cookie", async (route) => {
  const [own = ""] = OWN_ORIGINS;
  const cookie = "theme=dark; wrenn_sid=s3cret";
  const refused = await Promise.all(
    [{ origin: "https://evil.example" }, { origin: "null" }, {}].map((headers) =>
      refusalOf(RawWebSocket.open(base, pathTo(route), { ...headers, cookie })),
    ),
  );
  const origin = "https://evil.example";
  const taken = await Promise.all(
    [{ cookie, origin: own }, { cookie, origin, ...key() }, { origin }].map((headers) =>
      refusalOf(RawWebSocket.open(base, pathTo(route), headers)),
    ),
  );

  expect(refused).toEqual(Array(3).fill("HTTP/1.1 403 Forbidden"));
  // A key is nothing that a page can have a browser send; without one the first message says who it is.
  expect(taken).toEqual(Array(3).fill("switched"));
});

/** The status line that an upgrade is refused with. */
async function refusalOf(opened: Promise<RawWebSocket>): Promise<string> {
  try {
    await using _socket = await opened;
    return "switched";
  } catch (error) {
    return error instanceof Error ? (error.message.split("\r\n", 1)[0] ?? "") : "";
  }
}

const pathTo = (route: string) => `/v1/capsules/${id}/${route}`;
const pathOf = (route: string) => `http://localhost/v1/capsules/${id}/${route}`;

test("a request with credentials that is no upgrade is told so", async () => {
  const answers = await Promise.all(
    ROUTES.map((route) =>
      platform.controlPlane.handle(new Request(pathOf(route), { headers: key() })),
    ),
  );

  expect(answers.map(({ status }) => status)).toEqual([400, 400, 400]);
});

describe("after who comes where", () => {
  test("another team's capsule does not exist", async () => {
    const { apiKey } = await addTeam(platform.database);
    await using client = await open("pty", { "x-api-key": apiKey });

    expect(await firstOf(client)).toEqual(["error", "not_found", 0, 1008]);
  });

  test("a capsule that does not run and an id that is none are told as messages", async () => {
    const stopped = await platform.create();
    await platform.call("DELETE", `/v1/capsules/${stopped}`);
    await using gone = await open("pty", key(), stopped);
    await using odd = await open("pty", key(), "nonsense");

    expect(await firstOf(gone)).toEqual(["error", "invalid_state", 0, 1008]);
    expect(await firstOf(odd)).toEqual(["error", "invalid_request", 0, 1008]);
  });

  test("a capsule that is lost meanwhile ends the stream with an error", async () => {
    const lost = await platform.create();
    await using client = await open("exec/stream", key(), lost);
    client.send({ type: "start", cmd: "/bin/sleep", args: ["1000"] });
    await client.until("start");
    platform.agent.loseCapsule(lost, "its VMM ended");

    expect((await client.rest()).at(-1)).toMatchObject({ type: "error", code: "invalid_state" });
    expect(await client.closed).toBe(1008);
  });
});

describe("a client that misbehaves", () => {
  test("is told what is wrong with its start, by field", async () => {
    const wrong: [string, Record<string, unknown>][] = [
      ["cmd", {}],
      ["cmd", { cmd: 7 }],
      ["args.0", { cmd: "x", args: [{}] }],
      ["envs.A=B", { cmd: "x", envs: { "A=B": "1" } }],
      ["timeout_sec", { cmd: "x", timeout_sec: -1 }],
      ["type", { type: "stop" }],
    ];
    const messages = await Promise.all(
      wrong.map(async ([, start]) => {
        await using client = await open("exec/stream", key());
        client.send({ type: "start", ...start });
        return (await client.rest())[0]?.data?.split(":")[0];
      }),
    );

    expect(messages).toEqual(wrong.map(([field]) => field));
  });

  test("may send some nonsense to a terminal, but not for ever", async () => {
    await using client = await open("pty", key());
    client.send({ type: "start", cmd: "/bin/sh", envs: { PS1: "$ " } });
    await client.until("started");
    for (const text of ["{", "7", "null", '{"type":7}']) client.socket.send(text);
    client.send({ type: "resize", cols: 0, rows: 5 });
    client.send({ type: "input", data: "%%%" });
    client.send({ type: "pong" });
    const complaints = [];
    while (complaints.length < 6) {
      const message = await client.next();
      if (message?.type === "error") complaints.push(message.code);
    }
    client.type("echo al''ive\n");
    await client.untilOutput("alive");
    for (let i = 0; i < 20; i++) client.socket.send("{");
    await client.rest();

    expect(complaints).toEqual(Array.from({ length: 6 }, () => "invalid_request"));
    expect(await client.closed).toBe(1008);
  });

  test("that sends more than a message may hold is cut off", async () => {
    await using client = await open("pty", key());
    client.socket.send("x".repeat(MESSAGE_BYTES_MAX + 1));
    await client.rest();

    expect(client.socket.readyState).toBe(WebSocket.CLOSED);
  });

  test.each([
    ["no WebSocket at all", Buffer.from("GET / HTTP/1.1\r\n\r\n")],
    ["a frame without a mask", Buffer.from([0x81, 0x02, 0x7b, 0x7d])],
    ["a frame of 2^63 bytes", Buffer.from([0x81, 0xff, 0x7f, ...new Array(11).fill(0xff)])],
    ["a reserved opcode", Buffer.from([0x83, 0x80, 0, 0, 0, 0])],
    ["a continuation of nothing", Buffer.from([0x80, 0x80, 0, 0, 0, 0])],
  ])("that sends %s is cut off", async (_, bytes) => {
    await using client = await RawWebSocket.open(base, `/v1/capsules/${id}/pty`, key());
    client.write(bytes);
    await client.ended;
  });

  test("that says nothing for long is asked to start or go", async () => {
    await using client = await open("exec/stream", key());
    client.send({ type: "auth", token: "who is known needs none" });
    client.send({ type: "stop" });

    expect(await firstOf(client)).toEqual(["error", "invalid_request", 0, 1008]);
  });
});
