// The parts of the host that capsules are made of.

import type { Cgroups } from "../cgroups/cgroups.ts";
import type { Failpoints } from "../failpoints.ts";
import type { StreamBudget } from "../guest/stream-budget.ts";
import type { Journal } from "../journal/journal.ts";
import type { Log } from "../log.ts";
import type { AgentMetrics } from "../metrics/agent-metrics.ts";
import type { NetworkPool } from "../network/network-pool.ts";
import type { Images } from "../rootfs/images.ts";
import type { RootDisks } from "../rootfs/root-disks.ts";
import type { Snapshots } from "../snapshots/snapshots.ts";
import type { GuestKernel, Vmm } from "../vmm/vmm.ts";
import type { HostShares } from "./host-shares.ts";

export interface HostParts {
  readonly journal: Journal;
  readonly network: NetworkPool;
  readonly cgroups: Cgroups;
  readonly images: Images;
  readonly disks: RootDisks;
  readonly vmm: Vmm;
  readonly snapshots: Snapshots;
  readonly guestKernel: GuestKernel;
  readonly shares: HostShares;
  /** How long a guest that starts may print nothing before it is up, and how long it may take at all. */
  readonly bootTime: { readonly silenceMs: number; readonly totalMs: number };
  readonly streamBudget: StreamBudget;
  /** On tmpfs: a directory per capsule, for its RAM, sockets and pid files. */
  readonly runDir: string;
  readonly logsDir: string;
  readonly failpoints: Failpoints;
  readonly log: Log;
  readonly metrics: AgentMetrics;
  readonly now: () => Date;
}
