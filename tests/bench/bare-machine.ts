// One running bare VMM: its monitor, and its guest's envd spoken to directly.

import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import {
  continueGuest,
  loadGuest,
  prepareSave,
  saveGuest,
  stopGuest,
} from "../../agent/drivers/qemu/qemu-state.ts";
import { QmpClient } from "../../agent/drivers/qemu/qmp.ts";
import type { DescriptorSender } from "../../agent/native/descriptor-sender.ts";
import type { NetworkSlot } from "../../agent/network/network-pool.ts";
import { Process } from "../../proto/gen/envd/process_pb.js";
import { runDirectly } from "./guest-baseline.ts";

const QMP_TIMEOUT_MS = 30_000;
const TRY_TIMEOUT_MS = 500;
const ENVD_TIMEOUT_MS = 180_000;

export class BareMachine implements AsyncDisposable {
  readonly disk: string;
  readonly ram: string;
  readonly #qemu: Bun.Subprocess;
  readonly #dir: string;
  readonly #sender: DescriptorSender;
  readonly #free: () => Promise<void>;
  readonly #baseUrl: string;
  readonly #token = crypto.randomUUID();

  constructor(parts: {
    qemu: Bun.Subprocess;
    dir: string;
    disk: string;
    ram: string;
    sender: DescriptorSender;
    free: () => Promise<void>;
    slot: NetworkSlot;
  }) {
    this.disk = parts.disk;
    this.ram = parts.ram;
    this.#qemu = parts.qemu;
    this.#dir = parts.dir;
    this.#sender = parts.sender;
    this.#free = parts.free;
    this.#baseUrl = `http://${parts.slot.hostIp}:49983`;
  }

  get pid(): number {
    return this.#qemu.pid;
  }

  /** Loads what stopAndSave left in that directory, and lets the guest run. */
  async load(dir: string): Promise<void> {
    await using qmp = await this.#connect();
    await loadGuest(qmp, { dir, sender: this.#sender });
    await continueGuest(qmp);
  }

  /** Stops the guest and writes its device state. */
  async stopAndSave(dir = this.#dir): Promise<void> {
    await using qmp = await this.#connect();
    await prepareSave(qmp, { dir, sender: this.#sender });
    await stopGuest(qmp);
    await saveGuest(qmp);
  }

  async continue(): Promise<void> {
    await using qmp = await this.#connect();
    await continueGuest(qmp);
  }

  async awaitEnvd(): Promise<void> {
    const deadline = performance.now() + ENVD_TIMEOUT_MS;
    while (performance.now() < deadline) {
      const signal = AbortSignal.timeout(TRY_TIMEOUT_MS);
      const health = await fetch(`${this.#baseUrl}/health`, { signal }).catch(() => null);
      if (health?.ok) return;
      await Bun.sleep(10);
    }
    throw new Error("The bare guest does not answer");
  }

  /** Gives envd a token and the time, as the platform does after a boot. */
  async init(): Promise<void> {
    const accessToken = this.#token;
    const init = await fetch(`${this.#baseUrl}/init`, {
      method: "POST",
      headers: { "content-type": "application/json", "x-access-token": accessToken },
      body: JSON.stringify({ accessToken, timestamp: new Date().toISOString() }),
    });
    if (!init.ok) throw new Error(`/init answered ${init.status}`);
  }

  async execTrue(): Promise<void> {
    const transport = createConnectTransport({
      baseUrl: this.#baseUrl,
      useBinaryFormat: true,
      interceptors: [
        (next) => (request) => {
          request.header.set("X-Access-Token", this.#token);
          return next(request);
        },
      ],
    });
    await runDirectly(createClient(Process, transport), "/bin/true");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#qemu.kill("SIGKILL");
    await this.#qemu.exited;
    await this.#free();
  }

  /** Its socket appears some milliseconds after its start. */
  async #connect(): Promise<QmpClient> {
    const deadline = performance.now() + QMP_TIMEOUT_MS;
    for (;;) {
      try {
        const options = { name: "qmp.sock", timeoutMs: QMP_TIMEOUT_MS };
        return await QmpClient.connect(this.#dir, options);
      } catch (error) {
        if (performance.now() > deadline || this.#qemu.exitCode !== null) throw error;
        await Bun.sleep(1);
      }
    }
  }
}
