// Methods of the service that stream what processes print, and those of terminals. A capsule counts as
// active for as long as one of its streams is open.

import type { ServiceImpl } from "@connectrpc/connect";
import type { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import type { CapsuleLease, Capsules } from "../capsules/capsules.ts";
import {
  connectProcess,
  type GuestEvent,
  startTerminal,
  streamCommand,
} from "../guest/process-streams.ts";
import { killTerminal, resizeTerminal, sendTerminalInput } from "../guest/terminals.ts";
import type { Log } from "../log.ts";
import {
  parseCapsuleId,
  parseCommand,
  parseSelector,
  parseStreamTimeout,
  parseTerminalSize,
  parseTerminalTag,
} from "./requests.ts";
import { toConnectError } from "./rpc-errors.ts";

type StreamMethod =
  | "execStream"
  | "connectProcess"
  | "ptyAttach"
  | "ptySendInput"
  | "ptyResize"
  | "ptyKill";

export interface StreamDeps {
  readonly capsules: Capsules;
  readonly log: Log;
}

/** Throws ConnectErrors only. An event without content means that the stream lives. */
export function streamMethods({
  capsules,
  log,
}: StreamDeps): Pick<ServiceImpl<typeof HostAgentService>, StreamMethod> {
  type Guest = CapsuleLease["guest"];
  async function* stream<T>(
    method: string,
    sandboxId: string,
    events: (guest: Guest) => AsyncIterable<T>,
  ): AsyncGenerator<T> {
    try {
      using lease = capsules.use(parseCapsuleId(sandboxId));
      yield* events(lease.guest);
    } catch (error) {
      throw toConnectError(error, method, log);
    }
  }
  async function act(
    method: string,
    sandboxId: string,
    work: (guest: Guest) => Promise<void>,
  ): Promise<Record<string, never>> {
    try {
      using lease = capsules.use(parseCapsuleId(sandboxId));
      await work(lease.guest);
      return {};
    } catch (error) {
      throw toConnectError(error, method, log);
    }
  }

  return {
    execStream: (request, { signal: caller }) =>
      stream("ExecStream", request.sandboxId, (guest) => {
        const timeoutMs = parseStreamTimeout(request.timeoutSec);
        return each(
          streamCommand(guest, parseCommand(request), { timeoutMs, caller }),
          toProcessEvent,
        );
      }),
    connectProcess: (request, { signal: caller }) =>
      stream("ConnectProcess", request.sandboxId, (guest) => {
        const options = { withScrollback: false, caller };
        return each(connectProcess(guest, parseSelector(request), options), toProcessEvent);
      }),
    ptyAttach: (request, { signal: caller }) =>
      stream("PtyAttach", request.sandboxId, (guest) => {
        const tag = parseTerminalTag(request.tag);
        const terminal =
          request.cmd === ""
            ? connectProcess(
                guest,
                { case: "tag", value: tag },
                { withScrollback: request.scrollback, caller },
              )
            : startTerminal(guest, parseCommand(request), {
                tag,
                size: parseTerminalSize(request),
                caller,
              });
        return each(terminal, (event) => toTerminalEvent(event, tag));
      }),
    ptySendInput: ({ sandboxId, tag, data }, { signal }) =>
      act("PtySendInput", sandboxId, (guest) =>
        sendTerminalInput(guest, { tag: parseTerminalTag(tag), data }, signal),
      ),
    ptyResize: (request) =>
      act("PtyResize", request.sandboxId, (guest) => {
        const tag = parseTerminalTag(request.tag);
        return resizeTerminal(guest, { tag, size: parseTerminalSize(request) });
      }),
    ptyKill: ({ sandboxId, tag }) =>
      act("PtyKill", sandboxId, (guest) => killTerminal(guest, parseTerminalTag(tag))),
  };
}

/** `yield*` of this passes an early end of the reader on to the events. */
async function* each<T>(
  events: AsyncIterable<GuestEvent>,
  convert: (event: GuestEvent) => T,
): AsyncGenerator<T> {
  for await (const event of events) yield convert(event);
}

function toProcessEvent(event: GuestEvent) {
  switch (event.kind) {
    case "keepalive":
      return {};
    case "start":
      return { event: { case: "start" as const, value: { pid: event.pid } } };
    case "end":
      return { event: { case: "end" as const, value: end(event) } };
    default: {
      // What a process on a terminal prints is its stdout to whoever attaches without one.
      const output = event.kind === "stderr" ? ("stderr" as const) : ("stdout" as const);
      const value = { output: { case: output, value: event.bytes } };
      return { event: { case: "data" as const, value } };
    }
  }
}

function toTerminalEvent(event: GuestEvent, tag: string) {
  switch (event.kind) {
    case "keepalive":
      return {};
    case "start":
      return { event: { case: "started" as const, value: { pid: event.pid, tag } } };
    case "end":
      return { event: { case: "exited" as const, value: end(event) } };
    default:
      return { event: { case: "output" as const, value: { data: event.bytes } } };
  }
}

function end({ exitCode, error }: { exitCode: number; error: string }) {
  return { exitCode, error };
}
