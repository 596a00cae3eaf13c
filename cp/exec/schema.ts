// Commands and processes on the wire.

import { Type } from "@sinclair/typebox";
import { type Static, t } from "elysia";
import {
  ARG_BYTES_MAX,
  ARGS_MAX,
  ENV_NAME_BYTES_MAX,
  ENV_VALUE_BYTES_MAX,
  ENVS_MAX,
  EXEC_TIMEOUT_SEC_DEFAULT,
  EXEC_TIMEOUT_SEC_MAX,
  PATH_BYTES_MAX,
  TAG_BYTES_MAX,
  USER_BYTES_MAX,
} from "../../proto/hostagent/bounds.ts";
import { encodeId, type Id } from "../../proto/ids.ts";
import { AppError } from "../errors.ts";
import type { Command, CommandEnd, ProcessSelector, RunningProcess } from "./command.ts";

const PID_MAX = 2 ** 32 - 1;

/** execve(2) takes C strings. */
const NO_NUL = "^[^\\u0000]*$";
const ENV_NAME = `^[^=\\u0000]{1,${ENV_NAME_BYTES_MAX}}$`;
/** ASCII that shows, and no blanks: what a tag or a pid is made of. */
export const VISIBLE = "^[\\x21-\\x7e]+$";
/** A selector of digits only is a pid, so a tag needs something else. */
const TAG = "^(?!\\d+$)[\\x21-\\x7e]+$";
const USER = "^[A-Za-z_][A-Za-z0-9_.-]*$";

export const ExecRequest = t.Object({
  cmd: t.String({ minLength: 1, maxLength: PATH_BYTES_MAX, pattern: NO_NUL }),
  args: t.Optional(
    t.Array(t.String({ maxLength: ARG_BYTES_MAX, pattern: NO_NUL }), {
      maxItems: ARGS_MAX,
      description: "With `cmd` and `envs` at most 2 MiB, as Linux takes it.",
    }),
  ),
  timeout_sec: t.Optional(
    Type.Integer({
      minimum: 0,
      maximum: EXEC_TIMEOUT_SEC_MAX,
      description: "Of a foreground command: its process group is killed then. 0 means 30.",
    }),
  ),
  background: t.Optional(
    Type.Boolean({ description: "Answer at once; the process runs until it ends or is killed." }),
  ),
  tag: t.Optional(
    t.String({
      maxLength: TAG_BYTES_MAX,
      pattern: TAG,
      description: "Name of a background process, by default `proc-` and 8 characters.",
    }),
  ),
  envs: t.Optional(
    t.Record(
      t.String({ pattern: ENV_NAME }),
      t.String({ maxLength: ENV_VALUE_BYTES_MAX, pattern: NO_NUL }),
      { maxProperties: ENVS_MAX, additionalProperties: false },
    ),
  ),
  cwd: t.Optional(t.String({ maxLength: PATH_BYTES_MAX, pattern: NO_NUL })),
  user: t.Optional(t.String({ maxLength: USER_BYTES_MAX, pattern: USER })),
});
export type ExecRequest = Static<typeof ExecRequest>;

const ENCODINGS = ["utf-8", "base64"] as const;

export const ExecAnswer = t.Object({
  sandbox_id: t.String(),
  cmd: t.String(),
  stdout: t.String(),
  stderr: t.String(),
  exit_code: Type.Integer({ description: "-1 when a signal ended the command." }),
  duration_ms: Type.Integer(),
  encoding: t.UnionEnum(ENCODINGS, {
    description: "`base64`, of both streams, when one of them is no valid UTF-8.",
  }),
});
type ExecAnswer = Static<typeof ExecAnswer>;

export const BackgroundAnswer = t.Object({
  sandbox_id: t.String(),
  cmd: t.String(),
  pid: Type.Integer(),
  tag: t.String(),
});

export const ProcessList = t.Object({
  processes: t.Array(
    t.Object({
      pid: Type.Integer(),
      tag: t.Optional(t.String()),
      cmd: t.String(),
      args: t.Optional(t.Array(t.String())),
    }),
  ),
});
type ProcessList = Static<typeof ProcessList>;

export const ProcessParams = t.Object({
  id: t.String({ maxLength: 64 }),
  selector: t.String({
    maxLength: TAG_BYTES_MAX,
    pattern: VISIBLE,
    description: "A pid when it is all digits, else a tag.",
  }),
});

export const KillQuery = t.Object({
  signal: t.Optional(
    t.UnionEnum(["SIGKILL", "SIGTERM"], { description: "To the whole process group." }),
  ),
});

/** Of `impliedUser` where the request names nobody. */
export function toCommand(
  { cmd, args, envs, cwd, user }: Pick<ExecRequest, "cmd" | "args" | "envs" | "cwd" | "user">,
  impliedUser: string,
): Command {
  return { cmd, args: args ?? [], envs: envs ?? {}, cwd: cwd ?? "", user: user ?? impliedUser };
}

/** How long a foreground command may take. */
export function toTimeoutSec({ timeout_sec: timeoutSec }: ExecRequest): number {
  return timeoutSec || EXEC_TIMEOUT_SEC_DEFAULT;
}

/** Throws `exec_timeout` with what was printed when the command ran out of time. */
export function toExecAnswer(id: Id<"capsule">, cmd: string, end: CommandEnd): ExecAnswer {
  const streams = encodeStreams(end.stdout, end.stderr);
  const { exitCode: exit_code, durationMs: duration_ms, killedAfterSec } = end;
  if (killedAfterSec !== null) {
    const message = `the command was killed after ${killedAfterSec} s`;
    throw new AppError("exec_timeout", message, { partial: { ...streams, duration_ms } });
  }
  return { sandbox_id: encodeId("capsule", id), cmd, ...streams, exit_code, duration_ms };
}

export function toProcessList(processes: readonly RunningProcess[]): ProcessList {
  return {
    processes: processes.map(({ pid, tag, cmd, args }) => ({
      pid,
      ...(tag === "" ? {} : { tag }),
      cmd,
      ...(args.length === 0 ? {} : { args: [...args] }),
    })),
  };
}

/** A pid when it is all digits, else a tag. Throws `invalid_request` for what can be no pid. */
export function parseSelector(selector: string): ProcessSelector {
  if (!/^\d+$/.test(selector)) return { case: "tag", value: selector };
  const pid = Number(selector);
  if (pid < 1 || pid > PID_MAX) {
    throw new AppError("invalid_request", `selector: a pid is between 1 and ${PID_MAX}`);
  }
  return { case: "pid", value: pid };
}

/** Both streams as text, or both as base64 when one of them is no valid UTF-8. */
function encodeStreams(
  stdout: Uint8Array,
  stderr: Uint8Array,
): Pick<ExecAnswer, "stdout" | "stderr" | "encoding"> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  try {
    return { stdout: decoder.decode(stdout), stderr: decoder.decode(stderr), encoding: "utf-8" };
  } catch {
    return { stdout: stdout.toBase64(), stderr: stderr.toBase64(), encoding: "base64" };
  }
}
