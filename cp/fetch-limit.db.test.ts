import { expect, setDefaultTimeout, test } from "bun:test";
import { request } from "node:http";
import { TestPlatform } from "../tests/harness/simulated-agent-platform.ts";
import { ControlPlaneProgram } from "../tests/harness/simulated-agent-program.ts";
import { waitFor } from "../tests/harness/wait-for.ts";

setDefaultTimeout(60_000);
/** More than the 256 fetches that Bun has under way by default. */
const COMMANDS = 300;

test("hundreds of silent commands hold up no other call", async () => {
  await using platform = await TestPlatform.start();
  const id = await platform.create();
  const program = await ControlPlaneProgram.start(platform);
  const release = Promise.withResolvers<void>();
  for (let count = 0; count < COMMANDS; count++) {
    platform.agent.faultBefore("exec", () => release.promise);
  }
  const path = `/v1/capsules/${id}/exec`;
  const silent = Array.from({ length: COMMANDS }, () => {
    return post(new URL(path, program.url), platform.team.apiKey);
  });

  await waitFor("all commands at the agent", () => platform.agent.underWay, {
    holds: (calls) => calls === COMMANDS,
  });
  const answer = await program.call("POST", path, { body: { cmd: "true" } });
  release.resolve();
  const statuses = await Promise.all(silent);
  await program.end("SIGTERM");

  expect(answer).toMatchObject({ status: 200, body: { exit_code: 0 } });
  expect(new Set(statuses)).toEqual(new Set([200]));
});

/** Not with fetch, which would meet the limit on this side. */
async function post(url: URL, apiKey: string): Promise<number | undefined> {
  const answered = Promise.withResolvers<number | undefined>();
  const sent = request(url, { method: "POST", headers: { "x-api-key": apiKey } }, (response) => {
    response.resume();
    response.on("end", () => answered.resolve(response.statusCode));
  });
  sent.on("error", answered.reject);
  sent.end(JSON.stringify({ cmd: "true" }));
  return await answered.promise;
}
