// What grows is forgotten as fast as it grows: a pass leaves nothing that is past its time.

import { expect, test } from "bun:test";
import { AccountsPlatform } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { Events } from "../events/service.ts";
import { expireAuditLogsLoop } from "./audit-logs.ts";
import type { Loop } from "./driver.ts";
import { expireEventsLoop } from "./expire-events.ts";
import { expireIdempotencyKeysLoop } from "./expire-idempotency-keys.ts";
import { expireInvitationsLoop } from "./expire-invitations.ts";
import { expireSessionsLoop } from "./expire-sessions.ts";

const platform = await forThisFile(AccountsPlatform.start());
const { redis } = platform;
const { db, sql } = platform.database;
await platform.person();

/** More than any statement takes. */
const COUNT = 20_001;
const old = sql`now() - interval '400 days'`;

const LOOPS: Record<string, { loop: Loop; insert: () => Promise<unknown> }> = {
  events: {
    loop: expireEventsLoop(new Events({ db, redis, retentionDays: 30, placed: async () => {} })),
    insert: () => sql`
      insert into events (team_id, type, outcome, actor, resource, metadata, created_at)
      select teams.id, 'capsule.create', 'success', '{}', '{}', '{}', ${old}
      from (select id from teams limit 1) teams, generate_series(1, ${COUNT})`,
  },
  audit_logs: {
    loop: expireAuditLogsLoop(platform.audit),
    insert: () => sql`
      insert into audit_logs (id, team_id, actor_type, actor_name, resource_type, action, scope, status,
        metadata, position, created_at)
      select gen_random_uuid(), teams.id, 'system', '', 'host', 'create', 'team', 'info', '{}', -n, ${old}
      from (select id from teams limit 1) teams, generate_series(1, ${COUNT}) n`,
  },
  sessions: {
    loop: expireSessionsLoop(platform.sessions),
    insert: () => sql`
      insert into sessions (id, user_id, team_id, expires_at)
      select n::text, user_id, team_id, ${old}
      from (select user_id, team_id from users_teams limit 1) one, generate_series(1, ${COUNT}) n`,
  },
  team_invitations: {
    loop: expireInvitationsLoop(platform.invitations),
    insert: () => sql`
      insert into team_invitations (id, team_id, email, role, token_hash, invited_by, expires_at)
      select gen_random_uuid(), team_id, n::text, 'member', n::text, user_id, ${old}
      from (select user_id, team_id from users_teams limit 1) one, generate_series(1, ${COUNT}) n`,
  },
  idempotency_keys: {
    loop: expireIdempotencyKeysLoop(db),
    insert: () => sql`
      insert into idempotency_keys (team_id, key, request_hash, subject_kind, subject_ids, created_at)
      select teams.id, n::text, '', 'capsule', '{}', ${old}
      from (select id from teams limit 1) teams, generate_series(1, ${COUNT}) n`,
  },
};

test.each(Object.entries(LOOPS))("of %s", async (table, { loop, insert }) => {
  const [before] = await sql`select count(*)::int as rows from ${sql(table)}`;
  await insert();
  await loop.run(new AbortController().signal);

  const [after] = await sql`select count(*)::int as rows from ${sql(table)}`;
  expect(after).toEqual(before);
});
