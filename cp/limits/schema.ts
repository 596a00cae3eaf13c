// Limits of teams, on the wire.

import { type Static, Type } from "@sinclair/typebox";
import { TEAM_LIMIT_MAX, type TeamLimit } from "../team-limits.ts";
import { type LimitChanges, type LimitsAndUse, WIRE_NAMES } from "./limits-and-use.ts";

const DESCRIPTIONS: Record<TeamLimit, string> = {
  capsules: "Capsules that are not at rest, at once.",
  vcpus: "Their processors.",
  memoryMb: "Their memory, and half of that of paused ones.",
  diskMb: "Disks of all capsules, as large as they may become.",
  snapshots: "Snapshots, with those under way.",
  snapshotMb: "What their files take.",
  requestsPerMinute: "Requests to the API, by all keys and people; more are 429.",
};

type WireName = (typeof WIRE_NAMES)[TeamLimit];

const limit = (of: TeamLimit) =>
  Type.Integer({ minimum: 0, maximum: TEAM_LIMIT_MAX, description: DESCRIPTIONS[of] });
const change = (of: TeamLimit) => Type.Optional(Type.Union([limit(of), Type.Null()]));
const used = (of: TeamLimit) => Type.Number({ description: DESCRIPTIONS[of] });

const LIMITS = {
  capsules: limit("capsules"),
  vcpus: limit("vcpus"),
  memory_mb: limit("memoryMb"),
  disk_mb: limit("diskMb"),
  snapshots: limit("snapshots"),
  snapshot_mb: limit("snapshotMb"),
  requests_per_minute: limit("requestsPerMinute"),
} satisfies Record<WireName, unknown>;

const LimitValues = Type.Object(LIMITS, { description: "The most of each; 0: no limit." });

const Usage = Type.Object(
  {
    capsules: used("capsules"),
    vcpus: used("vcpus"),
    memory_mb: used("memoryMb"),
    disk_mb: used("diskMb"),
    snapshots: used("snapshots"),
    snapshot_mb: used("snapshotMb"),
  },
  { description: "What the team has of them." },
);

export const TeamLimits = Type.Object({ limits: LimitValues, usage: Usage });
type TeamLimits = Static<typeof TeamLimits>;

export const AdministeredLimits = Type.Object({
  limits: LimitValues,
  own: Type.Partial(LimitValues, {
    description: "Those that were given to the team; the others are those of the settings.",
  }),
  usage: Usage,
});
type AdministeredLimits = Static<typeof AdministeredLimits>;

export const ChangeLimits = Type.Object(
  {
    capsules: change("capsules"),
    vcpus: change("vcpus"),
    memory_mb: change("memoryMb"),
    disk_mb: change("diskMb"),
    snapshots: change("snapshots"),
    snapshot_mb: change("snapshotMb"),
    requests_per_minute: change("requestsPerMinute"),
  },
  { description: "0: no limit; null: that of the settings. What is not named stays." },
);
type ChangeLimits = Static<typeof ChangeLimits>;

export function toTeamLimits({ limits, used }: LimitsAndUse): TeamLimits {
  return {
    limits: toValues(limits),
    usage: {
      capsules: used.capsules,
      vcpus: used.vcpus,
      memory_mb: used.memoryMb,
      disk_mb: used.diskMb,
      snapshots: used.snapshots,
      snapshot_mb: Math.ceil(used.snapshotMb),
    },
  };
}

export function toAdministeredLimits(found: LimitsAndUse): AdministeredLimits {
  return { ...toTeamLimits(found), own: named(found.own) };
}

export function toLimitChanges(asked: ChangeLimits): LimitChanges {
  const names = Object.entries(WIRE_NAMES);
  return Object.fromEntries(
    names.flatMap(([limit, wire]) => (asked[wire] === undefined ? [] : [[limit, asked[wire]]])),
  );
}

function toValues(limits: LimitsAndUse["limits"]): TeamLimits["limits"] {
  return {
    capsules: limits.capsules,
    vcpus: limits.vcpus,
    memory_mb: limits.memoryMb,
    disk_mb: limits.diskMb,
    snapshots: limits.snapshots,
    snapshot_mb: limits.snapshotMb,
    requests_per_minute: limits.requestsPerMinute,
  };
}

function named(own: LimitsAndUse["own"]): AdministeredLimits["own"] {
  const limits = Object.entries(WIRE_NAMES) as [TeamLimit, WireName][];
  return Object.fromEntries(
    limits.flatMap(([limit, wire]) => (own[limit] === undefined ? [] : [[wire, own[limit]]])),
  );
}
