// Rights that are taken away while a request is under way: what such a request would leave behind must not outlive
// them.

import { expect, setDefaultTimeout, test } from "bun:test";
import type { TransactionSql } from "postgres";
import { decodeId, type Id } from "../../proto/ids.ts";
import { AccountsPlatform, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";

setDefaultTimeout(60_000);

const platform = await forThisFile(AccountsPlatform.start());
const { sql } = platform.database;
const root = await platform.person("Root");

type Answer = ReturnType<typeof platform.call>;
const outcome = async (answer: Answer): Promise<string> => {
  const { status, body } = await answer;
  return body.error === undefined ? `${status}` : `${status} ${body.error.code}`;
};
const userOf = async ({ token }: Person): Promise<string> =>
  String((await platform.call("GET", "/v1/me", { token })).body.user_id);
const rowOf = (id: string): Id<"user"> => {
  const row = decodeId("user", id);
  if (row === null) throw new Error(`${id} is nobody's`);
  return row;
};

/** A new member of a new team, in a session of that team. */
async function joined(role: "admin" | "member" = "member") {
  const owner = await platform.person("Owner");
  const person = await platform.person("Member");
  const userId = await userOf(person);
  const path = `/v1/teams/${owner.teamId}/members`;
  await platform.call("POST", path, { token: owner.token, body: { email: person.email } });
  await platform.call("PATCH", `${path}/${userId}`, { token: owner.token, body: { role } });
  const body = { team_id: owner.teamId };
  const { token } = person;
  const session = await platform.call("POST", "/v1/auth/switch-team", { token, body });
  return { owner, member: { ...person, token: session.body.token }, userId };
}

/** Asks while a transaction holds what `take` changes, and has that committed once the request waits for it. */
async function askedWhile(
  ask: () => Answer,
  take: {
    hold: (tx: TransactionSql) => Promise<unknown>;
    change: (tx: TransactionSql) => Promise<unknown>;
  },
): Promise<string> {
  const held = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const taking = sql.begin(async (tx) => {
    await take.hold(tx);
    held.resolve();
    await asked.promise;
    await take.change(tx);
  });
  await held.promise;
  const answer = outcome(ask());
  await waitFor("the request to wait for the transaction", async () => {
    const [row] = await sql`select exists (select from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock') as waits`;
    return row?.waits === true;
  });
  asked.resolve();
  await taking;
  return await answer;
}

const setStatus = (userId: string, status: string) => ({
  hold: (tx: TransactionSql) => tx`select from users where id = ${rowOf(userId)} for update`,
  change: (tx: TransactionSql) =>
    tx`update users set status = ${status} where id = ${rowOf(userId)}`,
});

test("who is taken out of a team while they ask for a key of it gets none", async () => {
  const { owner, member, userId } = await joined();
  const teamId = decodeId("team", owner.teamId);
  const answer = await askedWhile(
    () => platform.call("POST", "/v1/api-keys", { token: member.token, body: {} }),
    {
      hold: (tx) => tx`select from teams where id = ${teamId} for update`,
      change: (tx) => tx`delete from users_teams where user_id = ${rowOf(userId)}
        and team_id = ${teamId}`,
    },
  );

  expect(answer).toBe("403 forbidden");
  expect(await sql`select from team_api_keys where team_id = ${teamId}`).toHaveLength(0);
});

test.each(["disabled", "deleted"])(
  "who is %s meanwhile gets neither key nor team, and joins none",
  async (status) => {
    const { member, userId } = await joined();
    const [guest, third] = [await platform.person(), await platform.person()];
    const guestId = await userOf(guest);
    const maker = await platform.person();
    const makerId = await userOf(maker);
    await platform.call("POST", `/v1/teams/${third.teamId}/invitations`, {
      ...{ token: third.token, body: { email: guest.email } },
    });
    const token = await platform.mailedToken(guest.email);

    expect([
      await askedWhile(
        () => platform.call("POST", "/v1/api-keys", { token: member.token, body: {} }),
        setStatus(userId, status),
      ),
      await askedWhile(
        () => platform.call("POST", "/v1/teams", { token: maker.token, body: { name: "Late" } }),
        setStatus(makerId, status),
      ),
      await askedWhile(
        () =>
          platform.call("POST", "/v1/invitations/accept", { token: guest.token, body: { token } }),
        setStatus(guestId, status),
      ),
    ]).toEqual(["403 forbidden", "403 account_deactivated", "403 account_deactivated"]);
  },
);

test("who is no administrator any more makes none, and lets nobody in", async () => {
  const [other, friend] = [await platform.person(), await platform.person()];
  const [otherId, friendId] = [await userOf(other), await userOf(friend)];
  const path = `/v1/admin/users/${friendId}`;
  const administer = (isAdmin: boolean) => sql`update users set is_admin = ${isAdmin}
    where id = ${rowOf(otherId)}`;
  const asks = [
    () => platform.call("PUT", `${path}/admin`, { token: other.token, body: { admin: true } }),
    () => platform.call("PUT", `${path}/active`, { token: other.token, body: { active: false } }),
  ];
  const answers: string[] = [];
  for (const ask of asks) {
    await administer(true);
    answers.push(
      await askedWhile(ask, {
        // The lock of whoever takes that right from somebody.
        hold: (tx) => tx`select pg_advisory_xact_lock(7221506)`,
        change: (tx) => tx`update users set is_admin = false where id = ${rowOf(otherId)}`,
      }),
    );
  }

  expect(answers).toEqual(["403 forbidden", "403 forbidden"]);
  const { body } = await platform.call("GET", "/v1/me", { token: friend.token });
  expect(body.is_admin).toBe(false);
});

/** A request whose body is not there yet. */
function begin(method: string, path: string, headers: Record<string, string>) {
  const body = Promise.withResolvers<unknown>();
  const encode = (text: string) => new TextEncoder().encode(text);
  const stream = new ReadableStream<Uint8Array>({
    async start(controller) {
      controller.enqueue(encode(" "));
      controller.enqueue(encode(JSON.stringify(await body.promise)));
      controller.close();
    },
  });
  const url = `http://localhost${path}`;
  const answer = platform.app.handle(new Request(url, { method, headers, body: stream }));
  return {
    end: async (content: unknown): Promise<string> => {
      body.resolve(content);
      const { status } = await answer;
      return String(status);
    },
  };
}

// Whoever holds back the end of a body would act for as long as they like.
test("a body that is sent slowly keeps no right alive", async () => {
  const { owner, member, userId } = await joined("admin");
  const key = await platform.call("POST", "/v1/api-keys", { token: member.token, body: {} });
  const bearer = { authorization: `Bearer ${member.token}` };
  const stays = { authorization: `Bearer ${owner.token}` };
  const team = `/v1/teams/${owner.teamId}`;
  const requests = [
    begin("POST", "/v1/capsules", { "x-api-key": key.body.key }),
    begin("POST", "/v1/capsules", bearer),
    begin("PATCH", team, bearer),
    begin("PATCH", "/v1/me", bearer),
    begin("PATCH", team, stays),
  ];
  const bodies = [{}, {}, { name: "Mine" }, { name: "Me" }, { name: "Ours" }];
  // By now all of them were let in.
  await Bun.sleep(200);
  await platform.call("PUT", `/v1/admin/users/${userId}/active`, {
    ...{ token: root.token, body: { active: false } },
  });
  // Longer than a body goes unwatched.
  await Bun.sleep(600);

  const answers = await Promise.all(requests.map((one, i) => one.end(bodies[i])));
  expect(answers).toEqual(["401", "401", "401", "401", "204"]);
  const [row] = await sql`select name from teams where id = ${decodeId("team", owner.teamId)}`;
  expect<unknown>(row).toEqual({ name: "Ours" });
});
