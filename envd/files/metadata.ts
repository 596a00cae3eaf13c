// Metadata of files: headers of an upload, extended attributes on disk, a map in an entry.

import { PATH_BYTES_MAX } from "../../proto/hostagent/bounds.ts";
import { EnvdError, errnoOf } from "../errors.ts";
import { METADATA_BYTES_MAX, METADATA_KEY_BYTES_MAX } from "../limits.ts";
import type { FileCalls } from "./file-calls.ts";

export type Metadata = Readonly<Record<string, string>>;

const HEADER_PREFIX = "x-metadata-";
/** Of the extended attributes that hold it. */
export const METADATA_PREFIX = "user.e2b.";
const PRINTABLE = /^[\x20-\x7e]*$/;

/** Asked for at once: a few megabytes of paths at most. */
const PATHS_PER_CALL = 1000;

/** What the kernel answers where attributes cannot be kept, and where they do not fit. */
const ERRNO_MEANINGS: Readonly<Record<string, string>> = {
  E2BIG: "metadata: is too long for the file system",
  ENOSPC: "metadata: the file system has no room for it",
  EOPNOTSUPP: "metadata: the file system keeps none",
};

/** The metadata that the headers of an upload carry; invalid_argument names what is wrong with it. */
export function metadataOf(headers: Headers): Metadata {
  const metadata: Record<string, string> = {};
  let bytes = 0;
  for (const [header, value] of headers) {
    if (!header.startsWith(HEADER_PREFIX)) continue;
    const key = header.slice(HEADER_PREFIX.length).toLowerCase();
    if (key === "" || key.length > METADATA_KEY_BYTES_MAX) {
      throw new EnvdError("invalid_argument", `metadata: '${key}' is no valid key`);
    }
    if (!PRINTABLE.test(value)) {
      throw new EnvdError("invalid_argument", `metadata: '${key}' must be printable ASCII`);
    }
    bytes += key.length + value.length;
    metadata[key] = value;
  }
  if (bytes > METADATA_BYTES_MAX) {
    throw new EnvdError("invalid_argument", `metadata: is longer than ${METADATA_BYTES_MAX} bytes`);
  }
  return metadata;
}

/** Reads and writes the metadata of files on disk. */
export class MetadataStore {
  readonly #calls: FileCalls;

  constructor(calls: FileCalls) {
    this.#calls = calls;
  }

  /** The metadata of each path, empty for what has none or cannot be read. */
  async read(paths: readonly string[]): Promise<Metadata[]> {
    const found: Metadata[] = [];
    for (let at = 0; at < paths.length; at += PATHS_PER_CALL) {
      found.push(...(await this.#readSome(paths.slice(at, at + PATHS_PER_CALL))));
    }
    return found;
  }

  /** Makes the file's metadata exactly this; failed_precondition where it cannot be kept. */
  async write(path: string, metadata: Metadata): Promise<void> {
    try {
      await this.#calls.call("set", METADATA_PREFIX, path, ...Object.entries(metadata).flat());
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === null) throw error;
      if (errno === "EOPNOTSUPP" && Object.keys(metadata).length === 0) return;
      const why = ERRNO_MEANINGS[errno] ?? "metadata: cannot be kept";
      throw new EnvdError("failed_precondition", why, { cause: error });
    }
  }

  async #readSome(paths: readonly string[]): Promise<Metadata[]> {
    // Of a path that no system call takes there is nothing to be read.
    const readable = paths.map((path) => (path.length > PATH_BYTES_MAX ? "" : path));
    const fields = (await this.#calls.ask(["get", METADATA_PREFIX, ...readable])).values();
    return paths.map(() => {
      const count = Number(fields.next().value);
      return Object.fromEntries(
        Array.from({ length: count }, () => [fields.next().value ?? "", fields.next().value ?? ""]),
      );
    });
  }
}
