// What stays open ends with the right to it, on every control plane, whoever took that right away.

import { beforeAll, describe, expect, test } from "bun:test";
import { type Id, newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  addTeam,
  JWT_SECRET,
  OWN_ORIGINS,
  TestControlPlane,
  TestPlatform,
} from "../../tests/harness/simulated-agent-platform.ts";
import { StreamClient } from "../../tests/harness/stream-client.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { systemClock } from "../clock.ts";
import { users, usersTeams } from "../db/tables.ts";
import { createLog } from "../log.ts";
import { LoopDriver } from "../loops/driver.ts";
import { endRevokedStreamsLoop } from "../loops/end-revoked-streams.ts";
import { Sessions } from "../sessions/service.ts";
import { CsrfTokens } from "./csrf-tokens.ts";
import { createTokens } from "./tokens.ts";

const platform = await forThisFile(TestPlatform.start());
const replica = await forThisFile(TestControlPlane.start(platform.database));
const loops = await forThisFile(
  Promise.resolve([
    new LoopDriver(createLog("error", () => {})),
    new LoopDriver(createLog("error", () => {})),
  ] as const).then((both) => ({
    both,
    [Symbol.asyncDispose]: async () => {
      for (const driver of both) await driver[Symbol.asyncDispose]();
    },
  })),
);
const { db, sql } = platform.database;
let bases: URL[];
beforeAll(() => {
  const planes = [platform.controlPlane, replica];
  bases = planes.map((plane) => plane.listen().url);
  for (const [i, plane] of planes.entries()) {
    loops.both[i]?.start(endRevokedStreamsLoop(plane.openStreams));
  }
});

interface Member {
  readonly userId: Id<"user">;
  readonly teamId: Id<"team">;
  readonly sessionId: string;
  readonly capsuleId: string;
  /** Ways in which the session is shown. */
  readonly shown: { readonly cookie: Record<string, string>; readonly token: string };
}

async function member(): Promise<Member> {
  const team = await addTeam(platform.database);
  const created = await platform.call("POST", "/v1/capsules", { team, body: {} });
  const userId = newId("user");
  const email = `${userId}@example.com`;
  await db.insert(users).values({ id: userId, email, name: "M", status: "active" });
  await db.insert(usersTeams).values({ userId, teamId: team.id, role: "member" });
  const sessions = new Sessions({ db, csrfTokens: new CsrfTokens(JWT_SECRET) });
  const client = { userAgent: "", address: "" };
  const session = await sessions.begin(db, { userId, teamId: team.id, client });
  const token = await createTokens({ secret: JWT_SECRET, clock: systemClock }).signUser({
    ...{ userId, teamId: team.id, sessionId: session.id },
    ...{ role: "member", email, name: "M", isAdmin: false },
  });
  const [origin = ""] = OWN_ORIGINS;
  const cookie = { cookie: `wrenn_sid=${session.secret}`, origin };
  const shown = { cookie, token };
  return { userId, teamId: team.id, sessionId: session.id, capsuleId: created.body.id, shown };
}

/** A terminal's socket and a stream of events on that control plane; resolves with how both end. */
async function openBoth(base: URL, path: string, headers: Record<string, string>) {
  const socket = await StreamClient.open(base, path, headers);
  const events = await fetch(new URL("/v1/events/stream", base), { headers });
  expect(events.status).toBe(200);
  const told = events.text();
  return {
    socket,
    ends: async () => {
      const [code, messages] = [await socket.closed, await socket.rest()];
      return [code, messages.at(-1)?.code, (await told).includes("connected")];
    },
  };
}

/** What an upload is answered that goes on for ever. */
async function endlessUpload(url: URL, headers: Record<string, string>): Promise<number> {
  const part = (name: string, more = "") =>
    `--b\r\nContent-Disposition: form-data; name="${name}"${more}\r\n\r\n`;
  const begun = `${part("path")}/root/x\r\n${part("file", '; filename="x"')}some bytes`;
  const body = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(Buffer.from(begun)),
  });
  const type = { "content-type": "multipart/form-data; boundary=b" };
  const { status } = await fetch(url, { method: "POST", body, headers: { ...headers, ...type } });
  return status;
}

const CAUSES: Record<string, (member: Member) => Promise<unknown>> = {
  "the session is ended": ({ sessionId }) => sql`delete from sessions where id = ${sessionId}`,
  "the member is removed": ({ userId }) => sql`delete from users_teams where user_id = ${userId}`,
  "the user is disabled": ({ userId }) =>
    sql`update users set status = 'disabled' where id = ${userId}`,
  "the team is deleted": ({ teamId }) =>
    sql`update teams set deleted_at = now() where id = ${teamId}`,
};

describe("on both of two control planes", () => {
  test.each(Object.entries(CAUSES))("streams by a session end when %s", async (_what, cause) => {
    const revoked = await member();
    const kept = await member();
    const open = (base: URL, { capsuleId, shown }: Member) =>
      openBoth(base, `/v1/capsules/${capsuleId}/pty`, shown.cookie);
    const ending = await Promise.all(bases.map((base) => open(base, revoked)));
    const going = await Promise.all(bases.map((base) => open(base, kept)));

    await cause(revoked);
    const ends = await Promise.all(ending.map(({ ends }) => ends()));

    expect(ends.map(([code]) => code)).toEqual([1008, 1008]);
    expect(ends.map(([, , wasConnected]) => wasConnected)).toEqual([true, true]);
    expect(going.map(({ socket }) => socket.socket.readyState)).toEqual([1, 1]);
    await sql`delete from sessions where id = ${kept.sessionId}`;
    await Promise.all(going.map(({ ends }) => ends()));
  });

  test("streams by a key end when it is deleted", async () => {
    const team = await addTeam(platform.database);
    const { body } = await platform.call("POST", "/v1/capsules", { team, body: {} });
    const headers = { "x-api-key": team.apiKey };
    const path = `/v1/capsules/${body.id}/pty`;
    const open = await Promise.all(bases.map((base) => openBoth(base, path, headers)));

    await sql`delete from team_api_keys where team_id = ${team.id}`;
    const ends = await Promise.all(open.map(({ ends }) => ends()));

    expect(ends).toEqual(bases.map(() => [1008, "unauthorized", true]));
  });

  test("downloads and uploads by a key end when it is deleted, and take nothing back", async () => {
    const team = await addTeam(platform.database);
    const { body } = await platform.call("POST", "/v1/capsules", { team, body: {} });
    const headers = { "x-api-key": team.apiKey };
    const at = (base: URL, what: string) => new URL(`/v1/capsules/${body.id}/files/${what}`, base);
    const content = new Uint8Array(2 ** 20);
    platform.agent.capsules.get(body.id)?.files.write("/root/large", content);
    platform.agent.secondChunks = new Promise(() => {});
    const json = { ...headers, "content-type": "application/json" };
    const asked = { method: "POST", headers: json, body: JSON.stringify({ path: "/root/large" }) };
    const downloads = await Promise.all(
      bases.flatMap((base) => ["read", "stream/read"].map((what) => fetch(at(base, what), asked))),
    );
    const uploads = bases.flatMap((base) =>
      ["write", "stream/write"].map((what) => endlessUpload(at(base, what), headers)),
    );
    const writes = async () => platform.agent.calls.filter((call) => call === "writeFileStream");
    await waitFor("uploads to begin", writes, { holds: ({ length }) => length >= uploads.length });

    await sql`delete from team_api_keys where team_id = ${team.id}`;
    const refused = await Promise.all(uploads);
    const cut = await Promise.all(
      downloads.map((response) =>
        response.bytes().then(
          () => "whole",
          () => "cut",
        ),
      ),
    );

    platform.agent.secondChunks = Promise.resolve();

    expect(refused).toEqual(Array(4).fill(401));
    expect(cut).toEqual(Array(4).fill("cut"));
  });

  test("a command that is waited for is killed when the key is deleted", async () => {
    const team = await addTeam(platform.database);
    const { body } = await platform.call("POST", "/v1/capsules", { team, body: {} });
    const command = { cmd: "sleep", args: ["600"], timeout_sec: 600 };
    const path = `/v1/capsules/${body.id}/exec`;
    const headers = { "x-api-key": team.apiKey, "content-type": "application/json" };
    const begun = async () => platform.agent.calls.filter((call) => call === "exec").length;
    const before = await begun();
    const asked = bases.map((base) =>
      fetch(new URL(path, base), { method: "POST", headers, body: JSON.stringify(command) }),
    );
    await waitFor("both commands", begun, { holds: (count) => count === before + bases.length });

    await sql`delete from team_api_keys where team_id = ${team.id}`;
    const told = await Promise.all(asked.map(async (answer) => (await answer).status));

    expect(told).toEqual([401, 401]);
  });

  test("a socket ends whose client said who it is in its first message", async () => {
    const { capsuleId, shown, sessionId } = await member();
    const [base = new URL("http://none")] = bases;
    await using client = await StreamClient.open(base, `/v1/capsules/${capsuleId}/pty`);
    client.send({ type: "auth", token: shown.token });
    client.send({ type: "start", cmd: "/bin/cat" });
    await client.until("started");

    await sql`delete from sessions where id = ${sessionId}`;

    expect(await client.closed).toBe(1008);
  });
});

// Who is asked for and cannot be looked up may still be allowed.
test("what closes while it is looked at is not ended", async () => {
  const { openStreams } = platform.controlPlane;
  const { userId, teamId, sessionId } = await member();
  await sql`delete from sessions where id = ${sessionId}`;
  const grant = { kind: "session", id: sessionId, until: null } as const;
  const actor = { type: "user", id: userId, name: "M" } as const;
  const caller = { grant, teamId, actor, scopes: null, requestsPerMinute: null };
  const ended: string[] = [];
  const watch = (name: string) =>
    openStreams.watch(caller, { isUse: false, end: () => ended.push(name) });
  const [closed] = [watch("closed"), watch("open")];

  const pass = openStreams.check();
  closed[Symbol.dispose]();
  await pass;
  expect(ended).toEqual(["open"]);
});

test("nobody is sent off while the database fails", async () => {
  const { capsuleId, shown, sessionId } = await member();
  const [base = new URL("http://none")] = bases;
  await using client = await StreamClient.open(base, `/v1/capsules/${capsuleId}/pty`, shown.cookie);
  client.send({ type: "start", cmd: "/bin/cat" });
  await client.until("started");

  await sql`alter table sessions rename to sessions_away`;
  const during = await platform.controlPlane.openStreams.check();
  await sql`alter table sessions_away rename to sessions`;
  const stillOpen = client.socket.readyState;
  await sql`delete from sessions where id = ${sessionId}`;

  expect([during, stillOpen]).toEqual([{ ended: 0 }, 1]);
  expect(await client.closed).toBe(1008);
});

test("a token's end ends what it opened, and an open terminal keeps its session in use", async () => {
  const { capsuleId, shown, sessionId, userId, teamId } = await member();
  const [base = new URL("http://none")] = bases;
  const path = `/v1/capsules/${capsuleId}/pty`;
  const early = {
    now: () => new Date(Date.now() - 6 * 3600_000 + 2_000),
  };
  const token = await createTokens({ secret: JWT_SECRET, clock: early }).signUser({
    ...{ userId, teamId, sessionId },
    ...{ role: "member", email: "m@example.com", name: "M", isAdmin: false },
  });
  await using short = await StreamClient.open(base, path, { authorization: `Bearer ${token}` });
  await using long = await StreamClient.open(base, path, shown.cookie);
  await sql`update sessions set last_seen_at = now() - interval '2 minutes' where id = ${sessionId}`;

  expect(await short.closed).toBe(1008);
  await platform.controlPlane.openStreams.check();
  await platform.controlPlane.lastUses.write();
  const [row] = await sql`select last_seen_at > now() - interval '1 minute' as "isRecent"
    from sessions where id = ${sessionId}`;
  expect([long.socket.readyState, row?.isRecent]).toEqual([1, true]);
});
