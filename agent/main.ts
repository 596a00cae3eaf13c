// The host agent's program. SIGTERM leaves capsules running, the Terminate call leaves nothing.

import { writeSync } from "node:fs";
import { raiseFetchLimit } from "../proto/fetch-limit.ts";
import { loadConfig, loadMachineConfig } from "./config.ts";
import { examine, report, statusOf } from "./doctor/doctor.ts";
import { Failpoints } from "./failpoints.ts";
import { answerHelp } from "./help.ts";
import { STOP_GRACE_MS } from "./limits.ts";
import { Log } from "./log.ts";
import { startMetricsServer } from "./metrics/metrics-server.ts";
import { openCapsules } from "./open-capsules.ts";
import { clearHost, defaultNativeDir, openHost } from "./open-host.ts";
import { ControlPlane } from "./registration/control-plane.ts";
import { Heartbeat } from "./registration/heartbeat.ts";
import { obtainCredentials } from "./registration/register.ts";
import { startRpcServer } from "./rpc/rpc-server.ts";
import { Shutdown } from "./shutdown.ts";
import { AGENT_VERSION } from "./version.ts";
import { VmmError } from "./vmm/vmm.ts";

const help = answerHelp(process.argv.slice(2));
if (help !== null) {
  writeSync(1, help);
  process.exit(0);
}
try {
  if (process.argv[2] === "doctor") await examineHost(process.argv.slice(3));
  raiseFetchLimit(process.env);
  await serve();
} catch (error) {
  const sentence = error instanceof Error ? error.message : error;
  // What this machine lacks, rather than what somebody set.
  const advice = error instanceof VmmError ? "; wrenn-agent doctor says what to do about it" : "";
  process.stderr.write(`Cannot go on: ${sentence}${advice}\n`);
  // Whatever was opened before: a program that can't start must not seem to run.
  process.exit(1);
}

/** Ends the process: 0 if capsules can run here, warnings or not, else 1. */
async function examineHost(args: readonly string[]): Promise<never> {
  const wrong = args.find((arg) => arg !== "--json");
  if (wrong !== undefined) throw new Error(`doctor knows no ${JSON.stringify(wrong)}, only --json`);
  const config = loadMachineConfig(process.env);
  const nativeDir = config.nativeDir ?? defaultNativeDir();
  const findings = await examine({ ...config, nativeDir });
  writeSync(1, report(findings, args.includes("--json")));
  process.exit(statusOf(findings) === "failed" ? 1 : 0);
}

async function serve(): Promise<void> {
  const config = loadConfig(process.env, process.argv.slice(2));
  const log = new Log({
    level: config.logLevel,
    write: (line) => process.stderr.write(`${line}\n`),
  });
  // A disk that is full, or a reader of the log that is gone, costs lines.
  process.stderr.on("error", () => {});
  const failpoints = new Failpoints(config.failpoint);
  // A promise that nobody awaits must not let one guest end the agent of all the others.
  process.on("unhandledRejection", (error) => log.error("agent.unhandled", { error }));
  await using resources = new AsyncDisposableStack();

  const shutdown = resources.use(new Shutdown());
  const host = await openHost(config, { failpoints, log, resources });
  const { dir, vmm, disks, guestKernel, snapshots } = host;
  const open = await openCapsules(host, config, { failpoints, log, resources });
  const { capsules, templates, warm, metrics, capsuleMetrics } = open;

  const controlPlane = new ControlPlane(config.cpUrl);
  const { address, registrationToken: token } = config;
  const credentials = await obtainCredentials({ controlPlane, dir: dir.path, address, token });
  const server = await startRpcServer(config.listen, {
    ...{ capsules, templates, snapshots, failpoints, capsuleMetrics, metrics, log },
    hostId: credentials.hostId,
    identity: credentials.identity,
    // In memory: an agent must be able to listen on a host whose disk is full.
    socketDir: dir.runDir,
    metadata: {
      agent_version: AGENT_VERSION,
      kernel_version: guestKernel.version,
      vmm: vmm.name,
      vmm_version: vmm.version,
    },
    terminate: (isPausing) => shutdown.request(isPausing ? "pause" : "terminate"),
  });
  resources.defer(() => server.stop(STOP_GRACE_MS));
  if (config.metricsListen !== null) {
    const { metricsListen, metricsToken } = config;
    resources.use(startMetricsServer(metricsListen, { metrics, metricsToken }));
  }
  const onDeleted = () => shutdown.request("forget");
  resources.use(new Heartbeat({ controlPlane, credentials, log, onDeleted }));
  log.info("agent.started", {
    version: AGENT_VERSION,
    address: server.address,
    tag: dir.tag,
    vmm: `${vmm.name} ${vmm.version} ${vmm.accel}`,
    cow: disks.kind,
  });

  const ending = await shutdown.requested;
  log.info("agent.ending", { ending });
  if (ending === "stop" || ending === "forget") {
    capsules.refuseCreates();
    await server.stop(STOP_GRACE_MS);
    if (ending === "forget") await credentials.retire();
    return;
  }
  await warm.close();
  await (ending === "pause" ? capsules.pauseAll() : capsules.destroyAll());
  await server.stop(STOP_GRACE_MS);
  await clearHost(host);
  log.info("agent.terminated");
}
