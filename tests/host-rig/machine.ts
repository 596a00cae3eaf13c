/**
 * The rig's host: a machine that QEMU emulates, with AMD's virtualisation in its processor, so that Linux in it
 * has a working /dev/kvm, and device-mapper. It is driven over ssh; its console goes to a file.
 *
 * That emulation is not perfect: the host's own kernel panics now and then, mostly while a guest runs. It then
 * starts again by itself, with its disks as they were; whoever waits for a command hears HostRestarted, and can
 * tell that from a command that failed. Every oops is made a panic: what goes on after one proves nothing.
 */

import { existsSync } from "node:fs";
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { freePort } from "../../scripts/dev/ports.ts";
import type { HostDisk } from "./disk.ts";

const MEMORY_MIB = 6144;
/** Up after 24 s on an idle machine, 75 s beside builds, 380 s at a load of 15: what counts is that it goes on. */
const BOOT_SILENCE_MS = 300_000;
const BOOT_TIMEOUT_MS = 1_800_000;
const POLL_MS = 1000;
/** A line of each start of a kernel, and what one says that cannot go on. */
const STARTED = /Linux version \d/g;
const PANIC = /^.*(Kernel panic - not syncing|BUG: |Oops: ).*$/gm;

/** The rig could not do its part; says nothing about what was to be tested. */
export class RigError extends Error {
  override readonly name: string = "RigError";
}

/** The host's kernel panicked during the command, or was started again. */
export class HostRestarted extends RigError {
  override readonly name = "HostRestarted";
}

export interface CommandResult {
  readonly status: number;
  readonly output: string;
}

export interface CommandOptions {
  readonly timeoutMs: number;
  /** Called with what it prints, as it does. */
  readonly print?: (text: string) => void;
}

export class RigMachine implements AsyncDisposable {
  readonly #dir: string;
  readonly #disk: HostDisk;
  readonly #port: number;
  readonly #qemu: Bun.Subprocess;

  private constructor(
    dir: string,
    options: { disk: HostDisk; port: number; qemu: Bun.Subprocess },
  ) {
    this.#dir = dir;
    this.#disk = options.disk;
    this.#port = options.port;
    this.#qemu = options.qemu;
  }

  /**
   * Starts the host with a disk that forgets what is written when the machine ends, and waits until it can be
   * asked. `dir` gets console.log and sockets.
   * @throws RigError
   */
  static async start(options: {
    dir: string;
    disk: HostDisk;
    payload: string;
    /** Of this machine's time stamp counter, which is the emulated one's: measuring it there fails when busy. */
    tscKhz: number;
  }): Promise<RigMachine> {
    const { dir, disk, payload, tscKhz } = options;
    const port = await freePort();
    const command = qemuCommand({ disk, payload, tscKhz, port, dir });
    const log = await open(join(dir, "qemu.log"), "w");
    const qemu = Bun.spawn(command, {
      stdio: ["ignore", log.fd, log.fd],
      // Where what the disks forget is kept meanwhile.
      env: { PATH: "/usr/bin:/bin", TMPDIR: "/var/tmp" },
    });
    await log.close();
    const machine = new RigMachine(dir, { disk, port, qemu });
    try {
      await machine.awaitHost();
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
    return machine;
  }

  /** Waits until the host answers, after its start or a panic. Throws RigError. */
  async awaitHost(): Promise<void> {
    await this.#dropConnection();
    const startedAt = performance.now();
    let [printed, printedAt] = [0, startedAt];
    while (performance.now() < Math.min(startedAt + BOOT_TIMEOUT_MS, printedAt + BOOT_SILENCE_MS)) {
      const { length } = await this.#console();
      if (length !== printed) [printed, printedAt] = [length, performance.now()];
      if (this.#qemu.exitCode !== null || this.#qemu.signalCode !== null) {
        const said = await readFile(join(this.#dir, "qemu.log"), "utf8");
        throw new RigError(`QEMU has ended: ${said.slice(-1000)}`);
      }
      const { status } = await this.#ssh("systemctl is-system-running --wait", {
        timeoutMs: 60_000,
      });
      // 1: some unit failed, which is not this waiter's business.
      if (status === 0 || status === 1) return;
      await Bun.sleep(POLL_MS);
    }
    const waitedSec = Math.round((performance.now() - startedAt) / 1000);
    throw new RigError(`The host did not answer within ${waitedSec} s`);
  }

  /**
   * Runs a command line of bash as root.
   * @throws HostRestarted if the host's kernel did not last; RigError if the host answers no more. A command
   * that takes too long has status 124 if the host still answers.
   */
  async run(command: string, options: CommandOptions): Promise<CommandResult> {
    const starts = await this.#starts();
    const done = new AbortController();
    const restarted = this.#awaitStart(starts, done.signal);
    try {
      const result = await Promise.race([this.#ssh(command, options), restarted]);
      // 255 is ssh's own: the connection broke, before the console tells why.
      if (result.status !== 255 && result.status !== 124) return result;
      if (this.#qemu.exitCode !== null || this.#qemu.signalCode !== null) {
        throw new RigError("QEMU has ended");
      }
      const { status } = await Promise.race([this.#ssh("true", { timeoutMs: 60_000 }), restarted]);
      if (status === 0) return result;
      return await Promise.race([restarted, Bun.sleep(60_000).then(() => silent())]);
    } finally {
      done.abort();
    }
  }

  /** Like pulling the plug: what was not synced is lost. Then as awaitHost. */
  async cutPower(): Promise<void> {
    await this.#monitor("system_reset");
    await this.awaitHost();
  }

  /** As an operator does it: what runs there is told to end. Then as awaitHost. */
  async reboot(): Promise<void> {
    const [starts, startedAt] = [await this.#starts(), performance.now()];
    await this.#ssh("systemctl reboot", { timeoutMs: 60_000 });
    while ((await this.#starts()) === starts) {
      if (performance.now() > startedAt + BOOT_SILENCE_MS) {
        throw new RigError("The host did not shut down");
      }
      await Bun.sleep(POLL_MS);
    }
    await this.awaitHost();
  }

  /** Copies a file or directory of the host into a directory of this machine. False if that failed. */
  async fetch(path: string, to: string): Promise<boolean> {
    const tar = Bun.spawn(
      ["bash", "-c", `"$@" | tar -x -C "$0"`, to, ...this.#sshCommand(`tar -c -C ${path} .`)],
      { stdio: ["ignore", "ignore", "ignore"], timeout: 120_000, killSignal: "SIGKILL" },
    );
    return (await tar.exited) === 0;
  }

  /** What its kernel said before it started again, newest last. */
  async panics(): Promise<string[]> {
    return [...(await this.#console()).matchAll(PANIC)].map(([line]) => line.trim());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#qemu.kill("SIGKILL");
    await this.#qemu.exited;
    await this.#dropConnection();
  }

  /** Ends the connection that all commands share: to a host that started anew it hangs for two minutes. */
  async #dropConnection(): Promise<void> {
    const master = Bun.spawn(["ssh", "-O", "exit", ...this.#sshOptions(), "rig"], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    await master.exited;
  }

  async #starts(): Promise<number> {
    return [...(await this.#console()).matchAll(STARTED)].length;
  }

  async #awaitStart(before: number, signal: AbortSignal): Promise<never> {
    while (!signal.aborted && (await this.#starts()) === before) await Bun.sleep(POLL_MS);
    if (signal.aborted) return new Promise(() => {});
    const said = (await this.panics()).at(-1) ?? "without a word";
    throw new HostRestarted(`The host's kernel panicked: ${said}`);
  }

  async #console(): Promise<string> {
    const path = join(this.#dir, "console.log");
    return existsSync(path) ? readFile(path, "latin1") : "";
  }

  async #ssh(command: string, { timeoutMs, print }: CommandOptions): Promise<CommandResult> {
    const child = Bun.spawn(this.#sshCommand(command), { stdio: ["ignore", "pipe", "ignore"] });
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      child.kill("SIGKILL");
    }, timeoutMs);
    const decoder = new TextDecoder();
    let output = "";
    for await (const chunk of child.stdout) {
      const text = decoder.decode(chunk, { stream: true });
      output += text;
      print?.(text);
    }
    const status = await child.exited;
    clearTimeout(timer);
    return { status: isLate ? 124 : status, output };
  }

  #sshCommand(command: string): string[] {
    return ["ssh", ...this.#sshOptions(), "rig", `exec bash -c ${quote(command)} 2>&1`];
  }

  #sshOptions(): string[] {
    const settings = {
      HostName: "127.0.0.1",
      Port: String(this.#port),
      User: "root",
      IdentityFile: this.#disk.privateKey,
      StrictHostKeyChecking: "no",
      UserKnownHostsFile: "/dev/null",
      LogLevel: "ERROR",
      ConnectTimeout: "20",
      ServerAliveInterval: "15",
      ServerAliveCountMax: "8",
      // A handshake costs an emulated processor seconds.
      ControlMaster: "auto",
      ControlPersist: "60",
      ControlPath: join(this.#dir, "ssh.sock"),
    };
    const options = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
    return ["-F", "/dev/null", ...options];
  }

  async #monitor(command: string): Promise<void> {
    const unix = join(this.#dir, "monitor.sock");
    const socket = await Bun.connect({ unix, socket: { data() {} } }).catch((cause: unknown) => {
      throw new RigError("QEMU takes no commands", { cause });
    });
    socket.write(`${command}\n`);
    socket.flush();
    await Bun.sleep(POLL_MS);
    socket.end();
  }
}

function silent(): never {
  throw new RigError("The host does not answer, and its console does not say why");
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function qemuCommand(options: {
  disk: HostDisk;
  payload: string;
  tscKhz: number;
  port: number;
  dir: string;
}): string[] {
  const { disk, payload, tscKhz, port, dir } = options;
  const cmdline = [
    ...[
      "console=ttyS0",
      "root=LABEL=rig",
      "rw",
      "panic=-1",
      "oops=panic",
      "mitigations=off",
      "audit=0",
    ],
    ...["no_timer_check", `tsc_early_khz=${tscKhz}`, "tsc=reliable", "systemd.show_status=0"],
  ];
  const drive = (file: string) => [
    "-drive",
    `file=${file},format=raw,if=virtio,snapshot=on,cache=unsafe,discard=unmap,detect-zeroes=unmap`,
  ];
  return [
    "qemu-system-x86_64",
    ...["-accel", "tcg,thread=multi,tb-size=1024", "-machine", "q35", "-cpu", "EPYC,+svm,+npt"],
    ...[
      "-smp",
      "2",
      "-m",
      String(MEMORY_MIB),
      "-nodefaults",
      "-no-user-config",
      "-display",
      "none",
    ],
    ...["-kernel", disk.kernel, "-initrd", disk.initrd, "-append", cmdline.join(" ")],
    ...drive(disk.image),
    ...drive(payload),
    ...["-netdev", `user,id=net0,restrict=on,hostfwd=tcp:127.0.0.1:${port}-:22`],
    ...["-device", "virtio-net-pci,netdev=net0", "-device", "virtio-rng-pci"],
    ...["-serial", `file:${join(dir, "console.log")}`],
    ...["-monitor", `unix:${join(dir, "monitor.sock")},server=on,wait=off`],
  ];
}
