// Requests against what Firecracker's releases publish of their API, which refuses what it does not know.
import { describe, expect, test } from "bun:test";
import type { DeviceShares, VmmSpec } from "../../vmm/vmm.ts";
import type { ApiRequest } from "../api/vmm-api.ts";
import {
  bootRequests,
  DESCRIBE_REQUEST,
  holdRequests,
  isStateOnlySaved,
  loadRequest,
  PAUSE_REQUEST,
  RESUME_REQUEST,
  SAVE_STATE_REQUEST,
} from "./firecracker-requests.ts";

type Kind = "integer" | "boolean" | "string" | readonly string[] | Shape;
interface Shape {
  readonly required: Readonly<Record<string, Kind>>;
  readonly optional: Readonly<Record<string, Kind>>;
  /** An array of these. */
  readonly isList?: true;
}

const BUCKET: Shape = {
  required: { size: "integer", refill_time: "integer" },
  optional: { one_time_burst: "integer" },
};
const LIMITER: Shape = { required: {}, optional: { bandwidth: BUCKET, ops: BUCKET } };

/** The fields that 1.12.0, 1.13.1, 1.14.1, 1.15.1 and 1.16.1 have in common (firecracker.yaml). */
const PUBLISHED: Readonly<Record<string, Shape>> = {
  "GET /": { required: {}, optional: {} },
  "PUT /machine-config": {
    required: { mem_size_mib: "integer", vcpu_count: "integer" },
    optional: {
      cpu_template: "string",
      huge_pages: ["None", "2M"],
      smt: "boolean",
      track_dirty_pages: "boolean",
    },
  },
  "PUT /boot-source": {
    required: { kernel_image_path: "string" },
    optional: { boot_args: "string", initrd_path: "string" },
  },
  "PUT /drives/root": {
    required: { drive_id: "string", is_root_device: "boolean" },
    optional: {
      cache_type: ["Unsafe", "Writeback"],
      io_engine: ["Sync", "Async"],
      is_read_only: "boolean",
      partuuid: "string",
      path_on_host: "string",
      rate_limiter: LIMITER,
      socket: "string",
    },
  },
  "PUT /network-interfaces/net0": {
    required: { host_dev_name: "string", iface_id: "string" },
    optional: { guest_mac: "string", rx_rate_limiter: LIMITER, tx_rate_limiter: LIMITER },
  },
  "PATCH /drives/root": {
    required: { drive_id: "string" },
    optional: { path_on_host: "string", rate_limiter: LIMITER },
  },
  "PATCH /network-interfaces/net0": {
    required: { iface_id: "string" },
    optional: { rx_rate_limiter: LIMITER, tx_rate_limiter: LIMITER },
  },
  "PUT /entropy": { required: {}, optional: { rate_limiter: LIMITER } },
  "PUT /actions": {
    required: { action_type: ["FlushMetrics", "InstanceStart", "SendCtrlAltDel"] },
    optional: {},
  },
  "PATCH /vm": { required: { state: ["Paused", "Resumed"] }, optional: {} },
  "PUT /snapshot/create": {
    required: { mem_file_path: "string", snapshot_path: "string" },
    optional: { snapshot_type: ["Full", "Diff"] },
  },
  "PUT /snapshot/load": {
    required: { snapshot_path: "string" },
    optional: {
      enable_diff_snapshots: "boolean",
      mem_backend: {
        required: { backend_type: ["File", "Uffd"], backend_path: "string" },
        optional: {},
      },
      mem_file_path: "string",
      network_overrides: {
        required: { iface_id: "string", host_dev_name: "string" },
        optional: {},
        isList: true,
      },
      resume_vm: "boolean",
    },
  },
};

/** What of a request is not as published. */
function faults(request: ApiRequest): string[] {
  const name = `${request.method} ${request.path}`;
  const shape = PUBLISHED[name];
  return shape === undefined
    ? [`${name}: no such request`]
    : faultsOf(request.body ?? {}, shape, name);
}

function faultsOf(value: unknown, kind: Kind, at: string): string[] {
  if (kind === "integer") return Number.isSafeInteger(value) ? [] : [`${at}: no integer`];
  if (kind === "boolean" || kind === "string")
    return typeof value === kind ? [] : [`${at}: no ${kind}`];
  if (!("required" in kind)) return kind.includes(String(value)) ? [] : [`${at}: ${value}`];
  if (kind.isList) {
    const { required, optional } = kind;
    if (!Array.isArray(value)) return [`${at}: no list`];
    return value.flatMap((item, i) => faultsOf(item, { required, optional }, `${at}[${i}]`));
  }
  if (typeof value !== "object" || value === null) return [`${at}: no object`];
  const missing = Object.keys(kind.required).filter((field) => !(field in value));
  const found = Object.entries(value).flatMap(([field, inner]) => {
    const inside = kind.required[field] ?? kind.optional[field];
    return inside === undefined
      ? [`${at}.${field}: unknown`]
      : faultsOf(inner, inside, `${at}.${field}`);
  });
  return [...missing.map((field) => `${at}.${field}: missing`), ...found];
}

const SPEC: VmmSpec = {
  capsuleId: "cl-a",
  runDir: "/run/wrenn/cl-a",
  vcpus: 2,
  memoryMib: 512,
  kernel: { vmlinux: "/k/vmlinux", initrd: "/k/initrd", version: "6.1.192" },
  cmdlineExtra: ["loglevel=7"],
  rootDisk: "/d/cl-a.ext4",
  netns: "wrenn-ab12-7",
  tap: "tap0",
  uid: 210_007,
  consoleLog: "/l/cl-a.console.log",
  cgroup: { procsFiles: [] },
};
const SHARES: DeviceShares = {
  disk: { readBytesPerS: 3_000_000, writeBytesPerS: 1_000_000, readsPerS: 200, writesPerS: 0 },
  network: { inBytesPerS: 500_000, outBytesPerS: 0 },
};
const MAP = { kind: "map", file: "/s/flat" } as const;
const UFFD = {
  kind: "uffd",
  pager: { header: "/s/h", layerDirectories: [], uid: 3, workingSet: null },
} as const;

describe("each request is as it is published", () => {
  const plain = { ...SPEC, kernel: { ...SPEC.kernel, initrd: null } };
  const requests = [
    ...bootRequests(SPEC, null),
    ...bootRequests(plain, "T2S"),
    loadRequest(SPEC, MAP),
    loadRequest(SPEC, UFFD),
    ...holdRequests(SHARES),
    ...[SAVE_STATE_REQUEST, PAUSE_REQUEST, RESUME_REQUEST, DESCRIBE_REQUEST],
  ];
  for (const [i, request] of requests.entries()) {
    test(`${i}: ${request.method} ${request.path}`, () => {
      expect(faults(request)).toEqual([]);
    });
  }
});

test("devices are held to what both directions have together, and to nothing where one has no limit", () => {
  const [drive, network] = holdRequests(SHARES).map(({ body }) => body);
  const none = { size: 0, refill_time: 0 };

  expect(drive).toEqual({
    drive_id: "root",
    rate_limiter: { bandwidth: { size: 4_000_000, refill_time: 1000 }, ops: none },
  });
  expect(network).toEqual({
    iface_id: "net0",
    rx_rate_limiter: { bandwidth: { size: 500_000, refill_time: 1000 } },
    tx_rate_limiter: { bandwidth: none },
  });
});

test("what is not published is found", () => {
  const load = loadRequest(SPEC, UFFD);
  const broken = { ...load.body, snapshot_path: 1, vsock_override: {}, resume_vm: undefined };

  expect(faults({ ...load, body: broken })).toEqual([
    "PUT /snapshot/load.snapshot_path: no string",
    "PUT /snapshot/load.resume_vm: no boolean",
    "PUT /snapshot/load.vsock_override: unknown",
  ]);
  expect(faults({ ...load, body: {} })).toEqual(["PUT /snapshot/load.snapshot_path: missing"]);
  expect(faults({ method: "PUT", path: "/mmds" })).toHaveLength(1);
});

test("no path of the host and nothing of the capsule reaches what a state records", () => {
  const sent = JSON.stringify([
    ...bootRequests(SPEC, null),
    loadRequest(SPEC, MAP),
    SAVE_STATE_REQUEST,
  ]);

  expect(sent).not.toMatch(/\/run\/|\/k\/|\/d\/|\/s\/|cl-a|ab12/);
});

test("the guest's flushes are kept, and its console is the first serial port", () => {
  const requests = bootRequests(SPEC, null);

  expect(requests.find(({ path }) => path === "/drives/root")?.body?.cache_type).toBe("Writeback");
  const bootArgs = String(requests.find(({ path }) => path === "/boot-source")?.body?.boot_args);
  expect(bootArgs).toContain("console=ttyS0");
  expect(bootArgs).toEndWith(" loglevel=7");
  expect(requests.at(-1)?.body).toEqual({ action_type: "InstanceStart" });
});

test("only the refusal to open the memory's file means that the state is saved", () => {
  const fault = "Create snapshot error: Cannot perform";

  const opened = `${fault} open on the memory backing file: No such file or directory`;
  expect(isStateOnlySaved(JSON.stringify({ fault_message: opened }))).toBe(true);
  for (const other of [
    `${fault} open on the snapshot backing file: No space left on device`,
    `${fault} set_length on the memory backing file: No space left on device`,
    "The requested operation is not supported after starting the microVM.",
    "",
  ]) {
    expect(isStateOnlySaved(JSON.stringify({ fault_message: other }))).toBe(false);
  }
});
