// The audit log as it is read: in pages and as a whole, while others write.

import { expect, setDefaultTimeout, test } from "bun:test";
import { decodeId, type Id } from "../../proto/ids.ts";
import { AccountsPlatform, type Person } from "../../tests/harness/accounts-platform.ts";
import { dieAt } from "../../tests/harness/dying-transaction.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { openDatabase, type Queryable } from "../db/client.ts";
import type { AuditEntry } from "./entry.ts";
import { recordAudit } from "./record.ts";
import { EXPORT_BATCH } from "./service.ts";

setDefaultTimeout(60_000);

const WRITERS = 8;
const TRANSACTIONS_PER_WRITER = process.env.WRENN_SOAK === undefined ? 25 : 500;

const platform = await forThisFile(AccountsPlatform.start());
const { db, sql } = platform.database;

interface Listed {
  readonly items: readonly { id: string; resource_id: string; [field: string]: unknown }[];
  readonly next_before?: string;
  readonly next_before_id?: string;
}

const idOf = ({ teamId }: Person): Id<"team"> => {
  const id = decodeId("team", teamId);
  if (id === null) throw new Error(`${teamId} is no team`);
  return id;
};

const entry = (teamId: Id<"team">, name: string, more: Partial<AuditEntry> = {}): AuditEntry => ({
  ...{ teamId, actor: { type: "system", id: "", name: "" } },
  ...{ resource: { type: "host", id: name }, action: "create", ...more },
});

async function list({ token }: Person, query = ""): Promise<Listed> {
  const response = await platform.app.handle(
    new Request(`http://localhost/v1/audit-logs${query}`, {
      headers: { authorization: `Bearer ${token}` },
    }),
  );
  if (response.status !== 200) throw new Error(await response.text());
  return (await response.json()) as Listed;
}

/** All pages from the newest on; `seen` says when to leave off. */
async function walk(person: Person, limit: number, seen = (_: string) => false): Promise<string[]> {
  const names: string[] = [];
  let cursor = "";
  while (true) {
    const page = await list(person, `?resource_type=host&limit=${limit}${cursor}`);
    for (const { resource_id } of page.items) {
      if (seen(resource_id)) return names;
      names.push(resource_id);
    }
    if (page.next_before === undefined) return names;
    cursor = `&before=${page.next_before}&before_id=${page.next_before_id}`;
  }
}

// By time the entry of the slower transaction would stand behind those that a reader has passed.
test("what is committed late is newer than what was read before", async () => {
  const person = await platform.person();
  const teamId = idOf(person);
  await recordAudit(db, entry(teamId, "first"));
  const committing = Promise.withResolvers<void>();
  const written = Promise.withResolvers<void>();
  const slow = db.transaction(async (tx) => {
    await recordAudit(tx, entry(teamId, "slow"));
    written.resolve();
    await committing.promise;
  });
  await written.promise;
  await recordAudit(db, entry(teamId, "quick"));
  const before = await walk(person, 1);
  committing.resolve();
  await slow;

  expect([before, await walk(person, 1)]).toEqual([
    ["quick", "first"],
    ["slow", "quick", "first"],
  ]);
});

test("who follows the log while eight write meets each entry once", async () => {
  const person = await platform.person();
  const teamId = idOf(person);
  const written: string[] = [];
  const others = openDatabase(platform.database.url, { connectionsMax: WRITERS });
  const write = async (writer: number) => {
    for (let number = 0; number < TRANSACTIONS_PER_WRITER; number += 1) {
      const names = [`${writer}-${number}-a`, `${writer}-${number}-b`];
      await others.db.transaction(async (tx: Queryable) => {
        // Held for unlike times: they commit in another order than they wrote in.
        for (const name of names) {
          await recordAudit(tx, entry(teamId, name));
          await Bun.sleep(Math.random() * 4);
        }
      });
      written.push(...names);
    }
  };
  let isWriting = true;
  const writing = Promise.all(Array.from({ length: WRITERS }, (_, writer) => write(writer))).then(
    () => {
      isWriting = false;
    },
  );
  const met: string[] = [];
  const known = new Set<string>();
  let isLast = false;
  while (!isLast) {
    isLast = !isWriting;
    const committed = [...written];
    const fresh = await walk(person, 3, (name) => known.has(name));
    met.push(...fresh);
    for (const name of fresh) known.add(name);
    expect(committed.filter((name) => !known.has(name))).toEqual([]);
  }
  await writing;
  await others.close();

  expect(met.toSorted()).toEqual(written.toSorted());
});

test("a walk begun before others write meets what there was, once", async () => {
  const person = await platform.person();
  const teamId = idOf(person);
  for (let number = 0; number < 20; number += 1) await recordAudit(db, entry(teamId, `${number}`));
  const first = await list(person, "?resource_type=host&limit=5");
  const rest: string[] = [];
  let { next_before: before, next_before_id: id } = first;
  while (before !== undefined) {
    await recordAudit(db, entry(teamId, "meanwhile"));
    const cursor = `before=${before}&before_id=${id}`;
    const page = await list(person, `?resource_type=host&limit=5&${cursor}`);
    rest.push(...page.items.map(({ resource_id }) => resource_id));
    ({ next_before: before, next_before_id: id } = page);
  }

  const met = [...first.items.map(({ resource_id }) => resource_id), ...rest];
  expect(met).toEqual(Array.from({ length: 20 }, (_, number) => `${19 - number}`));
});

test("a plain member sees neither what is for managers nor where from, and nobody another team's", async () => {
  const owner = await platform.person();
  const { email, token } = await platform.person();
  const teamId = idOf(owner);
  await platform.call("POST", `/v1/teams/${owner.teamId}/members`, {
    ...{ token: owner.token, body: { email }, headers: { "x-request-id": "adding" } },
  });
  const body = { name: "ci" };
  await platform.call("POST", "/v1/api-keys", { token: owner.token, body });
  await recordAudit(db, entry(idOf(await platform.person()), "elsewhere"));
  const switched = await platform.call("POST", "/v1/auth/switch-team", {
    ...{ token, body: { team_id: owner.teamId } },
  });
  const member = { email, token: switched.body.token, teamId: owner.teamId };

  const [ofOwner, ofMember] = [await list(owner), await list(member)];
  expect(ofOwner.items).toMatchObject([
    {
      ...{ actor_type: "user", actor_name: owner.email, resource_type: "api_key" },
      ...{ action: "create", scope: "team", status: "success", metadata: { name: "ci" } },
      ...{ ip_address: "unknown", request_id: expect.stringMatching(/^req_/) },
    },
    {
      ...{ resource_type: "member", action: "add", scope: "admin", request_id: "adding" },
      metadata: { email, role: "member" },
    },
  ]);
  expect(ofMember.items.map(({ action, ip_address }) => [action, ip_address])).toEqual([
    ["create", undefined],
  ]);
  expect(teamId).not.toBe(idOf(await platform.person()));
});

test("entries are asked for by type and action, in one parameter or in several", async () => {
  const person = await platform.person();
  const teamId = idOf(person);
  await recordAudit(db, entry(teamId, "a", { action: "create" }));
  await recordAudit(db, entry(teamId, "b", { action: "delete" }));
  await recordAudit(db, entry(teamId, "c", { resource: { type: "team", id: "c" } }));
  const found = async (query: string) =>
    (await list(person, query)).items.map(({ resource_id }) => resource_id);
  const refused = async (query: string) => {
    const answer = await platform.call("GET", `/v1/audit-logs${query}`, { token: person.token });
    return [answer.status, answer.body.error?.message];
  };

  expect([
    await found("?resource_type=host&action=delete"),
    await found("?resource_type=host,team"),
    await found("?resource_type=team&resource_type=host&action=create"),
  ]).toEqual([["b"], ["c", "b", "a"], ["c", "a"]]);
  expect([
    await refused("?action=DROP%20TABLE"),
    await refused("?limit=201"),
    await refused("?before=yesterday"),
    await refused(`?before_id=log-${"0".repeat(25)}`),
    await refused("/export?action=%20%00"),
  ]).toEqual([
    [400, "action: at most 20 names like api_key"],
    [400, "limit: must be a whole number from 1 to 200"],
    [400, "before: must be a time like 2030-01-31T12:00:00Z"],
    [400, "before_id: is no entry of this log"],
    [400, "action: at most 20 names like api_key"],
  ]);
});

async function fill(person: Person, count: number): Promise<void> {
  await sql`insert into audit_logs (id, team_id, actor_type, resource_type, resource_id, action)
    select gen_random_uuid(), ${idOf(person)}, 'system', 'host', n, 'create'
    from generate_series(1, ${count}) as n`;
}

const exportOf = async ({ token }: Person) =>
  await platform.app.handle(
    new Request("http://localhost/v1/audit-logs/export?resource_type=host", {
      headers: { authorization: `Bearer ${token}` },
    }),
  );

test("an export is one line of JSON for each entry, the oldest first", async () => {
  const person = await platform.person();
  const count = 2 * EXPORT_BATCH + 7;
  await fill(person, count);
  const response = await exportOf(person);
  const lines = (await response.text()).trimEnd().split("\n");

  expect(response.headers.get("content-type")).toBe("application/x-ndjson");
  expect(new Set(lines.map((line) => JSON.parse(line).resource_id)).size).toBe(count);
  const listed = await list(person, "?resource_type=host&limit=1");
  expect(JSON.parse(lines.at(-1) ?? "")).toEqual(listed.items[0]);
});

// What is taken away behind the first batch would be in the answer if that were read ahead.
test("an export is read no faster than it is taken", async () => {
  const person = await platform.person();
  await fill(person, 10 * EXPORT_BATCH);
  const reader = ((await exportOf(person)).body as ReadableStream<Uint8Array>).getReader();
  const first = await reader.read();
  await sql`delete from audit_logs where team_id = ${idOf(person)}`;
  let rest = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    rest += new TextDecoder().decode(part.value).split("\n").length - 1;
  }

  const lines = new TextDecoder().decode(first.value).split("\n").length - 1;
  expect(lines).toBe(EXPORT_BATCH);
  expect(rest).toBeLessThanOrEqual(2 * EXPORT_BATCH);
});

test("an export breaks off when its reader has no right to it any more, and few go on at once", async () => {
  const person = await platform.person();
  await fill(person, 10 * EXPORT_BATCH);
  const open = await Promise.all(Array.from({ length: 4 }, () => exportOf(person)));
  const refused = await exportOf(person);
  const [one, ...others] = open;
  const reader = (one as Response & { body: ReadableStream<Uint8Array> }).body.getReader();
  await reader.read();
  await platform.call("POST", "/v1/auth/logout", { token: person.token });
  const broken = (async () => {
    while (!(await reader.read()).done);
  })();

  expect(open.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  expect(refused.status).toBe(429);
  await expect(broken).rejects.toThrow();
  for (const { body } of others) await body?.cancel();
});

// Where changes came from, and who was let in, are for those who manage the team.
test("an export breaks off when its reader manages the team no more", async () => {
  const [owner, admin] = [await platform.person(), await platform.person()];
  const { token, email } = admin;
  const path = `/v1/teams/${owner.teamId}/members`;
  const added = await platform.call("POST", path, { token: owner.token, body: { email } });
  const setRole = (role: string) =>
    platform.call("PATCH", `${path}/${added.body.user_id}`, { token: owner.token, body: { role } });
  await setRole("admin");
  const session = await platform.call("POST", "/v1/auth/switch-team", {
    ...{ token, body: { team_id: owner.teamId } },
  });
  await fill(owner, 3 * EXPORT_BATCH);
  const exported = await exportOf({ ...admin, teamId: owner.teamId, token: session.body.token });
  const reader = (exported.body as ReadableStream<Uint8Array>).getReader();
  await reader.read();
  await setRole("member");

  const broken = (async () => {
    while (!(await reader.read()).done);
  })();
  await expect(broken).rejects.toThrow();
});

test("what is past its time is forgotten, and nothing else", async () => {
  const person = await platform.person();
  const teamId = idOf(person);
  for (const name of ["old", "older", "kept"]) await recordAudit(db, entry(teamId, name));
  await platform.audit.place();
  await sql`update audit_logs set created_at = now() - interval '366 days'
    where team_id = ${teamId} and resource_id like 'old%'`;
  await waitFor("nothing more to forget", async () => (await platform.audit.prune(10_000)) === 0);

  expect(await walk(person, 10)).toEqual(["kept"]);
});

test.each([[false], [true]])(
  "entries whose places were being given when that was killed get places all the same (at commit: %p)",
  async (isAtCommit) => {
    const person = await platform.person();
    await list(person);
    const names = Array.from({ length: 5 }, (_, i) => `h${i}`);
    for (const name of names) await recordAudit(db, entry(idOf(person), name));
    const dying = await dieAt(sql, { table: "audit_logs", does: "update", isAtCommit });
    const died = await platform.audit.place().catch(() => "died");
    await dying[Symbol.asyncDispose]();

    await Promise.all([platform.audit.place(), platform.audit.place()]);
    expect([died, await walk(person, 2)]).toEqual(["died", names.toReversed()]);
    const [places] =
      await sql`select count(*)::int as entries, count(distinct position)::int as places
      from audit_logs where team_id = ${idOf(person)}`;
    expect(places?.places).toBe(places?.entries);
  },
);
