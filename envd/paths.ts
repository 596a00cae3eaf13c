// How a path that a client gives becomes an absolute one.
import { isAbsolute, join, normalize, resolve } from "node:path";
import { PATH_BYTES_MAX } from "../proto/hostagent/bounds.ts";
import { EnvdError } from "./errors.ts";
import { systemName } from "./file-names.ts";
import type { User } from "./users.ts";

/**
 * The absolute path meant: empty is the default working directory or else the user's home, `~` is
 * the home, and a relative path starts there. invalid_argument for `~name`, a NUL byte, or a path
 * longer than the kernel takes.
 */
export function resolvePath(path: string, user: User, defaultWorkdir: string | null): string {
  if (path.includes("\0")) throw new EnvdError("invalid_argument", "path: holds a NUL byte");
  if (path === "") return resolve(user.home, defaultWorkdir ?? user.home);

  const absolute = normalize(fromHome(path, user));
  const trimmed = absolute.length > 1 ? absolute.replace(/\/$/, "") : absolute;
  if (Buffer.byteLength(systemName(trimmed)) > PATH_BYTES_MAX) {
    throw new EnvdError("invalid_argument", `path: is longer than ${PATH_BYTES_MAX} bytes`);
  }
  return trimmed;
}

function fromHome(path: string, user: User): string {
  if (isAbsolute(path)) return path;
  if (path === "~") return user.home;
  if (path.startsWith("~/")) return join(user.home, path.slice(2));
  if (path.startsWith("~")) {
    throw new EnvdError("invalid_argument", `path: '${path}': ~name is not supported`);
  }
  return join(user.home, path);
}
