// Several who wait for the same: each has its turn. The guest and its snapshots are stand-ins that take a
// moment; with a VMM: tests/contract.

import { expect, test } from "bun:test";

// Prints what became of three snapshots and a pause that are asked for at once, in that order.
const AGENT = `
const { CapsuleStates } = await import(process.argv[1] + "/states.ts");
const { Lifecycle } = await import(process.argv[1] + "/lifecycle.ts");
const { newCapsule } = await import(process.argv[1] + "/capsule.ts");
const { Failpoints } = await import(process.argv[1] + "/../failpoints.ts");
const log = { info() {}, warn() {}, error() {} };
const made = [];
const snapshots = {
  draft: async () => null,
  pause: async (_, freeze) => {
    await freeze();
    return { generation: 1 };
  },
  seal: async (_, { copied }) => {
    await Bun.sleep(2);
    await copied();
    return {};
  },
  hold: async () => made.push("snapshot"),
};
const parts = {
  ...{ snapshots, log, failpoints: new Failpoints(null), now: () => new Date(), runDir: "/run" },
  disks: { live: () => ({}) },
  guestKernel: { version: "6" },
};
const states = new CapsuleStates({ writeState() {} }, log);
const lifecycle = new Lifecycle(parts, { states, boots: null });
const spec = { id: "cl-1", defaultEnvs: {} };
const state = { status: "running", resumed: null };
const capsule = newCapsule({ spec, state, slot: null, envdVersion: "", createdAt: new Date() });
capsule.progress.vmm = {};
capsule.progress.guest = { freeze: async () => {}, init: async () => {}, close() {} };
const asked = [
  ...[1, 2, 3].map((id) => lifecycle.capture(capsule, String(id))),
  lifecycle.pause(capsule, { reason: "requested", operationId: "4" }),
];
const outcomes = await Promise.all(asked.map((work) => work.then(() => "done", String)));
console.log(JSON.stringify({ outcomes, made: made.length, status: capsule.state.status }));
process.exit(0);
`;

test("snapshots and a pause that are asked for at once are made one after the other", async () => {
  const child = Bun.spawn([process.execPath, "-e", AGENT, import.meta.dirname], {
    stdio: ["ignore", "pipe", "inherit"],
  });

  expect(await child.stdout.json()).toEqual({
    outcomes: ["done", "done", "done", "done"],
    made: 3,
    status: "paused",
  });
});
