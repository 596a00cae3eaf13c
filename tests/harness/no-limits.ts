// Teams that may have whatever there is.

import type { TeamLimits } from "../../cp/team-limits.ts";

export const NO_LIMITS: TeamLimits = {
  ...{ capsules: 0, vcpus: 0, memoryMb: 0, diskMb: 0 },
  ...{ snapshots: 0, snapshotMb: 0, requestsPerMinute: 0 },
};
