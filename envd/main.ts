// envd: the agent inside a capsule. It runs processes and serves files on one port.
import { writeSync } from "node:fs";
import { type Config, loadConfig } from "./config.ts";
import { FileCalls } from "./files/file-calls.ts";
import { MetadataStore } from "./files/metadata.ts";
import { Watches } from "./filesystem/directory-watch.ts";
import { WatchBudget } from "./filesystem/watch-budget.ts";
import { HELP } from "./help.ts";
import { writeIdentityFiles } from "./identity.ts";
import { MessageProgram } from "./message-program.ts";
import { MetricsSampler } from "./metrics/sampler.ts";
import { PortForwarder } from "./ports/forwarder.ts";
import { Cgroups, protectFromOutOfMemory } from "./process/cgroups.ts";
import { Launcher } from "./process/launcher.ts";
import { Registry } from "./process/registry.ts";
import { rpcHandlers } from "./rpc.ts";
import { serve } from "./server.ts";
import { Settings } from "./settings.ts";
import { Users } from "./users.ts";
import { ENVD_VERSION } from "./version.ts";

const config = configOrEnd();
if (config.isHelpAsked || config.isVersionAsked) {
  writeSync(1, config.isHelpAsked ? HELP : `${ENVD_VERSION}\n`);
  process.exit(0);
}

// Files of clients are for everybody to read unless they say otherwise.
process.umask(0o022);
// A guest without its agent is lost, so what nobody caught is reported and survived.
process.on("unhandledRejection", (error) => log("unexpected error", { error: String(error) }));
const settings = new Settings();
const users = new Users();
const launcher = new Launcher(config.programsDir);
const registry = new Registry(launcher);
const forwarder = new PortForwarder(config.address);
const sampler = new MetricsSampler();
const calls = new FileCalls(config.programsDir);
const renewProgram = new MessageProgram(`${config.programsDir}/renew`);
const metadata = new MetadataStore(calls);
const watchBudget = new WatchBudget(config.inotifyDir);
watchBudget.raise();
const watches = new Watches(config.programsDir, watchBudget);
const cgroups = Cgroups.open(config.cgroupRoot);
if (cgroups !== null) protectFromOutOfMemory();
const rpc = rpcHandlers({
  ...config,
  cgroups,
  registry,
  launcher,
  watches,
  metadata,
  users,
  settings,
  log,
});
const server = serve(
  { ...config, cgroups, settings, users, sampler, calls, renewProgram, metadata, rpc, log },
  config,
);
log("listening", { address: `${server.hostname}:${server.port}`, version: ENVD_VERSION });

launcher.warmUp();
sampler.start();
forwarder.start();
writeIdentityFiles(config.runDir, settings.identity);

const stopped = Promise.withResolvers<void>();
for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, stopped.resolve);
await stopped.promise;
sampler.stop();
forwarder.stop();
cgroups?.thaw();
await registry.endAll();
await server.stop(true);
await launcher.close();
process.exit(0);

/** Ends the process with status 2 if the command line is wrong. */
function configOrEnd(): Config {
  try {
    const { argv, env, execPath: executable } = process;
    return loadConfig({ argv: argv.slice(2), env, executable });
  } catch (error) {
    writeSync(2, `Cannot start: ${error instanceof Error ? error.message : error}\n`);
    process.exit(2);
  }
}

function log(message: string, fields: Record<string, unknown>): void {
  const time = new Date().toISOString();
  process.stderr.write(`${JSON.stringify({ time, message, ...fields })}\n`);
}
