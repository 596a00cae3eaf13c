// Runs commands over process.Process and gathers what they print.

import { connect } from "node:net";
import type { CallOptions, Client } from "@connectrpc/connect";
import { ConnectError } from "@connectrpc/connect";
import type {
  Process,
  ProcessEvent,
  ProcessEvent_EndEvent,
  ProcessInfo,
} from "../../proto/gen/envd/process_pb.js";
import { waitFor } from "../harness/wait-for.ts";
import { type Envd, WAIT_MS } from "./fixture.ts";

export interface Outcome {
  readonly pid: number;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
  readonly pty: Buffer;
  readonly keepalives: number;
  readonly end: ProcessEvent_EndEvent | null;
  /** What the stream itself ended with; null when it was complete. */
  readonly error: ConnectError | null;
}

/** `sh -c` with the script and no input, read to the end. */
export function runShell(
  client: Client<typeof Process>,
  script: string,
  options: CallOptions & { cwd?: string; envs?: Record<string, string> } = {},
): Promise<Outcome> {
  const { cwd, envs, ...call } = options;
  const process = {
    cmd: "/bin/sh",
    args: ["-c", script],
    envs: envs ?? {},
    ...(cwd === undefined ? {} : { cwd }),
  };
  return gather(client.start({ process, stdin: false }, call));
}

/** Reads a stream of events to its end. */
export async function gather(
  stream: AsyncIterable<{ event?: ProcessEvent | undefined }>,
): Promise<Outcome> {
  const parts = { stdout: [], stderr: [], pty: [] } as Record<string, Uint8Array[]>;
  let pid = 0;
  let keepalives = 0;
  let end: ProcessEvent_EndEvent | null = null;
  let error: ConnectError | null = null;
  try {
    for await (const { event } of stream) {
      const kind = event?.event;
      if (kind?.case === "start") pid = kind.value.pid;
      if (kind?.case === "end") end = kind.value;
      if (kind?.case === "keepalive") keepalives++;
      if (kind?.case === "data") {
        const { output } = kind.value;
        if (output.case !== undefined) parts[output.case]?.push(output.value);
      }
    }
  } catch (thrown) {
    error = ConnectError.from(thrown);
  }
  const joined = (name: string) => Buffer.concat(parts[name] ?? []);
  return {
    pid,
    stdout: joined("stdout"),
    stderr: joined("stderr"),
    pty: joined("pty"),
    keepalives,
    end,
    error,
  };
}

/** What a rejected call was rejected with. */
export async function failureOf(
  call: Promise<unknown>,
): Promise<{ code: string; message: string }> {
  try {
    await call;
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error);
    return { code: codeName(code), message: rawMessage };
  }
  throw new Error("the call succeeded");
}

export function codeName(code: number): string {
  return CODE_NAMES[code] ?? String(code);
}

const CODE_NAMES: Readonly<Record<number, string>> = {
  1: "canceled",
  2: "unknown",
  3: "invalid_argument",
  4: "deadline_exceeded",
  5: "not_found",
  6: "already_exists",
  7: "permission_denied",
  8: "resource_exhausted",
  9: "failed_precondition",
  12: "unimplemented",
  13: "internal",
  16: "unauthenticated",
};

/** Starts a command and drops the stream once the process runs. */
export async function startAndLeave(
  client: Client<typeof Process>,
  options: { cmd: string; args: string[]; tag: string; timeoutMs?: number; pty?: object },
): Promise<void> {
  const { cmd, args, tag, timeoutMs, pty } = options;
  const abort = new AbortController();
  const request = { process: { cmd, args }, tag, ...(pty === undefined ? {} : { pty }) };
  const call = { signal: abort.signal, ...(timeoutMs === undefined ? {} : { timeoutMs }) };
  try {
    for await (const _start of client.start(request, call)) abort.abort();
  } catch (error) {
    if (!(error instanceof ConnectError)) throw error;
  }
}

export async function tagsOf(client: Client<typeof Process>): Promise<(string | undefined)[]> {
  const { processes } = await client.list({});
  return processes.map(({ tag }) => tag);
}

/** The pid of the running process with that script. */
export async function untilListed(client: Client<typeof Process>, script: string): Promise<number> {
  const isIt = ({ config }: ProcessInfo) => config?.args.at(-1) === script;
  const { processes } = await waitFor("the process in the list", () => client.list({}), {
    holds: ({ processes }) => processes.some(isIt),
    timeoutMs: WAIT_MS,
  });
  return processes.find(isIt)?.pid ?? 0;
}

/** Waits until the process is gone, or dead and only waiting for its parent. */
export async function untilGone(client: Client<typeof Process>, pid: string): Promise<void> {
  await waitFor(
    `the end of ${pid}`,
    async () => (await runShell(client, `grep ^State: /proc/${pid}/status`)).stdout.toString(),
    { holds: (state) => state === "" || state.includes("Z (zombie)"), timeoutMs: WAIT_MS },
  );
}

/** A Start whose answer nobody reads. */
export async function openRawStart(envd: Envd, script: string, tag = "") {
  const { hostname, port } = new URL(envd.baseUrl);
  const message = Buffer.from(
    JSON.stringify({ process: { cmd: "/bin/sh", args: ["-c", script] }, tag }),
  );
  const frame = Buffer.alloc(5);
  frame.writeUInt32BE(message.length, 1);
  const head = [
    "POST /process.Process/Start HTTP/1.1",
    `Host: ${hostname}`,
    `X-Access-Token: ${envd.token}`,
    "Content-Type: application/connect+json",
    "Connect-Protocol-Version: 1",
    `Content-Length: ${message.length + frame.length}`,
    "\r\n",
  ].join("\r\n");
  const socket = connect({ host: hostname, port: Number(port) });
  socket.pause();
  await new Promise<void>((resolve) => socket.once("connect", resolve));
  socket.write(Buffer.concat([Buffer.from(head), frame, message]));
  return socket;
}
