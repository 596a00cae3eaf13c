// A process in a guest that remembers what must survive pauses (witness.py), asked from this side.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { AgentProcess } from "./agent-process.ts";
import { waitFor } from "./wait-for.ts";

const PROGRAM = join(import.meta.dirname, "witness.py");
const PORT = 7007;
/** Where guests are emulated Python takes its time. */
const START_TIMEOUT_MS = 60_000;
const ANSWER_TIMEOUT_MS = 60_000;
/** Of reading its clock: small beside what a clock may be off. */
const CLOCK_ERROR_MS = 8;
const CLOCK_EXCHANGES_MAX = 40;

export interface WitnessClock {
  /** Before the host's, if it is above 0. */
  readonly aheadMs: number;
  /** How far that can be wrong. */
  readonly errorMs: number;
  /** Of the guest's clock against one that nobody sets: the first, and one after each jump. */
  readonly offsetsMs: readonly number[];
}

export class Witness {
  readonly #agent: AgentProcess;

  constructor(agent: AgentProcess) {
    this.#agent = agent;
  }

  /** Starts it in the capsule and returns once it answers. */
  async start(sandboxId: string, seed: string): Promise<void> {
    const path = "/root/witness.py";
    const { client } = this.#agent;
    await client.writeFile({ sandboxId, path, content: await readFile(PROGRAM) });
    const command = { cmd: "/usr/bin/python3", args: [path, String(PORT), seed], tag: "witness" };
    await client.startBackground({ sandboxId, ...command });
    const look = () => this.ask(sandboxId, "state").then(() => "an answer", String);
    await waitFor("the witness", look, {
      holds: (seen) => seen === "an answer",
      timeoutMs: START_TIMEOUT_MS,
    });
  }

  /** What it answers to those words. Throws if it does not. */
  async ask(sandboxId: string, words: string): Promise<unknown> {
    return JSON.parse(await exchange(await this.#hostIp(sandboxId), words));
  }

  /** How far the guest's clock is off, by the shortest of as many exchanges as it takes. */
  async clock(sandboxId: string): Promise<WitnessClock> {
    const hostIp = await this.#hostIp(sandboxId);
    let [leastMs, mostMs] = [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY];
    for (let i = 0; ; i += 1) {
      const sentAtMs = Date.now();
      const startedAt = performance.now();
      const { nowMs, offsetsMs } = JSON.parse(await exchange(hostIp, "clock"));
      // It read its clock after the question and before the answer.
      mostMs = Math.min(mostMs, nowMs - sentAtMs);
      leastMs = Math.max(leastMs, nowMs - sentAtMs - (performance.now() - startedAt));
      const errorMs = (mostMs - leastMs) / 2;
      if (errorMs <= CLOCK_ERROR_MS || i === CLOCK_EXCHANGES_MAX) {
        return { aheadMs: (leastMs + mostMs) / 2, errorMs, offsetsMs };
      }
    }
  }

  async #hostIp(sandboxId: string): Promise<string> {
    const { sandboxes } = await this.#agent.client.listSandboxes({});
    const hostIp = sandboxes.find((sandbox) => sandbox.sandboxId === sandboxId)?.hostIp;
    if (!hostIp) throw new Error(`${sandboxId} has no address`);
    return hostIp;
  }
}

/** One line there, all that comes back. */
async function exchange(hostname: string, line: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error(`No answer to ${line}`)), ANSWER_TIMEOUT_MS);
  let text = "";
  const connecting = Bun.connect({
    hostname,
    port: PORT,
    socket: {
      open: (socket) => void socket.write(`${line}\n`),
      data: (_, bytes) => {
        text += bytes.toString("latin1");
      },
      close: () => resolve(text),
      error: (_, error) => reject(error),
      connectError: (_, error) => reject(error),
    },
  });
  connecting.catch(reject);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    void connecting.then((socket) => socket.terminate()).catch(() => {});
  }
}
