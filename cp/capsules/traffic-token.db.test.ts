// What opens private ports is told to who may use capsules, and to nobody else.

import { expect, test } from "bun:test";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import {
  addTeam,
  TestPlatform,
  type TestTeam,
} from "../../tests/harness/simulated-agent-platform.ts";

const platform = await forThisFile(TestPlatform.start());
const { sql } = platform.database;

/** A team's key with these scopes alone. */
async function withScopes(team: TestTeam, ...scopes: string[]): Promise<TestTeam> {
  await sql`update team_api_keys set scopes = ${scopes} where team_id = ${team.id}`;
  return team;
}

test("who changes capsules but may not use them is never told the traffic token", async () => {
  const team = await addTeam(platform.database);
  const create = () =>
    platform.call("POST", "/v1/capsules", { team, body: { private_ports: true } });
  /** Every answer about a capsule that tells one. */
  const toldOf = async () => {
    const created = await create();
    const path = `/v1/capsules/${created.body.id}`;
    const post = (verb: string, headers = {}) =>
      platform.call("POST", `${path}/${verb}`, { team, body: {}, headers });
    const answers = [
      created,
      await platform.call("GET", path, { team }),
      await post("pause"),
      await post("resume"),
      await post("fork"),
      await post("pause", { prefer: "respond-async" }),
    ];
    return answers.map(({ status, body: told }) => [
      status < 300,
      JSON.stringify(told).includes("traffic_token"),
    ]);
  };

  await withScopes(team, "read", "write");
  expect(await toldOf()).toEqual(Array(6).fill([true, false]));
  await withScopes(team, "read", "write", "exec");
  expect(await toldOf()).toEqual(Array(6).fill([true, true]));
});
