// Commands and processes on a WebSocket: what they print goes to the client as it comes, and no faster
// than the client takes it. A client that goes away leaves the process running.

import type {
  ConnectProcessResponse,
  ExecStreamResponse,
} from "../../proto/gen/hostagent/hostagent_pb.js";
import { encodeId } from "../../proto/ids.ts";
import { GUEST_CALL_TIMEOUT_MS } from "../agents/limits.ts";
import type { RunningCapsule } from "../capsules/find-on-host.ts";
import { AppError } from "../errors.ts";
import { parseSelector, toCommand } from "../exec/schema.ts";
import { agentEvents } from "./agent-events.ts";
import { START_TIMEOUT_MS } from "./limits.ts";
import { type OutputEncoding, OutputText } from "./output-text.ts";
import { ExecStart, messageReader } from "./schema.ts";
import type { ClientMessage, StreamSocket } from "./socket.ts";

const readStart = messageReader(ExecStart);

/** Runs the command of the client's first message; `stop` kills it. */
export async function serveExec(
  socket: StreamSocket,
  running: RunningCapsule,
  { encoding, impliedUser }: { encoding: OutputEncoding; impliedUser: string },
): Promise<void> {
  const { capsule, agent } = running;
  const sandboxId = encodeId("capsule", capsule.id);
  const start = readStart(await firstMessage(socket));
  const { cmd, args, envs, cwd, user } = toCommand(start, impliedUser);
  const request = {
    ...{ sandboxId, cmd, args: [...args], envs, cwd, user },
    timeoutSec: start.timeout_sec ?? 0,
  };
  const started = Promise.withResolvers<number>();
  // Nobody waits for it when the client never stops the command.
  started.promise.catch(() => {});
  void stopWhenAsked(socket, running, started.promise);
  const events = agentEvents((options) => agent.execStream(request, options), socket.gone);
  await relay(socket, events, { encoding, started: started.resolve });
}

/** Attaches to a process: its pid, then what it prints from now on. The client's messages are ignored. */
export async function serveProcess(
  socket: StreamSocket,
  { capsule, agent }: RunningCapsule,
  options: { selector: string; encoding: OutputEncoding },
): Promise<void> {
  const sandboxId = encodeId("capsule", capsule.id);
  const request = { sandboxId, selector: parseSelector(options.selector) };
  const events = agentEvents((o) => agent.connectProcess(request, o), socket.gone);
  void ignoreMessages(socket);
  await relay(socket, events, { encoding: options.encoding, started: () => {} });
}

/** The client's first message that is not about who it is. Throws `invalid_request` without one. */
export async function firstMessage(
  socket: StreamSocket,
  types: readonly string[] = ["start"],
): Promise<ClientMessage> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  let message: ClientMessage | null;
  do {
    message = await socket.receive(Math.max(0, deadline - performance.now()));
  } while (message?.type === "auth");
  if (message !== null && types.includes(message.type)) return message;
  throw new AppError("invalid_request", `type: the first message must be ${types.join(" or ")}`);
}

async function relay(
  socket: StreamSocket,
  events: AsyncIterable<ExecStreamResponse | ConnectProcessResponse>,
  options: { encoding: OutputEncoding; started: (pid: number) => void },
): Promise<void> {
  const { encoding, started } = options;
  const texts = { stdout: new OutputText(encoding), stderr: new OutputText(encoding) };
  for await (const { event } of events) {
    switch (event.case) {
      case "start":
        started(event.value.pid);
        await socket.send({ type: "start", pid: event.value.pid });
        break;
      case "data": {
        const { output } = event.value;
        if (output.case === undefined) break;
        for (const data of texts[output.case].add(output.value)) {
          await socket.send({ type: output.case, data });
        }
        break;
      }
      case "end":
        for (const type of ["stdout", "stderr"] as const) {
          for (const data of texts[type].end()) await socket.send({ type, data });
        }
        await socket.send({ type: "exit", exit_code: event.value.exitCode });
        return;
    }
  }
  if (!socket.gone.aborted) throw new AppError("agent_error", "The stream ended too early");
}

/** Kills the command's process group when the client says `stop`; the end comes as its output's end. */
async function stopWhenAsked(
  socket: StreamSocket,
  { capsule, agent, log }: RunningCapsule,
  started: Promise<number>,
): Promise<void> {
  const sandboxId = encodeId("capsule", capsule.id);
  for (;;) {
    const message = await socket.receive();
    if (message === null) return;
    if (message.type !== "stop") continue;
    try {
      const selector = { case: "pid" as const, value: await started };
      const request = { sandboxId, selector, signal: "SIGKILL" };
      await agent.killProcess(request, { timeoutMs: GUEST_CALL_TIMEOUT_MS });
    } catch (error) {
      // It has ended by itself, or the stream tells what is wrong with the capsule.
      log.debug("a command was not stopped", { capsule: sandboxId, error });
    }
  }
}

async function ignoreMessages(socket: StreamSocket): Promise<void> {
  while ((await socket.receive()) !== null);
}
