import { describe, expect, test } from "bun:test";
import type { ApiRequest } from "../api/vmm-api.ts";
import {
  DESCRIBE_REQUEST,
  isStateOnlySaved,
  PAUSE_REQUEST,
  packState,
  RESUME_REQUEST,
  SAVE_REQUEST,
  unpackState,
} from "./cloud-hypervisor-state.ts";

const PAYLOAD = { kernel: "/vm/kernel", cmdline: "console=ttyS0" };
const CONFIG = {
  cpus: { boot_vcpus: 1 },
  payload: { ...PAYLOAD, initramfs: "/vm/initrd" },
  memory: { size: 0, zones: [{ id: "ram", size: 1024, file: "/vm/ram", shared: true }] },
};
/** As it writes it: JSON in strings of JSON, with numbers that no double holds. */
const RANGES = '[{\\"gpa\\":0,\\"length\\":67108864}]';
const STATE = [
  '{"snapshots":{"cpu":{"snapshot_data":{"state":"{\\"msr\\":18446744073709551615}"}},',
  '"memory-manager":{"snapshots":{},"snapshot_data":{"state":"{\\"memory_ranges\\":{\\"data\\":',
  `${RANGES}},\\"boot_ram\\":67108864}"}}}}`,
].join("");

test("what is kept has no memory or initial file system to read, maps privately, and is exact otherwise", () => {
  const packed = packState({ config: JSON.stringify(CONFIG), state: STATE });

  const { config, state } = unpackState(packed, { hasLandlock: false });

  const zone = { ...CONFIG.memory.zones[0], shared: false };
  const none = { landlock_enable: false, landlock_rules: null };
  const kept = { ...CONFIG, payload: PAYLOAD, memory: { size: 0, zones: [zone] } };
  expect(JSON.parse(config)).toEqual({ ...kept, ...none });
  expect(state).toBe(STATE.replace(RANGES, "[]"));
});

test("whether Landlock holds it is the host's matter, wherever it was saved", () => {
  const rules = [{ path: "/vm/own", access: "rw" }];
  const elsewhere = { ...CONFIG, landlock_enable: true, landlock_rules: rules };
  const landlockOf = (from: object, hasLandlock: boolean) => {
    const packed = packState({ config: JSON.stringify(from), state: STATE });
    const config: unknown = JSON.parse(unpackState(packed, { hasLandlock }).config);
    return config;
  };

  expect(landlockOf(CONFIG, true)).toMatchObject({ landlock_enable: true, landlock_rules: rules });
  expect(landlockOf(elsewhere, false)).toMatchObject({
    landlock_enable: false,
    landlock_rules: null,
  });
});

describe("what is not of a guest of ours is refused", () => {
  const config = JSON.stringify(CONFIG);
  const zones = [...CONFIG.memory.zones, ...CONFIG.memory.zones];
  const cases: [string, { config: string; state: string }][] = [
    ["a state without ranges", { config, state: "{}" }],
    ["one with ranges twice", { config, state: STATE + STATE }],
    ["a configuration that is cut", { config: config.slice(0, 20), state: STATE }],
    [
      "one with memory of its own",
      { config: JSON.stringify({ ...CONFIG, memory: { size: 512 } }), state: STATE },
    ],
    [
      "two zones",
      { config: JSON.stringify({ ...CONFIG, memory: { size: 0, zones } }), state: STATE },
    ],
  ];
  test.each(cases)("%s", (_what, files) => {
    expect(() => packState(files)).toThrow("Cloud Hypervisor's");
  });
  test.each(["", "{", "{}", '{"config":{},"state":""}'])("a saved %p", (text) => {
    expect(() => unpackState(text, { hasLandlock: true })).toThrow("Cloud Hypervisor's");
  });
});

/** Of cloud-hypervisor.yaml, from 51.0 to 53.0. */
const PUBLISHED: Readonly<Record<string, readonly string[]>> = {
  "GET /api/v1/vm.info": [],
  "PUT /api/v1/vm.pause": [],
  "PUT /api/v1/vm.resume": [],
  "PUT /api/v1/vm.snapshot": ["destination_url"],
};

test("each request is as it is published", () => {
  const ours: ApiRequest[] = [DESCRIBE_REQUEST, PAUSE_REQUEST, RESUME_REQUEST, SAVE_REQUEST];
  for (const { method, path, body } of ours) {
    expect(PUBLISHED[`${method} ${path}`]).toEqual(Object.keys(body ?? {}));
  }
});

test("only the refusal to make the memory's file means that the state is saved", () => {
  const chain = (last: string) =>
    JSON.stringify(["Error from API", "Error sending VM snapshot", last]);

  expect(
    isStateOnlySaved(chain('Error creating memory snapshot file "/vm/own/memory-ranges"')),
  ).toBe(true);
  for (const other of [
    "Error creating VM state snapshot file",
    "Error serializing VM state snapshot",
    "",
  ]) {
    expect(isStateOnlySaved(chain(other))).toBe(false);
  }
});
