// Runs tests on a host with KVM and device-mapper that this machine emulates (machine.ts), or on this machine.
//
//   bun tests/host-rig/main.ts short             set-up, doctor, VMMs, device-mapper: what fits some ten minutes
//   bun tests/host-rig/main.ts full              the agent's host and microVM tests, too
//   bun tests/host-rig/main.ts native [files]    the same on this machine, which must have the devices
//   bun tests/host-rig/main.ts short <files>     these only
//
// WRENN_VMM chooses the VMM of the agent's tests, else it is QEMU, and WRENN_SOAK the full counts and sizes. What is
// Firecracker's and Cloud Hypervisor's own needs WRENN_FIRECRACKER_BIN and WRENN_CLOUD_HYPERVISOR_BIN; without them it
// is named as skipped.
//
// A file whose host's kernel panicked, or fell silent, is begun again, since that says nothing about it. Files of
// which one goes on where another left the host (tests/host-rig/host-life) are one series. What comes back is in
// build/host-rig/results: a JUnit report and the output of each file, and the host's console. The exit status is
// 1 if a test failed, 2 if the rig could not do its part.

import { existsSync } from "node:fs";
import { mkdir, rm } from "node:fs/promises";
import { join, resolve } from "node:path";
import { Kernel } from "../../agent/native/kernel.ts";
import { buildHostDisk } from "./disk.ts";
import { HostRestarted, RigError, RigMachine } from "./machine.ts";
import { buildPayload } from "./payload.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const DIR = join(ROOT, "build/host-rig");
const RESULTS = join(DIR, "results");
const DEVICES = ["/dev/kvm", "/dev/mapper/control", "/dev/net/tun", "/dev/loop-control"];
const SOAK = process.env.WRENN_SOAK || "";
/** Of a file, in a guest of a guest that may have a fifth of a processor. */
const FILE_TIMEOUT_MS = SOAK === "" ? 2_400_000 : 7_200_000;
const TEST_TIMEOUT_MS = 300_000;
/** A host that panics more often than this over one file is no host. */
const ATTEMPTS = 3;

/** What the agent is told there: a guest takes twenty times what it takes on hardware. */
const PATIENCE = "WRENN_COW=dm WRENN_BOOT_TIMEOUT_SEC=600";

const VMM = process.env.WRENN_VMM || "qemu";
/** Programs of VMMs by their settings: where they are on this machine, "" if they are not. */
const PROGRAMS = ["WRENN_FIRECRACKER_BIN", "WRENN_CLOUD_HYPERVISOR_BIN"].map((setting) => ({
  setting,
  program: process.env[setting] || "",
  /** In the rig, from the root. */
  path: `build/vmm/${setting.toLowerCase()}`,
}));

/** The repository, where reports go, and the settings with programs of VMMs. */
interface Place {
  readonly root: string;
  readonly home: string;
  readonly programs: string;
}
const HERE: Place = {
  ...{ root: ROOT, home: DIR },
  programs: PROGRAMS.map(({ setting, program }) => `${setting}=${program}`).join(" "),
};
const THERE: Place = {
  ...{ root: "/wrenn", home: "/root" },
  programs: PROGRAMS.map(({ setting, program, path }) =>
    program === "" ? `${setting}=` : `${setting}=/wrenn/${path}`,
  ).join(" "),
};
/** Of one VMM, by the folder of its driver. */
const OWN_TESTS = [
  { files: /^agent\/drivers\/firecracker\/.*\.kvm\.test\.ts$/, setting: "WRENN_FIRECRACKER_BIN" },
] as const;
const DRIVER_TESTS = /^agent\/drivers\/.*\.kvm\.test\.ts$/;
const CONTRACT = "agent/drivers/vmm-contract.vm.test.ts";

/** Begun again as a whole, and broken off where one fails. */
type Series = readonly string[];
const POWER_CUT = "tests/host-rig/host-life/power-cut.dm.test.ts";
const REBOOT = "tests/host-rig/host-life/reboot.dm.test.ts";
const HOST_LIFE: Series = [
  "tests/host-rig/host-life/setup.dm.test.ts",
  POWER_CUT,
  REBOOT,
  "tests/host-rig/host-life/removal.dm.test.ts",
];

/** Begun when the machine has started again, which nobody does to one that is no rig's. */
const STARTS: readonly string[] = [POWER_CUT, REBOOT];

type Outcome = "passed" | "failed" | "rig";

/** What the caller named does not exist. */
class ArgumentError extends Error {}

const [mode = "", ...chosen] = process.argv.slice(2);
try {
  process.exit(await main());
} catch (error) {
  if (error instanceof ArgumentError) {
    console.error(`Cannot test: ${error.message}`);
    process.exit(1);
  }
  if (!(error instanceof RigError)) throw error;
  console.error(`The rig failed: ${error.message}`);
  process.exit(2);
}

async function main(): Promise<number> {
  if (!["short", "full", "native"].includes(mode)) {
    throw new ArgumentError(`a mode is short, full or native, not ${JSON.stringify(mode)}`);
  }
  const all = await testSeries();
  await rm(RESULTS, { recursive: true, force: true });
  await mkdir(RESULTS, { recursive: true });
  if (mode === "native") return runHere(all.flat());

  const disk = await buildHostDisk(DIR);
  const payload = join(DIR, "payload.ext4");
  const given = PROGRAMS.filter(({ program }) => program !== "");
  const programs = new Map(given.map(({ path, program }) => [path, program]));
  await buildPayload(ROOT, { image: payload, programs });
  await using kernel = await Kernel.open(join(ROOT, "build/native"));
  const started = performance.now();
  await using machine = await RigMachine.start({
    ...{ dir: RESULTS, disk, payload, tscKhz: await kernel.tscKhz() },
  });
  console.log(`    the host is up (${seconds(started)} s)`);
  await requireDevices(machine);
  const outcomes: Outcome[] = [];
  for (const series of all) outcomes.push(...(await runThere(machine, series)));
  return close(all.flat(), outcomes);
}

/** The longest comes last. */
async function testSeries(): Promise<Series[]> {
  const files = await testFiles();
  const others = files.filter((file) => !HOST_LIFE.includes(file)).map((file) => [file]);
  const life = mode === "native" ? HOST_LIFE.filter((file) => !STARTS.includes(file)) : HOST_LIFE;
  return others.length < files.length ? [...others, life] : others;
}

async function testFiles(): Promise<string[]> {
  const glob = new Bun.Glob("{agent,rootfs,tests}/**/*.test.ts");
  const found = (await Array.fromAsync(glob.scan({ cwd: ROOT }))).sort();
  const empty = chosen.find((path) => !found.some((file) => file.startsWith(path)));
  if (empty !== undefined) throw new ArgumentError(`there is no test file at or below ${empty}`);
  const all = found.filter((file) => {
    const own = OWN_TESTS.find(({ files }) => files.test(file));
    const lacks = PROGRAMS.find(
      ({ setting, program }) => setting === own?.setting && program === "",
    );
    if (lacks !== undefined) console.log(`    ${file}: skipped, without ${lacks.setting}`);
    return lacks === undefined;
  });
  if (chosen.length > 0) return all.filter((file) => chosen.some((path) => file.startsWith(path)));
  const dm = all.filter((file) => /\.dm\.test\.ts$/.test(file));
  const others = all.filter((file) => /^agent\/.*\.(host|vm|kvm)\.test\.ts$/.test(file));
  const own = others.filter((file) => file === CONTRACT || DRIVER_TESTS.test(file));
  return mode === "short" ? [...own, ...dm] : [...dm, ...others];
}

/** They fail, never skip: a host without its devices is none. */
async function requireDevices(machine: RigMachine): Promise<void> {
  const command = `modprobe -a kvm_amd dm_snapshot loop tun; ls ${DEVICES.join(" ")} && ls /wrenn/agent`;
  const { status, output } = await machine.run(command, { timeoutMs: 120_000 });
  if (status !== 0) throw new RigError(`The host lacks something: ${output}`);
}

async function runThere(machine: RigMachine, series: Series): Promise<Outcome[]> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const outcomes: Outcome[] = [];
    try {
      for (const file of series) {
        if (file === POWER_CUT) await machine.cutPower();
        if (file === REBOOT) await machine.reboot();
        outcomes.push(await runFile(machine, file));
        if (outcomes.at(-1) === "failed") break;
      }
      return series.map((_, i) => outcomes[i] ?? "failed");
    } catch (error) {
      if (!(error instanceof RigError)) throw error;
      console.log(`    ${series[0]}: again, since ${error.message}`);
      if (error instanceof HostRestarted) await machine.awaitHost();
      else await machine.cutPower();
      await requireDevices(machine);
    }
  }
  return series.map(() => "rig");
}

async function runFile(machine: RigMachine, file: string): Promise<Outcome> {
  const startedAt = performance.now();
  const output = Bun.file(join(RESULTS, `${nameOf(file)}.log`)).writer();
  const { status } = await machine.run(commandOf(file, THERE), {
    timeoutMs: FILE_TIMEOUT_MS,
    print: (text) => void output.write(text),
  });
  await output.end();
  await machine.fetch("/root/results", RESULTS);
  const outcome = status === 0 ? "passed" : "failed";
  console.log(`    ${file}: ${outcome} (${seconds(startedAt)} s)`);
  return outcome;
}

async function runHere(files: readonly string[]): Promise<number> {
  const missing = DEVICES.filter((path) => !existsSync(path));
  if (missing.length > 0) throw new RigError(`This machine has no ${missing.join(", ")}`);
  const outcomes = files.map((file): Outcome => {
    const command = commandOf(file, HERE);
    const { success } = Bun.spawnSync(["bash", "-c", command], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    return success ? "passed" : "failed";
  });
  return close(files, outcomes);
}

/** A line of bash that tests one file. */
function commandOf(file: string, { root, home, programs }: Place): string {
  const report = join(home, "results", `${nameOf(file)}.xml`);
  return [
    `cd ${root} && mkdir -p ${join(home, "results")}`,
    `export PATH=$PWD/build/tools/node_modules/.bin:$PATH ${PATIENCE}`,
    // Empty is as good as unset to whoever reads them.
    `export WRENN_VMM=${VMM} ${programs} WRENN_SOAK=${SOAK}`,
    `bun test --timeout=${TEST_TIMEOUT_MS} --reporter=junit --reporter-outfile=${report} ./${file}`,
  ].join(" && ");
}

function close(files: readonly string[], outcomes: readonly Outcome[]): number {
  const count = (outcome: Outcome) => outcomes.filter((o) => o === outcome).length;
  const lost = files.filter((_, i) => outcomes[i] === "rig");
  if (lost.length > 0) console.error(`The rig did not last for ${lost.join(", ")}`);
  // Read by others: nothing else stands on the last line.
  console.log(`${count("passed")} passed, ${count("failed")} failed, ${lost.length} skipped`);
  if (count("failed") > 0) return 1;
  return lost.length > 0 ? 2 : 0;
}

function nameOf(file: string): string {
  return file.replaceAll("/", "-").replace(/\.test\.ts$/, "");
}

function seconds(sinceMs: number): string {
  return ((performance.now() - sinceMs) / 1000).toFixed(1);
}
