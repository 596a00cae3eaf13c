// Requests about commands and files that fail, and what is answered, as users meet them.

/** The body of a POST, or DELETE for a request of that method. */
export type Row = readonly [
  what: string,
  route: string,
  body: unknown,
  status: number,
  error: string,
];

export const DELETE = "DELETE";

const LONG = "n".repeat(5000);
const BIG = new Uint8Array(100_000);

/** Bodies that are forms are written as their parts. */
const form = (...parts: [string, string | Uint8Array<ArrayBuffer>][]) => {
  const body = new FormData();
  for (const [name, value] of parts) {
    if (typeof value === "string") body.append(name, value);
    else body.append(name, new Blob([value]), "upload");
  }
  return body;
};
const file = (path: string, content = BIG) => form(["path", path], ["file", content]);

export const COMMANDS: readonly Row[] = [
  ["no command", "exec", {}, 400, "invalid_request cmd: "],
  ["an empty command", "exec", { cmd: "" }, 400, "invalid_request cmd: "],
  ["a NUL", "exec", { cmd: "a\0" }, 400, "invalid_request cmd: "],
  ["a list of numbers", "exec", { cmd: "a", args: [1] }, 400, "invalid_request args"],
  ["a name with =", "exec", { cmd: "a", envs: { "A=B": "" } }, 400, "invalid_request envs"],
  [
    "an unknown user",
    "exec",
    { cmd: "id", user: "who" },
    400,
    "invalid_request user: user 'who' does not exist",
  ],
  [
    "a missing cwd",
    "exec",
    { cmd: "pwd", cwd: "/no" },
    400,
    "invalid_request cwd '/no' does not exist",
  ],
  [
    "a file as cwd",
    "exec",
    { cmd: "pwd", cwd: "/t/file" },
    400,
    "invalid_request cwd '/t/file' does not exist",
  ],
  [
    "a command of 3 MiB",
    "exec",
    { cmd: "true", args: Array(30).fill("x".repeat(100_000)) },
    400,
    "invalid_request process: cmd, args and envs are longer than 2097152 bytes",
  ],
  [
    "a body of 5 MiB",
    "exec",
    { cmd: "true", args: Array(50).fill("x".repeat(100_000)) },
    413,
    "too_large request body is larger than ",
  ],
  [
    "too long a run",
    "exec",
    { cmd: "sleep", args: ["100"], timeout_sec: 1 },
    504,
    "exec_timeout the command was killed after 1 s",
  ],
  [
    "too much output",
    "exec",
    { cmd: "yes" },
    413,
    "too_large The command printed more than 33554432 bytes on stdout",
  ],
  [
    "an unknown process",
    "processes/nothing",
    "DELETE",
    404,
    "not_found process with tag 'nothing' does not exist",
  ],
  [
    "an unknown pid",
    "processes/4000000",
    "DELETE",
    404,
    "not_found process with pid 4000000 does not exist",
  ],
  ["no pid", "processes/99999999999", DELETE, 400, "invalid_request selector: "],
];

export const FILES: readonly Row[] = [
  ["no path", "files/read", {}, 400, "invalid_request path: "],
  ["an empty path", "files/read", { path: "" }, 400, "invalid_request path: "],
  ["a long path", "files/read", { path: LONG }, 400, "invalid_request path: "],
  [
    "a long name",
    "files/read",
    { path: `/t/${LONG.slice(0, 300)}` },
    400,
    "invalid_request path '/t/nn",
  ],
  [
    "what is missing",
    "files/read",
    { path: "/t/no" },
    404,
    "not_found path '/t/no' does not exist",
  ],
  [
    "a directory",
    "files/read",
    { path: "/t/dir" },
    400,
    "invalid_request path '/t/dir' is a directory",
  ],
  [
    "below a file",
    "files/read",
    { path: "/t/file/x" },
    400,
    "invalid_request path '/t/file/x' passes through a file",
  ],
  [
    "a loop of links",
    "files/read",
    { path: "/t/loop" },
    400,
    "invalid_request path '/t/loop' has too many links",
  ],
  [
    "a pipe",
    "files/read",
    { path: "/t/pipe" },
    400,
    "invalid_request path '/t/pipe' is no regular file",
  ],
  [
    "a device",
    "files/read",
    { path: "/dev/null" },
    400,
    "invalid_request path '/dev/null' is no regular file",
  ],
  [
    "memory",
    "files/read",
    { path: "/proc/self/mem" },
    403,
    "forbidden path '/proc/self/mem' may not be changed or read by its user",
  ],
  [
    "memory, streamed",
    "files/stream/read",
    { path: "/proc/self/mem" },
    403,
    "forbidden path '/proc/self/mem' may not be changed or read by its user",
  ],
  [
    "another's home",
    "files/read",
    { path: "~daemon/x" },
    400,
    "invalid_request path: '~daemon/x': ~name is not supported",
  ],
  [
    "a list of nothing",
    "files/list",
    { path: "/t/no" },
    404,
    "not_found path '/t/no' does not exist",
  ],
  [
    "a list of a file",
    "files/list",
    { path: "/t/file" },
    400,
    "invalid_request path '/t/file' is not a directory",
  ],
  ["a list too deep", "files/list", { path: "/t", depth: 99 }, 400, "invalid_request depth: "],
  [
    "a directory that is there",
    "files/mkdir",
    { path: "/t/dir" },
    409,
    "conflict directory '/t/dir' already exists",
  ],
  [
    "a directory over a file",
    "files/mkdir",
    { path: "/t/file" },
    400,
    "invalid_request path '/t/file' is a file",
  ],
  [
    "a directory below a file",
    "files/mkdir",
    { path: "/t/file/x" },
    400,
    "invalid_request path '/t/file' is a file",
  ],
  [
    "a directory where nothing changes",
    "files/mkdir",
    { path: "/t/fixed/x" },
    403,
    "forbidden path '/t/fixed/x' may not be changed or read",
  ],
  [
    "removing nothing",
    "files/remove",
    { path: "/t/no" },
    404,
    "not_found path '/t/no' does not exist",
  ],
  [
    "removing what is mounted",
    "files/remove",
    { path: "/t/full" },
    409,
    "invalid_state path '/t/full' is in use",
  ],
  [
    "removing where nothing changes",
    "files/remove",
    { path: "/proc/1/comm" },
    403,
    "forbidden path '/proc/1/comm' may not be changed or read",
  ],
  ["a write that is no form", "files/write", { path: "/t/x" }, 400, "invalid_request "],
  [
    "a write without a path",
    "files/write",
    form(["file", BIG]),
    400,
    "invalid_request path: is required",
  ],
  [
    "a write without a file",
    "files/write",
    form(["path", "/t/x"]),
    400,
    "invalid_request file: is required",
  ],
  [
    "a write over a directory",
    "files/write",
    file("/t/dir"),
    400,
    "invalid_request path '/t/dir' is a directory",
  ],
  [
    "a write below a file",
    "files/write",
    file("/t/file/x"),
    400,
    "invalid_request path '/t/file' is a file",
  ],
  [
    "a write where nothing changes",
    "files/write",
    file("/t/fixed/x"),
    403,
    "forbidden path '/t/fixed/x' may not be changed or read",
  ],
  [
    "a write on a full disk",
    "files/write",
    file("/t/full/x"),
    507,
    "insufficient_storage not enough disk space available",
  ],
  [
    "a streamed write on a full disk",
    "files/stream/write",
    file("/t/full/x"),
    507,
    "insufficient_storage not enough disk space available",
  ],
  [
    "a streamed write whose path comes last",
    "files/stream/write",
    form(["file", BIG], ["path", "/t/x"]),
    400,
    "invalid_request path: must come before file",
  ],
];

/** What is sent first on a WebSocket, and the error message that ends it. */
export const STREAMS: readonly (readonly [
  what: string,
  route: string,
  first: object,
  error: string,
])[] = [
  ["without a command", "exec/stream", { type: "start" }, "invalid_request cmd: "],
  [
    "that begins with something else",
    "exec/stream",
    { type: "stop" },
    "invalid_request type: the first message must be start",
  ],
  [
    "as an unknown user",
    "exec/stream",
    { type: "start", cmd: "id", user: "who" },
    "invalid_request user: user 'who' does not exist",
  ],
  [
    "in a missing directory",
    "exec/stream",
    { type: "start", cmd: "pwd", cwd: "/no" },
    "invalid_request cwd '/no' does not exist",
  ],
  [
    "that runs too long",
    "exec/stream",
    { type: "start", cmd: "sleep", args: ["99"], timeout_sec: 1 },
    "exec_timeout the command was killed at its time limit",
  ],
  [
    "of an unknown process",
    "processes/nothing/stream",
    { type: "ignored" },
    "not_found process with tag 'nothing' does not exist",
  ],
  [
    "of a terminal in a missing directory",
    "pty",
    { type: "start", cwd: "/no" },
    "invalid_request cwd '/no' does not exist",
  ],
  [
    "of a terminal that is too large",
    "pty",
    { type: "start", cols: 70_000 },
    "invalid_request cols: ",
  ],
  [
    "of an unknown terminal",
    "pty",
    { type: "connect", tag: "nothing" },
    "not_found process with tag 'nothing' does not exist",
  ],
];
