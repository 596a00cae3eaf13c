// Ranges and conditions of a download (RFC 9110, sections 13 and 14).
import { EnvdError } from "../errors.ts";

export interface FileVersion {
  readonly sizeBytes: number;
  readonly etag: string;
  readonly modifiedAt: Date;
}

export interface ByteRange {
  readonly start: number;
  /** The first byte that is not part of the range. */
  readonly end: number;
}

/** The tag of the same version as gzip, whose bytes are others: no range of them is one of it. */
export function compressedTag(etag: string): string {
  return `${etag.slice(0, -1)}-gzip"`;
}

/** Whether the client's copy is the current one, so that 304 is the answer. */
export function isNotModified(headers: Headers, file: FileVersion): boolean {
  const tags = headers.get("if-none-match");
  if (tags !== null) {
    return tags
      .split(",")
      .map((tag) => tag.trim().replace(/^W\//, ""))
      .some((tag) => tag === "*" || tag === file.etag || tag === compressedTag(file.etag));
  }
  const since = Date.parse(headers.get("if-modified-since") ?? "");
  return !Number.isNaN(since) && wholeSeconds(file.modifiedAt) <= since;
}

/**
 * The range asked for, or null when the whole file is the answer: without a range, with several, or
 * when If-Range names another version. range_not_satisfiable when it lies beyond the end.
 */
export function requestedRange(headers: Headers, file: FileVersion): ByteRange | null {
  const text = headers.get("range");
  if (text === null || !isSameVersion(headers.get("if-range"), file)) return null;
  const match = text.trim().match(/^bytes=(\d{0,15})-(\d{0,15})$/i);
  if (!match || (match[1] === "" && match[2] === "")) return null;

  const [, from = "", to = ""] = match;
  const start = from === "" ? Math.max(file.sizeBytes - Number(to), 0) : Number(from);
  const last = from === "" || to === "" ? file.sizeBytes - 1 : Number(to);
  if (from !== "" && to !== "" && start > last) return null;
  if (start >= file.sizeBytes) {
    throw new EnvdError("range_not_satisfiable", `range: the file has ${file.sizeBytes} bytes`);
  }
  return { start, end: Math.min(last, file.sizeBytes - 1) + 1 };
}

function isSameVersion(condition: string | null, file: FileVersion): boolean {
  if (condition === null || condition === file.etag) return true;
  const date = Date.parse(condition);
  return !condition.startsWith('"') && date === wholeSeconds(file.modifiedAt);
}

/** HTTP dates have no fraction. */
function wholeSeconds(date: Date): number {
  return Math.floor(date.getTime() / 1000) * 1000;
}
