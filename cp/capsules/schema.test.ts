import { expect, test } from "bun:test";
import { idFromUuid } from "../../proto/ids.ts";
import type { CapsuleRow } from "./capsule.ts";
import { toCapsule } from "./schema.ts";

const ROW: CapsuleRow = {
  id: idFromUuid("capsule", "00000000-0000-0000-0000-000000000001"),
  teamId: idFromUuid("team", "00000000-0000-0000-0000-000000000002"),
  hostId: idFromUuid("host", "00000000-0000-0000-0000-000000000003"),
  template: "minimal-debian",
  status: "pending",
  vcpus: 1,
  memoryMb: 512,
  timeoutSec: 0,
  diskSizeMb: 5120,
  diskUsedMb: null,
  sentBytes: 0,
  hostIp: "",
  createdAt: new Date("2026-11-22T10:11:12.999Z"),
  startedAt: null,
  lastActiveAt: null,
  lastUpdated: new Date("2026-11-22T10:11:13.001Z"),
  templateId: null,
  templateTeamId: null,
  metadata: {},
  labels: {},
  operationId: "00000000-0000-8000-8000-000000000004",
  reason: "",
  errorCode: "",
  stateDeadline: null,
  privatePorts: false,
  durableAt: null,
  defaultUser: "root",
  defaultEnv: {},
  snapshottedFrom: null,
  metricsSavedFor: null,
  countedAt: new Date(0),
};

test("what a capsule does not have is left out, and what is ours stays with us", () => {
  expect(toCapsule(ROW)).toEqual({
    id: "cl-0000000000000000000000001",
    status: "pending",
    template: "minimal-debian",
    vcpus: 1,
    memory_mb: 512,
    timeout_sec: 0,
    disk_size_mb: 0,
    created_at: "2026-11-22T10:11:12Z",
    last_updated: "2026-11-22T10:11:13Z",
  });
});

test("a failed capsule says why", () => {
  expect(toCapsule({ ...ROW, status: "error", reason: "no" })).toMatchObject({ reason: "no" });
});
