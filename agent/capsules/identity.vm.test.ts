// Capsules that are restored from one snapshot are not one another: nothing that is drawn, named or read from
// a clock after the restore is the same in two of them. What a program has drawn before, and generators that
// it seeded before, are in the snapshot like all of its memory, and the same in each: as with VMGENID, what
// is guaranteed is that the kernel's generator differs from the first instruction on, and that a program which
// looks at its machine-id, its host name or /run/wrenn/.WRENN_SANDBOX_ID knows that it is another one's copy.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { AgentProcess, NOTHING, PLATFORM_TEAM } from "../../tests/harness/agent-process.ts";
import { Witness, type WitnessClock } from "../../tests/harness/witness.ts";

const isSoak = Boolean(process.env.WRENN_SOAK);
const RESTORES = isSoak ? 200 : 4;
const AT_ONCE = 2;
const CLOCK_OFF_MS_MAX = 50;

/** Of programs that start after the restore, each line a name and a value. The base image has no Node. */
const DRAW = `
echo uuid $(cat /proc/sys/kernel/random/uuid)
echo openssl $(openssl rand -hex 16)
python3 -c '
import random, secrets, ssl, uuid
print("random", random.random())
print("secrets", secrets.token_hex(16))
print("uuid4", uuid.uuid4())
print("ssl", ssl.RAND_bytes(16).hex())
'
! command -v node > /dev/null || node -e '
  const crypto = require("node:crypto");
  console.log("node", crypto.randomUUID());
  console.log("node-bytes", crypto.randomBytes(16).toString("hex"));
  console.log("node-math", Math.random());
'
`;
/** What of it every guest has. */
const DRAWN = ["uuid", "openssl", "random", "secrets", "uuid4", "ssl"];

setDefaultTimeout(isSoak ? 7_200_000 : 300_000);

let agent: AgentProcess;
let witness: Witness;

beforeAll(async () => {
  agent = await AgentProcess.start();
  witness = new Witness(agent);
});

afterAll(async () => {
  await agent[Symbol.asyncDispose]();
});

/** Of the process that is older than the snapshot. */
interface Drawn {
  readonly fresh: Record<string, string | number>;
  /** OpenSSL's changes when minutes have passed, and then alike in all: it reseeds from itself. */
  readonly carried: Record<string, string | number>;
}

interface Restored extends Drawn {
  readonly id: string;
  readonly started: Record<string, string>;
  readonly clock: WitnessClock;
}

async function pauseAndResume(id: string): Promise<void> {
  await agent.client.pauseSandbox(agent.operation(id));
  await agent.client.resumeSandbox(agent.resumeRequest(id));
}

async function restore(templateId: string): Promise<Restored> {
  const request = { ...agent.createRequest(), templateId };
  const { sandboxId: id } = await agent.client.createSandbox(request);
  const clock = await witness.clock(id);
  const drawn = (await witness.ask(id, "draw")) as Drawn;
  const lines = (await agent.sh(id, DRAW)).trim().split("\n");
  const started = Object.fromEntries(lines.map((line) => line.split(" ")));
  // What two of them lack would pass for what they share.
  expect(Object.keys(started)).toEqual(expect.arrayContaining(DRAWN));
  await agent.client.destroySandbox({ sandboxId: id });
  return { id, ...drawn, started, clock };
}

/** What two or more of them have in common. */
function repeated(values: readonly Record<string, string | number>[]): string[] {
  return Object.keys(values[0] ?? {}).filter(
    (name) => new Set(values.map((value) => value[name])).size < values.length,
  );
}

test(`${RESTORES} restores of one snapshot have nothing in common that they drew after it`, async () => {
  const id = await agent.create();
  await witness.start(id, "identity");
  // What runs in it, envd included, has drawn before, and was renewed once.
  await witness.ask(id, "draw");
  await pauseAndResume(id);
  const { offsetsMs } = await witness.clock(id);
  const templateId = crypto.randomUUID();
  const snapshot = { ...agent.operation(id), teamId: PLATFORM_TEAM, templateId };
  await agent.client.createSnapshot(snapshot);
  const source = await witness.clock(id);
  const original = (await witness.ask(id, "draw")) as Drawn;
  await agent.client.destroySandbox({ sandboxId: id });

  const restored: Restored[] = [];
  for (let done = 0; done < RESTORES; done += AT_ONCE) {
    const several = Array.from({ length: AT_ONCE }, () => restore(templateId));
    restored.push(...(await Promise.all(several)));
  }

  expect(repeated([original, ...restored].map(({ fresh }) => fresh))).toEqual([]);
  expect(repeated(restored.map(({ started }) => started))).toEqual([]);
  expect(restored.map(({ fresh }) => fresh.hostname)).toEqual(restored.map(({ id }) => id));
  expect(restored.map(({ fresh }) => fresh.capsule)).toEqual(restored.map(({ id }) => id));
  // It is the same process, and the test would have seen it.
  expect(new Set(restored.map(({ carried }) => carried.random)).size).toBe(1);
  const clocks = [source, ...restored.map(({ clock }) => clock)];
  report(clocks);
  for (const clock of clocks) {
    // One jump, and that before the process ran again: what it reads now it has read from the start.
    expect(clock.offsetsMs.length - offsetsMs.length).toBe(1);
    expect(Math.abs(clock.aheadMs)).toBeLessThan(CLOCK_OFF_MS_MAX);
  }
  await agent.client.deleteSnapshot({ teamId: PLATFORM_TEAM, templateId });
  expect(await agent.leftovers()).toEqual(NOTHING);
});

function report(clocks: readonly WitnessClock[]): void {
  const off = clocks.map(({ aheadMs }) => Math.abs(aheadMs)).sort((a, b) => a - b);
  const error = Math.max(...clocks.map(({ errorMs }) => errorMs));
  const [median = 0, most = 0] = [off[off.length >> 1], off.at(-1)];
  const text = (ms: number) => `${ms.toFixed(1)} ms`;
  console.log(
    `    clocks are off by ${text(median)}, at most ${text(most)}; read to ±${text(error)}`,
  );
}
