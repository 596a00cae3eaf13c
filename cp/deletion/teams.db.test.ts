// Deleting a team with what it owns, on hosts that answer, that are away, and by control planes that die.

import { beforeEach, expect, setDefaultTimeout, test } from "bun:test";
import { decodeId, type Id } from "../../proto/ids.ts";
import { AccountsPlatform, PASSWORD, type Person } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { SimulatedAgent } from "../../tests/harness/simulated-agent.ts";
import { addHost } from "../../tests/harness/simulated-agent-platform.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { settleOperations } from "../capsules/settle.ts";
import { settleTemplates } from "../snapshots/settle.ts";
import { purgeTeams } from "./purge-teams.ts";

setDefaultTimeout(120_000);

const platform = await forThisFile(AccountsPlatform.start());
const agent = await forThisFile(Promise.resolve(new SimulatedAgent()));
const { sql } = platform.database;
const lastHeartbeatAt = new Date(Date.now() + 3600_000);
await addHost(platform.database, agent.address, { lastHeartbeatAt });
let owner: Person;

beforeEach(async () => {
  owner = await platform.person("Owner");
});

const call = async (method: string, path: string, body?: unknown, token = owner.token) => {
  const answer = await platform.call(method, path, { token, body });
  if (answer.status >= 400) throw new Error(`${method} ${path}: ${JSON.stringify(answer.body)}`);
  return answer.body;
};
const outcome = async (answer: ReturnType<typeof platform.call>): Promise<string> => {
  const { status, body } = await answer;
  return body.error === undefined ? `${status}` : `${status} ${body.error.code}`;
};
const uuidOf = ({ teamId }: Person) => decodeId("team", teamId) as Id<"team">;

/** A running capsule, a paused one, a template and a key. */
async function furnish(): Promise<string> {
  const source = (await call("POST", "/v1/capsules", {})).id;
  const { id } = await call("POST", "/v1/capsules", {});
  await call("POST", `/v1/capsules/${id}/pause`);
  await call("POST", "/v1/snapshots", { sandbox_id: source, name: "ours" });
  await sql`insert into channels (id, team_id, name, provider)
    values (gen_random_uuid(), ${uuidOf(owner)}, 'c', 'webhook')`;
  return (await call("POST", "/v1/api-keys", {})).key;
}

/** One pass of each loop, with all that waits for its time being due. */
async function pass(): Promise<void> {
  await sql`update teams set purge_at = now() where purge_at is not null`;
  await sql`update capsules set state_deadline = now() where state_deadline is not null`;
  await sql`update template_operations set deadline = now()`;
  const background: Promise<unknown>[] = [];
  const deps = {
    ...platform.capsuleDeps,
    inBackground: (work: Promise<unknown>) => void background.push(work),
  };
  const passes = [];
  for (const one of [purgeTeams, settleOperations, settleTemplates]) {
    passes.push(...(await Promise.allSettled([one(deps)])));
  }
  await Promise.allSettled(background);
  const failed = passes.find(({ status }) => status === "rejected");
  if (failed?.status === "rejected") throw failed.reason;
}

/** What is left of the team, in the record and on the host. */
async function left(team: Person) {
  const id = uuidOf(team);
  const [row] = await sql<{ isDue: boolean }[]>`select
    (select count(*)::int from capsules where team_id = ${id} and status not in ('stopped', 'error')) as capsules,
    (select count(*)::int from templates where team_id = ${id}) as templates,
    (select count(*)::int from template_operations where team_id = ${id}) as operations,
    (select count(*)::int from team_api_keys where team_id = ${id}) as keys,
    (select count(*)::int from channels where team_id = ${id}) as channels,
    (select count(*)::int from team_invitations where team_id = ${id}) as invitations,
    (select purge_at is not null from teams where id = ${id}) as "isDue"`;
  if (row === undefined) throw new Error("unreachable: a select of one row");
  return { ...row, onHost: agent.capsules.size, templatesOnHost: agent.pauses.templates.size };
}

const NOTHING = {
  ...{ capsules: 0, templates: 0, operations: 0, keys: 0, channels: 0, isDue: false },
  invitations: 0,
  ...{ onHost: 0, templatesOnHost: 0 },
};
const isGone = async () => {
  await pass();
  return (await left(owner)).isDue === false;
};

test("its owner deletes a team with all that it owns", async () => {
  const key = await furnish();
  const member = await platform.person();
  const path = `/v1/teams/${owner.teamId}`;
  await call("POST", `${path}/members`, { email: member.email });
  await call("POST", `${path}/invitations`, { email: "guest@example.com" });
  const inTeam = { team_id: owner.teamId };
  const { token } = await call("POST", "/v1/auth/switch-team", inTeam, member.token);
  const { slug } = (await call("GET", path)).team as { slug: string };
  const refused = await outcome(platform.call("DELETE", path, { token }));
  await call("DELETE", path);

  const list = (credentials: object) => outcome(platform.call("GET", "/v1/capsules", credentials));
  expect([
    refused,
    await list({ headers: { "x-api-key": key } }),
    await list({ token }),
    await list({ token: owner.token }),
    await outcome(platform.call("GET", "/v1/me", { token: owner.token })),
    await outcome(platform.call("POST", "/v1/auth/switch-team", { token, body: inTeam })),
  ]).toEqual([
    ...["403 forbidden", "401 unauthorized", "403 forbidden", "403 forbidden"],
    ...["200", "404 not_found"],
  ]);
  await waitFor("an empty team", isGone);
  expect(await left(owner)).toEqual(NOTHING);
  const check = await call("GET", `/v1/teams/slug-check?slug=${slug}`);
  expect(check.available).toBe(false);
});

test("who signs in after the only team is gone gets another one", async () => {
  await call("DELETE", `/v1/teams/${owner.teamId}`);
  const body = { email: owner.email, password: PASSWORD };
  const { team_id } = await call("POST", "/v1/auth/login", body);

  expect(team_id).not.toBe(owner.teamId);
  const teams = Object.values(await call("GET", "/v1/teams")) as { id: string }[];
  expect(teams.map(({ id }) => id)).toEqual([team_id]);
});

test("what a host that is away has is removed when it is back", async () => {
  await furnish();
  await sql`update hosts set status = 'unreachable'`;
  await call("DELETE", `/v1/teams/${owner.teamId}`);
  await pass();
  await pass();
  const away = await left(owner);
  await sql`update hosts set status = 'online'`;
  await waitFor("an empty team", isGone);

  expect(away).toMatchObject({ capsules: 2, operations: 1, isDue: true, onHost: 2 });
  expect(await left(owner)).toEqual(NOTHING);
});

test("two control planes at it make one end of it", async () => {
  await furnish();
  await call("DELETE", `/v1/teams/${owner.teamId}`);
  await waitFor("an empty team", async () => {
    await Promise.all([pass(), pass()]);
    return (await left(owner)).isDue === false;
  });

  expect(await left(owner)).toEqual(NOTHING);
  const [told] = await sql`select count(*)::int as number from events
    where team_id = ${uuidOf(owner)} and type = 'capsule.destroy' and outcome = 'success'`;
  expect(told?.number).toBe(2);
});

/** How far into a pass it dies at the latest. */
const WRITES = 12;
/** The tables that its passes write. */
const WRITTEN = ["teams", "capsules", "templates", "template_operations", "events", "hosts"];

test("a control plane that dies at any write leaves what the next one finishes", async () => {
  await furnish();
  await sql.unsafe(`create sequence writes; create table dying (at bigint);
    insert into dying values (0);
    create function die() returns trigger language plpgsql as $$
      declare number bigint := nextval('writes');
      begin
        if (select at from dying) between 1 and number then raise exception 'died'; end if;
        return null;
      end $$`);
  await call("DELETE", `/v1/teams/${owner.teamId}`);
  for (const table of WRITTEN) {
    await sql.unsafe(`create trigger died after insert or update or delete on ${table}
      for each statement execute function die()`);
  }
  let deaths = 0;
  for (let round = 0; (await left(owner)).isDue === true; round += 1) {
    if (round > 200) throw new Error("it does not come to an end");
    // Early and late, so that each write is one at which it dies, and it gets on nevertheless. What makes
    // everything due is none of the pass's own writes.
    const at = 1 + (round % WRITES);
    await sql`update dying set at = (select last_value from writes) + 3 + ${at}`;
    await pass().catch(() => {
      deaths += 1;
    });
    await sql`update dying set at = 0`;
  }
  await sql.unsafe("drop function die cascade");

  expect(deaths).toBeGreaterThan(5);
  expect(await left(owner)).toEqual(NOTHING);
});

test("what is asked of a team while it is deleted is placed before that, or never", async () => {
  const { id } = await call("POST", "/v1/capsules", {});
  const { id: paused } = await call("POST", "/v1/capsules", {});
  await call("POST", `/v1/capsules/${paused}/pause`);
  const asked = [
    ["/v1/capsules", {}],
    [`/v1/capsules/${paused}/resume`, {}],
    [`/v1/capsules/${id}/fork`, { count: 1 }],
    ["/v1/snapshots", { sandbox_id: id, name: "late" }],
  ] as const;
  const waiting = async () => {
    const [row] = await sql<{ count: number }[]>`select count(*)::int from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock'`;
    return row?.count ?? 0;
  };
  // They are let in, and come to the team's row when it is on its way out.
  const answers = await sql.begin(async (tx) => {
    await tx`select from teams where id = ${uuidOf(owner)} for update`;
    const begun = asked.map(([path, body]) =>
      outcome(platform.call("POST", path, { token: owner.token, body })),
    );
    await waitFor("all of them behind it", waiting, { holds: (count) => count >= asked.length });
    await tx`update teams set deleted_at = now(), purge_at = now() where id = ${uuidOf(owner)}`;
    return { begun };
  });

  expect(await Promise.all(answers.begun)).toEqual(Array(asked.length).fill("403 no_team"));
  expect(await left(owner)).toMatchObject({ capsules: 2, operations: 0, onHost: 2 });
  await waitFor("an empty team", isGone);
});

test("a snapshot that is under way goes with its team", async () => {
  const { id } = await call("POST", "/v1/capsules", {});
  const held = Promise.withResolvers<void>();
  agent.faultBefore("createSnapshot", () => held.promise);
  const making = platform.call("POST", "/v1/snapshots", {
    ...{ token: owner.token, body: { sandbox_id: id, name: "late" } },
    headers: { prefer: "respond-async" },
  });
  expect((await making).status).toBe(202);
  await call("DELETE", `/v1/teams/${owner.teamId}`);
  const purging = pass();
  held.resolve();
  await purging;
  await waitFor("an empty team", isGone);

  expect(await left(owner)).toEqual(NOTHING);
});
