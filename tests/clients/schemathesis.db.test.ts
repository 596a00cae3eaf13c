// Whatever the document of the API allows, and much that it does not, is asked of a control plane that has one
// simulated host: each answer is one that the document names, with a body that it describes, and none is a failure.

import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { ControlPlane } from "../harness/control-plane.ts";
import { cloneDatabase } from "../harness/database.ts";
import { forThisFile } from "../harness/for-this-file.ts";
import { SimulatedAgent } from "../harness/simulated-agent.ts";
import { addHost } from "../harness/simulated-agent-platform.ts";
import { askAnything } from "./schemathesis.ts";

const IS_SOAK = process.env.WRENN_SOAK === "1";
setDefaultTimeout(IS_SOAK ? 3_600_000 : 300_000);

const EXAMPLES = IS_SOAK ? 40 : 1;
/** What ends the session, or the account, of whoever asks. */
const ENDING = "/v1/auth/logout|/v1/auth/switch-team|/v1/me/password$|/leave$|/transfer$";
/** Streams without an end, and answers to an upgrade. */
const STREAMS = "/stream$|/pty$";

const database = await forThisFile(cloneDatabase());
const agent = await forThisFile(Promise.resolve(new SimulatedAgent()));
const program = await forThisFile(ControlPlane.start(database.url));

beforeAll(async () => {
  const lastHeartbeatAt = new Date(Date.now() + 24 * 3600_000);
  const size = { cpuCores: 100_000, memoryMb: 1 << 30, diskGb: 1 << 20 };
  await addHost(database, agent.address, { ...size, lastHeartbeatAt });
});

test("to somebody who is signed in", async () => {
  const token = await program.person("one@example.com");

  const wrong = await ask({
    headers: [`Authorization: Bearer ${token}`],
    without: `${ENDING}|${STREAMS}`,
  });
  expect(wrong).toBeNull();
});

test("to a key", async () => {
  const token = await program.person("two@example.com");
  const authorization = `Bearer ${token}`;
  const { body } = await program.post("/v1/api-keys", {}, { authorization });

  const only = "^/v1/(capsules|snapshots|volumes|usage|limits|events)";
  expect(await ask({ headers: [`X-API-Key: ${body.key}`], only, without: STREAMS })).toBeNull();
});

test("to somebody who signs out now and then, and to nobody", async () => {
  const token = await program.person("three@example.com");

  const wrong = await ask({ headers: [`Authorization: Bearer ${token}`], only: ENDING });
  expect(wrong).toBeNull();
  // Of the others nobody gets 401, which another test walks: all of them in soak.
  const only = IS_SOAK ? "^/" : "^/(health|auth/|v1/auth/|v1/hosts/(register|auth))";
  expect(await ask({ headers: [], only, without: STREAMS })).toBeNull();
});

test("and no failure of ours is in the log", () => {
  const failures = program.log.split("\n").filter((line) => line.includes('"level":"error"'));

  expect(failures).toEqual([]);
});

type Ask = Omit<Parameters<typeof askAnything>[0], "url" | "examplesMax" | "isThorough">;
const ask = (questions: Ask) =>
  askAnything({ url: program.url, examplesMax: EXAMPLES, isThorough: IS_SOAK, ...questions });
