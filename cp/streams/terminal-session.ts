// A terminal on a WebSocket. What the client types goes to the agent in its order, one call at a time:
// a resize or a kill stays behind the input before it. A client that goes away leaves the terminal
// running, to be attached to again by its tag.

import { Code, ConnectError } from "@connectrpc/connect";
import { encodeId } from "../../proto/ids.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { GUEST_CALL_TIMEOUT_MS } from "../agents/limits.ts";
import type { RunningCapsule } from "../capsules/find-on-host.ts";
import { randomHex } from "../digest.ts";
import { AppError } from "../errors.ts";
import { agentEvents } from "./agent-events.ts";
import { INPUT_BYTES_MAX, INPUT_STALL_MS } from "./limits.ts";
import { pieces } from "./output-text.ts";
import { firstMessage } from "./process-session.ts";
import {
  InputMessage,
  messageReader,
  ResizeMessage,
  TerminalConnect,
  TerminalStart,
} from "./schema.ts";
import type { ClientMessage, StreamSocket } from "./socket.ts";

const SHELL = "/bin/bash";
const COLS = 80;
const ROWS = 24;
/** How often a call that waits looks whether it is to be overtaken. */
const STALL_POLL_MS = 250;

const readStart = messageReader(TerminalStart);
const readConnect = messageReader(TerminalConnect);
const readInput = messageReader(InputMessage);
const readResize = messageReader(ResizeMessage);

/** How output goes to the client: as it is, or in JSON for the first clients. Input comes either way. */
export type TerminalFrames = "binary" | "json";

/** Starts a terminal or attaches to one, as the client's first message says. */
export async function serveTerminal(
  socket: StreamSocket,
  running: RunningCapsule,
  { frames, impliedUser }: { frames: TerminalFrames; impliedUser: string },
): Promise<void> {
  const { capsule, agent } = running;
  const sandboxId = encodeId("capsule", capsule.id);
  const message = await firstMessage(socket, ["start", "connect"]);
  const request = { sandboxId, ...terminalOf(message, impliedUser) };
  const controls = new TerminalControls(socket, running, request.tag);

  const events = agentEvents((options) => agent.ptyAttach(request, options), socket.gone);
  for await (const { event } of events) {
    switch (event.case) {
      case "started":
        await socket.send({ type: "started", tag: request.tag, pid: event.value.pid });
        void controls.run();
        break;
      case "output":
        for (const piece of pieces(event.value.data)) {
          const isRaw = frames === "binary";
          await socket.send(isRaw ? piece : { type: "output", data: piece.toBase64() });
        }
        break;
      case "exited":
        await socket.send({ type: "exit", exit_code: event.value.exitCode });
        return;
    }
  }
  if (!socket.gone.aborted) throw new AppError("agent_error", "The stream ended too early");
}

function terminalOf(message: ClientMessage, impliedUser: string) {
  if (message.type === "connect") {
    const { tag, scrollback = false } = readConnect(message);
    return { tag, cmd: "", scrollback };
  }
  const { cmd, args, envs, cwd, user, cols, rows } = readStart(message);
  return {
    tag: `pty-${randomHex(4)}`,
    cmd: cmd || SHELL,
    args: args ?? [],
    envs: envs ?? {},
    cwd: cwd ?? "",
    user: user ?? impliedUser,
    cols: cols || COLS,
    rows: rows || ROWS,
  };
}

/** What the client does to its terminal. */
class TerminalControls {
  readonly #socket: StreamSocket;
  readonly #running: RunningCapsule;
  readonly #target: { readonly sandboxId: string; readonly tag: string };

  constructor(socket: StreamSocket, running: RunningCapsule, tag: string) {
    this.#socket = socket;
    this.#running = running;
    this.#target = { sandboxId: encodeId("capsule", running.capsule.id), tag };
  }

  /** Does what the client's messages say, in their order, until the client is gone. */
  async run(): Promise<void> {
    for (;;) {
      const message = await this.#socket.receive();
      if (message === null) return;
      try {
        await this.#do(message);
      } catch (error) {
        await this.#report(error);
      }
    }
  }

  async #do(message: ClientMessage): Promise<void> {
    const { agent } = this.#running;
    const options = { timeoutMs: GUEST_CALL_TIMEOUT_MS };
    switch (message.type) {
      case "input":
        return await this.#type(this.#joinInput(message));
      case "resize": {
        const { cols, rows } = readResize(message);
        await agent.ptyResize({ ...this.#target, cols, rows }, options);
        return;
      }
      case "kill":
        await agent.ptyKill(this.#target, options);
    }
  }

  /** The input with what follows it at once and is nothing but input. */
  #joinInput(first: ClientMessage): Uint8Array {
    const parts = [decodeInput(first)];
    let sizeBytes = parts[0]?.byteLength ?? 0;
    while (sizeBytes < INPUT_BYTES_MAX) {
      const next = this.#socket.takeIf(isInput);
      if (next === null) break;
      try {
        const part = decodeInput(next);
        parts.push(part);
        sizeBytes += part.byteLength;
      } catch (error) {
        void this.#report(error);
      }
    }
    return Buffer.concat(parts);
  }

  async #type(data: Uint8Array): Promise<void> {
    for (let start = 0; start < data.byteLength; start += INPUT_BYTES_MAX) {
      await this.#typePart(data.subarray(start, start + INPUT_BYTES_MAX));
    }
  }

  /**
   * Waits for the process to take the input, unless it does not and the client wants to kill it or has
   * gone: what a client sends with its last breath is still typed.
   */
  async #typePart(data: Uint8Array): Promise<void> {
    const overtaken = new AbortController();
    const startedAt = performance.now();
    const watch = setInterval(() => {
      const isStalled = performance.now() - startedAt > INPUT_STALL_MS;
      const isToEnd = this.#socket.gone.aborted || this.#socket.hasWaiting(isKill);
      if (isStalled && isToEnd) overtaken.abort();
    }, STALL_POLL_MS);
    const { signal } = overtaken;
    try {
      await this.#running.agent.ptySendInput({ ...this.#target, data }, { signal });
    } catch (error) {
      if (!signal.aborted) throw error;
      while (this.#socket.takeIf(isBeforeKill) !== null);
    } finally {
      clearInterval(watch);
    }
  }

  async #report(error: unknown): Promise<void> {
    if (this.#socket.gone.aborted) return;
    if (error instanceof AppError) return await this.#socket.refuse(error);
    // The terminal has ended: its stream says so.
    if (isOver(error)) return;
    await this.#socket.refuse(agentFailure(error, "capsule"));
  }
}

function decodeInput(message: ClientMessage): Uint8Array {
  if (message.bytes !== undefined) return message.bytes;
  try {
    return Uint8Array.fromBase64(readInput(message).data);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw new AppError("invalid_request", "data: must be base64", { cause: error });
  }
}

function isInput(message: ClientMessage): message is ClientMessage {
  return message.type === "input";
}

function isKill(message: ClientMessage): boolean {
  return message.type === "kill";
}

function isBeforeKill(message: ClientMessage): message is ClientMessage {
  return message.type !== "kill";
}

function isOver(error: unknown): boolean {
  const { code } = ConnectError.from(error);
  return code === Code.NotFound || code === Code.FailedPrecondition;
}
