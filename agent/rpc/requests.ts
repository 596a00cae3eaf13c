// Requests of the control plane, checked: what passes here may go into paths, command lines and SQL.

import type {
  CapsuleShares,
  ConnectProcessRequest,
  CreateSandboxRequest,
  CreateSnapshotRequest,
  DeleteSnapshotRequest,
  ExecRequest,
  ForkSandboxRequest,
  KillProcessRequest,
  ResumeSandboxRequest,
} from "../../proto/gen/hostagent/hostagent_pb.js";
import {
  ARG_BYTES_MAX,
  ARGS_MAX,
  ENV_NAME_BYTES_MAX,
  ENV_VALUE_BYTES_MAX,
  ENVS_MAX,
  EXEC_TIMEOUT_SEC_DEFAULT,
  EXEC_TIMEOUT_SEC_MAX,
  FORKS_MAX,
  LIST_DEPTH_MAX,
  MEMORY_MB_MAX,
  MEMORY_MB_MIN,
  PATH_BYTES_MAX,
  TAG_BYTES_MAX,
  TERMINAL_SIDE_MAX,
  TIMEOUT_SEC_MAX,
  USER_BYTES_MAX,
  VCPUS_MAX,
} from "../../proto/hostagent/bounds.ts";
import { decodeId } from "../../proto/ids.ts";
import type { ForkRequest, SnapshotRequest } from "../capsules/copies.ts";
import type { ResumeRequest } from "../capsules/resumes.ts";
import { invalidField } from "../errors.ts";
import type { Command } from "../guest/exec.ts";
import type { FilePath } from "../guest/files.ts";
import type { TerminalSize } from "../guest/process-streams.ts";
import type { ProcessRef } from "../guest/processes.ts";
import type { CapsuleSpec } from "../journal/capsule-spec.ts";
import { DISK_MIB_DEFAULT, DISK_MIB_MAX, TOKEN_BYTES_MAX } from "../limits.ts";
import { SHARE_BOUNDS, type Shares } from "../shares.ts";
import type { TemplateIds } from "../templates/memory-templates.ts";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const USER_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?$/;

/** Throws AgentError invalid_argument that names the field, as all functions here. */
export function parseCreate(request: CreateSandboxRequest): CapsuleSpec {
  return {
    id: parseCapsuleId(request.sandboxId),
    operationId: parseOperationId(request.operationId),
    vcpus: integer("vcpus", request.vcpus, { min: 1, max: VCPUS_MAX }),
    memoryMib: integer("memory_mb", request.memoryMb, { min: MEMORY_MB_MIN, max: MEMORY_MB_MAX }),
    diskMib: integer("disk_size_mb", request.diskSizeMb || DISK_MIB_DEFAULT, {
      min: 1,
      max: DISK_MIB_MAX,
    }),
    timeoutSec: integer("timeout_sec", request.timeoutSec, { min: 0, max: TIMEOUT_SEC_MAX }),
    teamId: uuid("team_id", request.teamId),
    templateId: uuid("template_id", request.templateId),
    templateTeamId: uuid("template_team_id", request.templateTeamId),
    defaultUser: userName("default_user", request.defaultUser),
    defaultEnvs: envs("default_env", request.defaultEnv),
    accessToken: accessToken(request.envdAccessToken),
    ...sharesOf(request.shares),
  };
}

/** Those that are not given are left out: the host has its own. */
function sharesOf(given: CapsuleShares | undefined): { shares?: Shares } {
  if (given === undefined) return {};
  const names = Object.entries(SHARE_BOUNDS) as [keyof Shares, number][];
  const checked = names.map(([name, max]) => {
    const field = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    return [name, integer(`shares.${field}`, given[name], { min: 0, max })];
  });
  return { shares: Object.fromEntries(checked) };
}

/** Settings that are not given are as in a create without them. */
export function parseResume(request: ResumeSandboxRequest): ResumeRequest {
  return {
    operationId: parseOperationId(request.operationId),
    from: resumeSource(request.from),
    settings: {
      timeoutSec: integer("timeout_sec", request.timeoutSec, { min: 0, max: TIMEOUT_SEC_MAX }),
      defaultUser: userName("default_user", request.defaultUser),
      defaultEnvs: envs("default_env", request.defaultEnv),
      accessToken: accessToken(request.envdAccessToken),
      ...sharesOf(request.shares),
    },
  };
}

function resumeSource(value: string): ResumeRequest["from"] {
  if (value === "") return null;
  if (value === "memory" || value === "disk") return value;
  throw invalidField("from", "must be memory, disk or empty");
}

export function parseTemplateIds(request: DeleteSnapshotRequest): TemplateIds {
  return {
    teamId: uuid("team_id", request.teamId),
    templateId: uuid("template_id", request.templateId),
  };
}

export function parseSnapshot(request: CreateSnapshotRequest): SnapshotRequest {
  const { teamId, templateId } = request;
  return {
    id: parseCapsuleId(request.sandboxId),
    operationId: parseOperationId(request.operationId),
    teamId: uuid("team_id", teamId),
    templateId: uuid("template_id", templateId),
  };
}

export function parseFork(request: ForkSandboxRequest): ForkRequest {
  if (request.children.length > FORKS_MAX) {
    throw invalidField("children", `must be at most ${FORKS_MAX}`);
  }
  return {
    id: parseCapsuleId(request.sandboxId),
    timeoutSec: integer("timeout_sec", request.timeoutSec, { min: 0, max: TIMEOUT_SEC_MAX }),
    children: request.children.map((child) => ({
      id: parseCapsuleId(child.sandboxId),
      operationId: parseOperationId(child.operationId),
      accessToken: accessToken(child.envdAccessToken),
    })),
  };
}

export function parseOperationId(text: string): string {
  return uuid("operation_id", text);
}

export function parseCapsuleId(text: string): string {
  if (decodeId("capsule", text) === null)
    throw invalidField("sandbox_id", "must be a capsule's id");
  return text;
}

type CommandFields = Pick<ExecRequest, "cmd" | "args" | "envs" | "cwd" | "user">;

export function parseCommand(request: CommandFields): Command {
  if (request.cmd === "") throw invalidField("cmd", "must not be empty");
  if (request.args.length > ARGS_MAX) {
    throw invalidField("args", `must be at most ${ARGS_MAX}`);
  }
  return {
    cmd: text("cmd", request.cmd, PATH_BYTES_MAX),
    args: request.args.map((argument) => text("args", argument, ARG_BYTES_MAX)),
    envs: envs("envs", request.envs),
    cwd: text("cwd", request.cwd, PATH_BYTES_MAX),
    user: userName("user", request.user),
  };
}

/** Milliseconds a foreground command may take. */
export function parseExecTimeout(timeoutSec: number): number {
  const seconds = timeoutSec || EXEC_TIMEOUT_SEC_DEFAULT;
  return integer("timeout_sec", seconds, { min: 1, max: EXEC_TIMEOUT_SEC_MAX }) * 1000;
}

/** Milliseconds a streamed command may take; null for no limit. */
export function parseStreamTimeout(timeoutSec: number): number | null {
  return timeoutSec === 0 ? null : parseExecTimeout(timeoutSec);
}

export function parseSelector({ selector }: ConnectProcessRequest): ProcessRef {
  if (selector.case === undefined) throw invalidField("pid", "pid or tag must be given");
  return selector.case === "pid" ? selector : { case: "tag", value: parseTag(selector.value) };
}

/** The name of a terminal, which every one has. */
export function parseTerminalTag(tag: string): string {
  if (tag === "") throw invalidField("tag", "must not be empty");
  return parseTag(tag);
}

export function parseTerminalSize({ cols, rows }: TerminalSize): TerminalSize {
  const range = { min: 1, max: TERMINAL_SIDE_MAX };
  return { cols: integer("cols", cols, range), rows: integer("rows", rows, range) };
}

export function parseTag(tag: string): string {
  return text("tag", tag, TAG_BYTES_MAX);
}

export function parseFilePath({ path, user }: FilePath): FilePath {
  if (path === "") throw invalidField("path", "must not be empty");
  return { path: text("path", path, PATH_BYTES_MAX), user: userName("user", user) };
}

export function parseDepth(depth: number): number {
  return integer("depth", depth || 1, { min: 1, max: LIST_DEPTH_MAX });
}

export function parseKill(request: KillProcessRequest): {
  process: ProcessRef;
  signal: "SIGTERM" | "SIGKILL";
} {
  const { selector, signal } = request;
  if (selector.case === undefined) throw invalidField("pid", "pid or tag must be given");
  if (signal !== "" && signal !== "SIGTERM" && signal !== "SIGKILL") {
    throw invalidField("signal", "must be SIGTERM or SIGKILL");
  }
  const process: ProcessRef =
    selector.case === "pid"
      ? { case: "pid", value: selector.value }
      : { case: "tag", value: parseTag(selector.value) };
  return { process, signal: signal || "SIGKILL" };
}

function integer(field: string, value: number, range: { min: number; max: number }): number {
  if (value < range.min || value > range.max) {
    throw invalidField(field, `must be from ${range.min} to ${range.max}`);
  }
  return value;
}

function uuid(field: string, value: string): string {
  if (!UUID.test(value)) throw invalidField(field, "must be a lower-case UUID");
  return value;
}

function text(field: string, value: string, bytesMax: number): string {
  if (value.includes("\0")) throw invalidField(field, "must not contain NUL");
  if (Buffer.byteLength(value) > bytesMax) {
    throw invalidField(field, `must be at most ${bytesMax} bytes`);
  }
  return value;
}

function userName(field: string, value: string): string {
  if (value === "") return value;
  if (!USER_NAME.test(value) || value.length > USER_BYTES_MAX) {
    throw invalidField(field, "must be a user name");
  }
  return value;
}

function envs(field: string, values: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(values);
  if (entries.length > ENVS_MAX) throw invalidField(field, `must be at most ${ENVS_MAX}`);
  for (const [name, value] of entries) {
    if (name === "" || name.includes("=")) {
      throw invalidField(field, "names must not be empty or contain '='");
    }
    text(field, name, ENV_NAME_BYTES_MAX);
    text(field, value, ENV_VALUE_BYTES_MAX);
  }
  return { ...values };
}

/** It goes into an HTTP header, so it is printable ASCII. */
function accessToken(token: string): string {
  if (!/^[\x21-\x7e]+$/.test(token) || token.length > TOKEN_BYTES_MAX) {
    throw invalidField("envd_access_token", `must be 1 to ${TOKEN_BYTES_MAX} printable characters`);
  }
  return token;
}
