// An agent on a small file system of its own, which a test fills, and a capsule that is known by what it has.

import type { Failpoint } from "../../agent/failpoints.ts";
import { arm, codeOf } from "./agent-calls.ts";
import { AgentProcess } from "./agent-process.ts";
import { SmallDisk } from "./small-disk.ts";
import { GUEST_MS, waitFor } from "./wait-for.ts";

const STATE = "cat /proc/sys/kernel/random/boot_id /dev/shm/nonce";

export class CrampedAgent implements AsyncDisposable {
  readonly disk: SmallDisk;
  readonly agent: AgentProcess;
  /** The capsule. */
  readonly id: string;
  /** Which boot its guest is, and what it has in memory. */
  readonly state: string;
  readonly #stack: AsyncDisposableStack;

  private constructor(
    parts: Pick<CrampedAgent, "disk" | "agent" | "id" | "state">,
    stack: AsyncDisposableStack,
  ) {
    this.disk = parts.disk;
    this.agent = parts.agent;
    this.id = parts.id;
    this.state = parts.state;
    this.#stack = stack;
  }

  /** `size` as truncate(1) takes it. */
  static async start(size: string): Promise<CrampedAgent> {
    await using stack = new AsyncDisposableStack();
    const disk = stack.use(await SmallDisk.mount(size));
    const agent = stack.use(await AgentProcess.start(disk.path));
    const id = await agent.create();
    await agent.sh(id, "head -c 16 /dev/urandom | base64 > /dev/shm/nonce");
    const state = await agent.sh(id, STATE);
    return new CrampedAgent({ disk, agent, id, state }, stack.move());
  }

  /** What `state` is as long as the guest is the one that it was, of this capsule or another. There must be room. */
  async stateOf(id: string = this.id): Promise<string> {
    await this.#untilMoves(id);
    return await this.agent.sh(id, STATE);
  }

  /** Empties the disk again; a guest that met it full, as every guest writes now and then, goes on first. */
  async makeRoom(): Promise<void> {
    await this.disk.makeRoom();
    await this.#untilMoves(this.id);
  }

  async #untilMoves(id: string): Promise<void> {
    const call = () =>
      codeOf(this.agent.client.exec({ sandboxId: id, cmd: "true", timeoutSec: 60 }));
    await waitFor(`${id} to stand still no longer`, call, {
      holds: (code) => code !== "ResourceExhausted",
      timeoutMs: GUEST_MS,
    });
  }

  /** Runs the call up to the point, and on without any room; the name of the code that it fails with, or "none". */
  async withoutRoomFrom(point: Failpoint, call: () => Promise<unknown>): Promise<string> {
    await arm(this.agent, `${point}:stop`);
    const code = codeOf(call());
    await this.agent.stopped();
    // One that stays stopped would end no test after this one.
    await this.disk.fillUp().finally(() => this.agent.goOn());
    return await code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}
