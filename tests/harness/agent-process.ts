// A real agent in a directory of its own, without a control plane: what the agent's own tests drive,
// kill and start again.

import { closeSync, openSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { AgentClient, AgentOfHost } from "../../cp/agents/agent-clients.ts";
import { encodeId, newId } from "../../proto/ids.ts";
import { installGuestFiles } from "../../scripts/dev/guest-files.ts";
import { freePort } from "../../scripts/dev/ports.ts";
import { journalRows } from "./leaks.ts";
import { AGENT_IDENTITY, AGENT_NAME, agentClients } from "./test-certificates.ts";
import { GUEST_MS, waitFor } from "./wait-for.ts";

const REPOSITORY = resolve(import.meta.dirname, "../..");
/** The probe of the VMM runs a guest once per directory. */
const START_TIMEOUT_MS = 180_000;
const ANSWER_TIMEOUT_MS = 2_000;

export const PLATFORM_TEAM = "00000000-0000-0000-0000-000000000000";
export const MINIMAL_DEBIAN = "00000000-0000-0000-0000-000000000004";

/** Of the agent itself, for as long as it runs. */
const AGENT_SOCKET = "run/rpc.sock";

export interface Leftovers {
  readonly netns: string[];
  readonly links: string[];
  readonly cgroups: string[];
  readonly processes: string[];
  readonly files: string[];
  readonly claims: string[];
  /** Of device-mapper, and loop devices. */
  readonly devices: string[];
  /** Of the firewall, naming one capsule's link. */
  readonly rules: string[];
  /** Of the journal: capsule and state. */
  readonly rows: string[];
}

export const NOTHING: Leftovers = {
  netns: [],
  links: [],
  cgroups: [],
  processes: [],
  files: [],
  claims: [],
  devices: [],
  rules: [],
  rows: [],
};

export class AgentProcess implements AsyncDisposable {
  readonly dir: string;
  readonly address: string;
  readonly client: AgentClient;
  readonly hostId = newId("host");
  #child: Bun.Subprocess<"ignore", "ignore", number> | null = null;

  private constructor(dir: string, port: number) {
    this.dir = dir;
    this.address = `127.0.0.1:${port}`;
    this.client = agentClients().at(this.place);
  }

  /** An agent that runs, with the base image installed; tokens are made up, as nobody checks them. */
  static async start(parent: string = tmpdir()): Promise<AgentProcess> {
    const dir = await mkdtemp(join(parent, "wrenn-agent-"));
    await installGuestFiles(REPOSITORY, dir);
    const agent = new AgentProcess(dir, await freePort());
    const host_id = encodeId("host", agent.hostId);
    const { certPem: cert_pem, keyPem: key_pem, trustedPem: ca_cert_pem } = AGENT_IDENTITY;
    const certificate = { cert_pem, key_pem, ca_cert_pem };
    const credentials = { host_id, jwt: "-", refresh_token: "-", ...certificate };
    await Bun.write(join(dir, "host-credentials.json"), JSON.stringify(credentials));
    await agent.restart();
    return agent;
  }

  /** For whoever calls it, whatever host it is. */
  get place(): AgentOfHost {
    return { id: null, address: this.address, certName: AGENT_NAME };
  }

  get pid(): number {
    if (!this.#child) throw new Error("The agent does not run");
    return this.#child.pid;
  }

  /** Starts the program and waits until it answers. */
  async restart(
    options: {
      failpoint?: string;
      warm?: "on";
      logPath?: string;
      env?: Readonly<Record<string, string>>;
    } = {},
  ): Promise<void> {
    // Appended to: the log tells of all the agents that ran here.
    const log = openSync(options.logPath ?? join(this.dir, "agent.log"), "a");
    this.#child = Bun.spawn(
      [process.execPath, join(REPOSITORY, "agent/main.ts"), "--address", this.address],
      {
        cwd: REPOSITORY,
        env: {
          PATH: process.env.PATH,
          WRENN_DIR: this.dir,
          WRENN_HOST_LISTEN_ADDR: this.address,
          // Nobody listens there: a lost control plane stops nothing.
          WRENN_CP_URL: "http://127.0.0.1:9",
          // No slots in store, so that every one there is belongs to a capsule.
          WRENN_NETWORK_POOL: "0",
          // A real host's tests are run with its own kind of disks, its own VMM, and its own patience.
          WRENN_COW: process.env.WRENN_COW ?? "copy",
          WRENN_BOOT_TIMEOUT_SEC: process.env.WRENN_BOOT_TIMEOUT_SEC ?? "",
          WRENN_VMM: process.env.WRENN_VMM ?? "",
          WRENN_FIRECRACKER_BIN: process.env.WRENN_FIRECRACKER_BIN ?? "",
          WRENN_CLOUD_HYPERVISOR_BIN: process.env.WRENN_CLOUD_HYPERVISOR_BIN ?? "",
          LOG_LEVEL: "debug",
          // Nothing is made that was not asked for, unless that is what is tested.
          WRENN_WARM: options.warm ?? "off",
          WRENN_FAILPOINT: options.failpoint ?? "",
          ...options.env,
        },
        stdio: ["ignore", "ignore", log],
      },
    );
    closeSync(log);
    await waitFor(`the agent to answer (${this.dir}/agent.log)`, () => this.#answers(), {
      timeoutMs: START_TIMEOUT_MS,
    });
  }

  /** Ends the program and waits for its end. */
  async kill(signal: "SIGKILL" | "SIGTERM" = "SIGKILL"): Promise<void> {
    this.#child?.kill(signal);
    await this.exited();
  }

  /** Waits until a failpoint has stopped the program. */
  async stopped(): Promise<void> {
    // A process that waits for SIGCONT: proc(5).
    const look = () => readFile(`/proc/${this.pid}/stat`, "latin1");
    const holds = (stat: string) => stat.includes(") T ");
    await waitFor("the failpoint to stop the agent", look, { holds, timeoutMs: GUEST_MS });
  }

  /** Lets a stopped program go on. */
  goOn(): void {
    this.#child?.kill("SIGCONT");
  }

  /** The exit code, or null if a signal ended it. */
  async exited(): Promise<number | null> {
    const child = this.#child;
    if (!child) return null;
    const holds = () => true;
    await waitFor("the end of the agent", () => child.exited, { holds, timeoutMs: GUEST_MS });
    return child.signalCode === null ? child.exitCode : null;
  }

  async log(): Promise<string> {
    return await readFile(join(this.dir, "agent.log"), "utf8");
  }

  /** A request to make a small capsule. */
  createRequest(sandboxId: string = encodeId("capsule", newId("capsule"))) {
    return {
      sandboxId,
      operationId: crypto.randomUUID(),
      vcpus: 1,
      memoryMb: 256,
      teamId: PLATFORM_TEAM,
      templateId: MINIMAL_DEBIAN,
      templateTeamId: PLATFORM_TEAM,
      defaultUser: "root",
      envdAccessToken: "0123456789abcdef".repeat(4),
    };
  }

  /** A new operation on the capsule. */
  operation(sandboxId: string) {
    return { sandboxId, operationId: crypto.randomUUID() };
  }

  resumeRequest(sandboxId: string) {
    const { defaultUser, envdAccessToken } = this.createRequest(sandboxId);
    return { ...this.operation(sandboxId), defaultUser, envdAccessToken };
  }

  /** Makes a capsule and answers its id. */
  async create(): Promise<string> {
    return (await this.client.createSandbox(this.createRequest())).sandboxId;
  }

  /** What a shell script in the capsule prints, whatever its exit code. Throws if it does not end. */
  async sh(sandboxId: string, script: string): Promise<string> {
    const timeoutSec = GUEST_MS / 1000;
    const command = { sandboxId, cmd: "/bin/sh", args: ["-c", script], timeoutSec };
    const { stdout, timedOut } = await this.client.exec(command);
    // The half that it had printed would pass for all of it.
    if (timedOut) throw new Error(`${sandboxId}: did not end in ${timeoutSec} s: ${script}`);
    return new TextDecoder().decode(stdout);
  }

  async statuses(): Promise<Record<string, string>> {
    const { sandboxes } = await this.client.listSandboxes({});
    return Object.fromEntries(sandboxes.map(({ sandboxId, status }) => [sandboxId, status]));
  }

  /** The pids of VMM, keeper and, of a restored capsule, pager. */
  async pids(sandboxId: string): Promise<{ pid: number; keeperPid: number; pagerPid?: number }> {
    return JSON.parse(await readFile(join(this.dir, "run", sandboxId, "vmm.json"), "utf8"));
  }

  /** Everything on this machine that belongs to a capsule of this agent. */
  async leftovers(): Promise<Leftovers> {
    const tag = (await readFile(join(this.dir, "tag"), "utf8")).trim();
    const files = await Promise.all(
      ["run", "sandboxes", "snapshots", "logs"].map(async (name) =>
        (await names(join(this.dir, name))).map((file) => `${name}/${file}`),
      ),
    );
    return {
      netns: (await names("/run/netns")).filter((name) => name.startsWith(`wrenn-${tag}-`)),
      links: (await names("/sys/class/net")).filter((name) => name.startsWith(`wv-${tag}-`)),
      cgroups: await this.#cgroups(tag),
      processes: await this.#processes(tag),
      files: [...files.flat(), ...(await this.#templateFiles())].filter((f) => f !== AGENT_SOCKET),
      claims: await this.#claims(),
      devices: [
        ...(await lines(["dmsetup", "ls"], `wrenn-${tag}-`)),
        ...(await lines(["losetup", "--noheadings", "--output", "BACK-FILE"], `${this.dir}/`)),
      ],
      rules: await lines(
        ["nft", "list", "table", "inet", `wrenn_${tag}`],
        `"wv-${tag}-`,
        /wv-\w+-\d/,
      ),
      rows: journalRows(this.dir),
    };
  }

  /** Templates that hold memory, and what was half made. */
  async #templateFiles(): Promise<string[]> {
    const glob = new Bun.Glob("{images/teams/*/*/*,warm/*.*}");
    const found = await Array.fromAsync(glob.scan({ cwd: this.dir, onlyFiles: false }));
    return found.filter((name) => !name.endsWith("/rootfs.ext4")).sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child?.exitCode === null && this.#child.signalCode === null) {
      await this.client.terminate({});
      if ((await this.exited()) !== 0) throw new Error(`It left something: ${await this.log()}`);
    }
    await rm(this.dir, { recursive: true });
  }

  /** @throws Error with the log once the program has ended instead. */
  async #answers(): Promise<boolean> {
    const isOver = this.#child?.exitCode !== null || this.#child.signalCode !== null;
    if (isOver) throw new Error(`The agent did not start: ${await this.log()}`);
    try {
      await this.client.listSandboxes({}, { timeoutMs: ANSWER_TIMEOUT_MS });
      return true;
    } catch {
      return false;
    }
  }

  /** Of any hierarchy; the agent's own group, which outlives its capsules, apart. */
  async #cgroups(tag: string): Promise<string[]> {
    const roots = ["", ...(await names("/sys/fs/cgroup"))];
    const groups = roots.map((root) => join("/sys/fs/cgroup", root, `wrenn-${tag}`));
    return (await Promise.all(groups.map(names))).flat().filter((name) => name.startsWith("cl-"));
  }

  /** Keepers, whose command line names the agent's directory, and what runs in its cgroups. */
  async #processes(tag: string): Promise<string[]> {
    const found: string[] = [];
    for (const pid of (await names("/proc")).filter((name) => /^\d+$/.test(name))) {
      if (Number(pid) === process.pid || Number(pid) === this.#child?.pid) continue;
      const read = (file: string) => readFile(`/proc/${pid}/${file}`, "utf8").catch(() => "");
      const commandLine = await read("cmdline");
      const isOurs =
        commandLine.includes(join(this.dir, "run/")) ||
        (await read("cgroup")).includes(`/wrenn-${tag}/`);
      if (isOurs) found.push(commandLine.split("\0")[0] ?? "");
    }
    return found;
  }

  async #claims(): Promise<string[]> {
    const dir = "/run/wrenn/slots";
    const owners = await Promise.all(
      (await names(dir)).map((name) => readFile(join(dir, name), "utf8").catch(() => "")),
    );
    return owners.filter((owner) => owner.trim() === this.dir);
  }
}

/** Lines of the command's output that have the text and match the pattern. */
async function lines(command: string[], text: string, pattern = /./): Promise<string[]> {
  const child = Bun.spawn(command, { stdio: ["ignore", "pipe", "ignore"] });
  const printed = (await new Response(child.stdout).text()).split("\n");
  return printed.filter((line) => line.includes(text) && pattern.test(line)).sort();
}

async function names(dir: string): Promise<string[]> {
  return (await readdir(dir).catch(() => [])).sort();
}
