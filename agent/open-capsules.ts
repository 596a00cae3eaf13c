// Opens the capsules of a host: those that outlived the last agent run on, and what they use is measured.

import { availableParallelism } from "node:os";
import { Capsules } from "./capsules/capsules.ts";
import { ExpiryTimer } from "./capsules/expiry-timer.ts";
import { FlushTimer } from "./capsules/flush-timer.ts";
import { recover } from "./capsules/recover.ts";
import { StallTimer } from "./capsules/stall-timer.ts";
import type { Config } from "./config.ts";
import type { Failpoints } from "./failpoints.ts";
import { StreamBudget } from "./guest/stream-budget.ts";
import { BOOT_TIMEOUT_MAX_MS, BOOT_TIMEOUT_MS } from "./limits.ts";
import type { Log } from "./log.ts";
import { capsuleRunDir } from "./machine/capsule-paths.ts";
import { AgentMetrics } from "./metrics/agent-metrics.ts";
import { CapsuleMetrics } from "./metrics/capsule-metrics.ts";
import { findPagerStats } from "./metrics/find-pager-stats.ts";
import { MetricStore } from "./metrics/metric-store.ts";
import { PagerUsage } from "./metrics/pager-usage.ts";
import { SentBytes } from "./metrics/sent-bytes.ts";
import type { Host } from "./open-host.ts";
import { MemoryTemplates } from "./templates/memory-templates.ts";
import { WarmSnapshots } from "./templates/warm-snapshots.ts";
import { AGENT_VERSION } from "./version.ts";

export interface OpenCapsulesOptions {
  readonly failpoints: Failpoints;
  readonly log: Log;
  readonly resources: AsyncDisposableStack;
}

/** Returns once running capsules answer again; what has to be closed is with `resources`. */
export async function openCapsules(
  host: Host,
  config: Config,
  { failpoints, log, resources }: OpenCapsulesOptions,
) {
  const { dir, kernel, journal, disks, guestKernel, vmm, snapshots, network } = host;
  const { runDir, logsDir } = dir;
  const now = () => new Date();
  const streamBudget = new StreamBudget(config.guestStreamsMax);
  const pagers = new PagerUsage({
    runs: () =>
      capsules.running().map(({ id, vmm: { pid, startTime } }) => {
        return { id, name: `${id} ${pid} ${startTime}` };
      }),
    statsOf: (id) => findPagerStats(capsuleRunDir(runDir, id)),
  });
  const metrics = resources.use(
    new AgentMetrics({
      pagers,
      version: AGENT_VERSION,
      host: {
        ...{ vmm: vmm.name, vmm_version: vmm.version, accel: vmm.accel },
        ...{ kernel: guestKernel.version, cow: disks.kind },
      },
      report: () => ({
        capsules: capsules.list().map(({ spec, status }) => ({ status, vcpus: spec.vcpus })),
        usage: capsuleMetrics.total(),
        guestStreams: streamBudget.taken,
        warm: warm.counts,
        network: network.stock,
        lanes: kernel.calls,
      }),
    }),
  );
  const parts = {
    ...host,
    ...{ metrics, streamBudget, runDir, logsDir, failpoints, log, now },
    bootTime: {
      silenceMs: config.bootTimeoutMs ?? BOOT_TIMEOUT_MS[vmm.accel],
      totalMs: config.bootTimeoutMs ?? BOOT_TIMEOUT_MAX_MS,
    },
  };
  const warm = new WarmSnapshots(parts, { dir: dir.warmDir, isOn: config.isWarm });
  await warm.sweep();
  const { imagesDir } = dir;
  const templates = new MemoryTemplates({ imagesDir, snapshots, failpoints, journal, now });
  await templates.sweep();
  const starts = { bootsAtOnceMax: availableParallelism(), warm, templates };
  const capsules = new Capsules(parts, starts);
  // What is being removed needs the journal and the network until it is done, on every way out.
  resources.defer(() => capsules.close());
  resources.defer(() => warm.close());
  resources.use(new FlushTimer(capsules));
  resources.use(new ExpiryTimer(capsules, log));
  resources.use(new StallTimer(capsules, disks));
  await recover(parts, capsules);
  const capsuleMetrics = resources.use(
    new CapsuleMetrics({
      ...{ disks, log, now },
      running: () =>
        capsules.running().map(({ slot, ...running }) => {
          const link = slot === null ? null : network.hostLink(slot);
          return { ...running, link };
        }),
      known: () => capsules.list().map(({ spec }) => spec.id),
      store: new MetricStore(dir.metricsDir),
      sent: new SentBytes({ dir: dir.sentDir, log }),
      monotonicMs: () => performance.now(),
    }),
  );
  capsuleMetrics.start();
  return { capsules, templates, warm, metrics, capsuleMetrics };
}
