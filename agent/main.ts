// The host agent's program. SIGTERM leaves capsules running, the Terminate call leaves nothing.

import { availableParallelism } from "node:os";
import { dirname, resolve } from "node:path";
import { raiseFetchLimit } from "../proto/fetch-limit.ts";
import { Capsules } from "./capsules/capsules.ts";
import { ExpiryTimer } from "./capsules/expiry-timer.ts";
import { FlushTimer } from "./capsules/flush-timer.ts";
import { recover } from "./capsules/recover.ts";
import { Cgroups } from "./cgroups/cgroups.ts";
import { loadConfig } from "./config.ts";
import { openVmm } from "./drivers/open-vmm.ts";
import { Failpoints } from "./failpoints.ts";
import { StreamBudget } from "./guest/stream-budget.ts";
import { openHostDir } from "./host-dir.ts";
import { Journal } from "./journal/journal.ts";
import { BOOT_TIMEOUT_MS, STOP_GRACE_MS } from "./limits.ts";
import { Log } from "./log.ts";
import { capsuleRunDir } from "./machine/capsule-paths.ts";
import { mountRunDir, unmountRunDir } from "./memory/run-dir.ts";
import { AgentMetrics } from "./metrics/agent-metrics.ts";
import { CapsuleMetrics } from "./metrics/capsule-metrics.ts";
import { findPagerStats } from "./metrics/find-pager-stats.ts";
import { MetricStore } from "./metrics/metric-store.ts";
import { PagerUsage } from "./metrics/pager-usage.ts";
import { Kernel } from "./native/kernel.ts";
import { NetworkPool } from "./network/network-pool.ts";
import { ControlPlane } from "./registration/control-plane.ts";
import { Heartbeat } from "./registration/heartbeat.ts";
import { retireCredentials } from "./registration/host-credentials.ts";
import { obtainCredentials } from "./registration/register.ts";
import { findGuestKernel } from "./rootfs/guest-kernel.ts";
import { Images } from "./rootfs/images.ts";
import { openRootDisks } from "./rootfs/open-root-disks.ts";
import { startRpcServer } from "./rpc/rpc-server.ts";
import { Shutdown } from "./shutdown.ts";
import { Snapshots } from "./snapshots/snapshots.ts";
import { MemoryTemplates } from "./templates/memory-templates.ts";
import { WarmSnapshots } from "./templates/warm-snapshots.ts";
import { AGENT_VERSION } from "./version.ts";

try {
  raiseFetchLimit(process.env);
  await serve();
} catch (error) {
  process.stderr.write(`Cannot go on: ${error instanceof Error ? error.message : error}\n`);
  // Whatever was opened before: a program that can't start must not seem to run.
  process.exit(1);
}

async function serve(): Promise<void> {
  const config = loadConfig(process.env, process.argv.slice(2));
  const log = new Log({
    level: config.logLevel,
    write: (line) => process.stderr.write(`${line}\n`),
  });
  const failpoints = new Failpoints(config.failpoint);
  // A promise that nobody awaits must not let one guest end the agent of all the others.
  process.on("unhandledRejection", (error) => log.error("agent.unhandled", { error }));
  const nativeDir = config.nativeDir ?? defaultNativeDir();
  const now = () => new Date();
  await using resources = new AsyncDisposableStack();

  const shutdown = resources.use(new Shutdown());
  const kernel = resources.use(await Kernel.open(nativeDir));
  const dir = resources.adopt(await openHostDir(config.dir, kernel), (dir) => dir.unlock());
  const { tag } = dir;
  await mountRunDir(kernel, dir.runDir);
  const journal = resources.use(new Journal(dir.journalPath));
  const cgroups = await Cgroups.open(tag);
  const images = new Images(dir.imagesDir, kernel);
  const disks = await openRootDisks({ dir: dir.sandboxesDir, cow: config.cow, kernel, tag });
  const guestKernel = await findGuestKernel(dir.kernelsDir);
  const { cacheDir } = dir;
  const vmm = await openVmm({
    vmm: config.vmm,
    nativeDir,
    tscKhz: await kernel.tscKhz(),
    cacheDir,
  });
  const { snapshotsDir, flatDir } = dir;
  const directories = { dir: snapshotsDir, flatDir };
  const snapshots = await Snapshots.open({ ...directories, kernel, vmm, failpoints });
  const network = await NetworkPool.open({
    kernel,
    tag,
    owner: dir.path,
    ready: config.networkPoolSize,
    uidBase: config.uidBase,
    keep: journal.rows().flatMap((row) => row.slot ?? []),
  });
  resources.defer(() => network.close());

  const streamBudget = new StreamBudget(config.guestStreamsMax);
  const { runDir, logsDir } = dir;
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
    metrics,
    ...{ journal, network, cgroups, images, disks, vmm, snapshots, guestKernel },
    ...{ streamBudget, runDir, logsDir, failpoints, log, now },
    bootTimeoutMs: config.bootTimeoutMs ?? BOOT_TIMEOUT_MS[vmm.accel],
  };
  const warm = new WarmSnapshots(parts, { dir: dir.warmDir, isOn: config.isWarm });
  await warm.sweep();
  const templates = new MemoryTemplates({ imagesDir: dir.imagesDir, snapshots, failpoints });
  await templates.sweep();
  const starts = { bootsAtOnceMax: availableParallelism(), warm, templates };
  const capsules = new Capsules(parts, starts);
  // What is being removed needs the journal and the network until it is done, on every way out.
  resources.defer(() => capsules.close());
  resources.defer(() => warm.close());
  resources.use(new FlushTimer(capsules));
  resources.use(new ExpiryTimer(capsules, log));
  await recover(parts, capsules);
  const capsuleMetrics = resources.use(
    new CapsuleMetrics({
      ...{ disks, log, now },
      running: () => capsules.running(),
      known: () => capsules.list().map(({ spec }) => spec.id),
      store: new MetricStore(dir.metricsDir),
      monotonicMs: () => performance.now(),
    }),
  );
  capsuleMetrics.start();

  const controlPlane = new ControlPlane(config.cpUrl);
  const { address, registrationToken: token } = config;
  const credentials = await obtainCredentials({ controlPlane, dir: dir.path, address, token });
  const server = await startRpcServer(config.listen, {
    capsules,
    templates,
    failpoints,
    capsuleMetrics,
    metrics,
    metricsToken: config.metricsToken,
    socketDir: cacheDir,
    metadata: {
      agent_version: AGENT_VERSION,
      kernel_version: guestKernel.version,
      vmm: vmm.name,
      vmm_version: vmm.version,
    },
    terminate: (isPausing) => shutdown.request(isPausing ? "pause" : "terminate"),
    log,
  });
  resources.defer(() => server.stop(STOP_GRACE_MS));
  const onDeleted = () => shutdown.request("forget");
  resources.use(new Heartbeat({ controlPlane, credentials, dir: dir.path, log, onDeleted }));
  log.info("agent.started", {
    version: AGENT_VERSION,
    address: server.address,
    tag,
    vmm: `${vmm.name} ${vmm.version} ${vmm.accel}`,
    cow: disks.kind,
  });

  const ending = await shutdown.requested;
  log.info("agent.ending", { ending });
  if (ending === "stop" || ending === "forget") {
    capsules.refuseCreates();
    await server.stop(STOP_GRACE_MS);
    if (ending === "forget") await retireCredentials(dir.path);
    return;
  }
  await warm.close();
  await (ending === "pause" ? capsules.pauseAll() : capsules.destroyAll());
  await server.stop(STOP_GRACE_MS);
  await network.removeAll();
  await cgroups.removeAll();
  await unmountRunDir(kernel, runDir);
  log.info("agent.terminated");
}

/** Beside the compiled program, or where `make native` puts it when run from source. */
function defaultNativeDir(): string {
  return import.meta.url.startsWith("file:///$bunfs/")
    ? dirname(process.execPath)
    : resolve(import.meta.dirname, "../build/native");
}
