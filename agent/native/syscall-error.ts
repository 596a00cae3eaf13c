// What a failed call of libwrenn becomes: an error that names the operation and the errno.
import { constants } from "node:os";

// Not util.getSystemErrorName, which knows libuv's errors alone: EBADMSG is none of them. Left out
// are the second names of EAGAIN and EOPNOTSUPP.
const NAMES = new Map(
  Object.entries(constants.errno)
    .filter(([name]) => name !== "EWOULDBLOCK" && name !== "ENOTSUP")
    .map(([name, errno]) => [errno, name] as const),
);

/** A call into the kernel failed. `code` is the errno's name, such as "ENOENT". */
export class SyscallError extends Error {
  override readonly name = "SyscallError";
  readonly operation: string;
  readonly errno: number;
  readonly code: string;

  /**
   * `result` is what the library returned: -errno. `detail` is an explanation it may have given.
   */
  constructor(operation: string, result: number, detail = "") {
    const code = NAMES.get(-result) ?? `errno ${-result}`;
    super(`${operation}: ${code}${detail === "" ? "" : `: ${detail}`}`);
    this.operation = operation;
    this.errno = -result;
    this.code = code;
  }
}

/** Returns `result`, or throws SyscallError if it is negative. */
export function check(operation: string, result: number, detail = ""): number {
  if (result < 0) throw new SyscallError(operation, result, detail);
  return result;
}

/** Whether `error` is a SyscallError, or one of node:fs, with one of these codes. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return (
    error instanceof Error &&
    "code" in error &&
    typeof error.code === "string" &&
    codes.includes(error.code)
  );
}
