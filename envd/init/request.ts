// The body of POST /init, checked field by field.

import { ENVS_MAX, PATH_BYTES_MAX } from "../../proto/hostagent/bounds.ts";
import { EnvdError } from "../errors.ts";
import { ENV_BYTES_MAX } from "../limits.ts";
import { parseTimestamp } from "./timestamp.ts";

const TEXT_BYTES_MAX = 1024;
const HOSTNAME_PATTERN = /^[a-zA-Z0-9]([a-zA-Z0-9.-]{0,62}[a-zA-Z0-9])?$/;
const ENTROPY_PATTERN = /^([0-9a-fA-F]{2}){16,512}$/;

/** What the host may tell a guest. An absent field leaves things as they are. */
export interface InitRequest {
  readonly accessToken?: string;
  readonly envVars?: Readonly<Record<string, string>>;
  readonly defaultUser?: string;
  readonly defaultWorkdir?: string;
  readonly timestampNs?: bigint;
  /** How far the guest's clock is behind, as the host has measured it: microseconds, below 0 if before. */
  readonly clockAdvanceUs?: number;
  readonly capsuleId?: string;
  readonly templateId?: string;
  readonly hostname?: string;
  /** Hexadecimal random bytes of the host's. */
  readonly entropy?: string;
}

type Fields = Readonly<Record<string, unknown>>;

/** Parses the body; invalid_argument names the field. Unknown fields are passed over. */
export function parseInitRequest(body: unknown): InitRequest {
  if (!isObject(body)) throw invalid("body", "must be a JSON object");
  return {
    ...text(body, "accessToken"),
    ...text(body, "defaultUser"),
    ...workdir(body),
    ...text(body, "capsuleId"),
    ...text(body, "templateId"),
    ...text(body, "hostname", HOSTNAME_PATTERN),
    ...text(body, "entropy", ENTROPY_PATTERN),
    ...envVars(body),
    ...timestamp(body),
    ...clockAdvance(body),
  };
}

function text<K extends string>(
  body: Fields,
  field: K,
  pattern: RegExp | null = null,
): { [P in K]?: string } {
  const value = body[field];
  if (value === undefined || value === null) return {};
  if (typeof value !== "string") throw invalid(field, "must be a string");
  if (value.length > TEXT_BYTES_MAX || value.includes("\0"))
    throw invalid(field, "is no valid text");
  if (pattern !== null && !pattern.test(value)) throw invalid(field, "has the wrong form");
  return { [field]: value } as { [P in K]?: string };
}

function workdir(body: Fields): { defaultWorkdir?: string } {
  const value = body.defaultWorkdir;
  if (value === undefined || value === null) return {};
  const isPath = typeof value === "string" && (value === "" || value.startsWith("/"));
  if (!isPath || value.includes("\0") || Buffer.byteLength(value) > PATH_BYTES_MAX) {
    throw invalid("defaultWorkdir", "must be an absolute path");
  }
  return { defaultWorkdir: value };
}

function envVars(body: Fields): { envVars?: Record<string, string> } {
  const value = body.envVars;
  if (value === undefined || value === null) return {};
  if (!isObject(value)) throw invalid("envVars", "must be an object");
  const variables: Record<string, string> = {};
  let bytes = 0;
  const entries = Object.entries(value);
  for (const [name, content] of entries) {
    if (name === "" || /[=\0]/.test(name))
      throw invalid("envVars", `'${name}' is no variable name`);
    if (typeof content !== "string" || content.includes("\0")) {
      throw invalid(`envVars.${name}`, "must be a string without NUL");
    }
    bytes += Buffer.byteLength(name) + Buffer.byteLength(content) + 2;
    variables[name] = content;
  }
  if (entries.length > ENVS_MAX) throw invalid("envVars", `has more than ${ENVS_MAX} names`);
  if (bytes > ENV_BYTES_MAX) throw invalid("envVars", `is longer than ${ENV_BYTES_MAX} bytes`);
  return { envVars: variables };
}

function timestamp(body: Fields): { timestampNs?: bigint } {
  if (body.timestamp === undefined || body.timestamp === null) return {};
  const timestampNs = parseTimestamp(body.timestamp);
  if (timestampNs === null) throw invalid("timestamp", "must be an RFC 3339 time or seconds");
  return { timestampNs };
}

function clockAdvance(body: Fields): { clockAdvanceUs?: number } {
  const value = body.clockAdvanceUs;
  if (value === undefined || value === null) return {};
  if (typeof value === "number" && Number.isSafeInteger(value)) return { clockAdvanceUs: value };
  throw invalid("clockAdvanceUs", "must be a whole number");
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function invalid(field: string, why: string): EnvdError {
  return new EnvdError("invalid_argument", `${field}: ${why}`);
}
