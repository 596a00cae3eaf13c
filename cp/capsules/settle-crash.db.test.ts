// Control planes that are killed while a pass of theirs puts off what it could not settle: real processes of the
// real program, SIGKILL.

import { expect, setDefaultTimeout, test } from "bun:test";
import { eq, sql } from "drizzle-orm";
import { newId } from "../../proto/ids.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { CAPSULE_ROW } from "../../tests/harness/rows.ts";
import { TestPlatform } from "../../tests/harness/simulated-agent-platform.ts";
import { ControlPlaneProgram } from "../../tests/harness/simulated-agent-program.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { capsules } from "../db/tables.ts";
import { Operations } from "../operations/operations.ts";
import { settleOperations } from "./settle.ts";

setDefaultTimeout(90_000);

/** An advisory lock of this file's. */
const GATE = 20_261_129;

const platform = await forThisFile(TestPlatform.start());
const { database } = platform;

/** A capsule that a control plane was to place when it died. */
async function abandoned() {
  await using dead = await Operations.open(database.url);
  const id = newId("capsule");
  await database.db.insert(capsules).values({
    ...{ ...CAPSULE_ROW, id, operationId: dead.next(), status: "pending" },
    ...{ teamId: platform.team.id, hostId: platform.hostId },
    stateDeadline: sql`now() + interval '1 hour'`,
  });
  return id;
}

/** No operation ends, and what puts one off waits for the gate; a claim is neither. */
async function refuseEnds(): Promise<void> {
  await database.db.execute(sql`create function refuse_ends() returns trigger language plpgsql as '
    begin
      if new.status = ''error'' then raise exception ''not now''; end if;
      perform pg_advisory_xact_lock(${sql.raw(String(GATE))});
      return new;
    end'`);
  await database.db.execute(sql`create trigger refusing before update on capsules for each row
    when (new.operation_id = old.operation_id) execute function refuse_ends()`);
}

/** Backends that wait at the gate. */
async function waitingPids(): Promise<number[]> {
  const rows = await database.sql`
    select pid from pg_locks where locktype = 'advisory' and objid = ${GATE} and not granted`;
  return rows.map(({ pid }) => pid);
}

test.each([
  ["is written behind it", false],
  ["is lost with it", true],
])(
  "where a pass is killed between a failed statement and the deadline, which %s, another ends the operation",
  async (_, isLost) => {
    const id = await abandoned();
    await refuseEnds();
    const gate = await database.sql.reserve();
    await gate`select pg_advisory_lock(${GATE})`;
    const program = await ControlPlaneProgram.start(platform);
    const [pid = 0] = await waitFor("a deadline that is about to be written", waitingPids, {
      holds: ({ length }) => length > 0,
    });

    await program.end("SIGKILL");
    if (isLost) await database.sql`select pg_terminate_backend(${pid}::int)`;
    await gate`select pg_advisory_unlock(${GATE})`;
    gate.release();
    await waitFor("its end", waitingPids, { holds: ({ length }) => length === 0 });
    await database.sql`drop function refuse_ends cascade`;

    // Long before the lease of the killed pass ends.
    const pass = () => settleOperations(platform.controlPlane.deps);
    await waitFor("the next pass", pass, {
      holds: ({ settled }) => settled === 1,
      timeoutMs: 10_000,
    });
    const [row] = await database.db.select().from(capsules).where(eq(capsules.id, id));
    expect(row).toMatchObject({ status: "error", errorCode: "agent_error" });
  },
);
