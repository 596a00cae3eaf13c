// What the API takes the host agent takes, and what one refuses the other refuses: at each bound, and one past it.

import { describe, expect, test } from "bun:test";
import { Value } from "@sinclair/typebox/value";
import {
  parseCommand,
  parseDepth,
  parseExecTimeout,
  parseFilePath,
  parseTag,
} from "../agent/rpc/requests.ts";
import { CreateCapsule } from "../cp/capsules/schema.ts";
import { ExecRequest } from "../cp/exec/schema.ts";
import { ListRequest } from "../cp/files/schema.ts";
import { TerminalConnect } from "../cp/streams/schema.ts";
import {
  ARG_BYTES_MAX,
  ARGS_MAX,
  ENV_NAME_BYTES_MAX,
  ENV_VALUE_BYTES_MAX,
  ENVS_MAX,
  EXEC_TIMEOUT_SEC_MAX,
  LIST_DEPTH_MAX,
  MEMORY_MB_MAX,
  PATH_BYTES_MAX,
  TAG_BYTES_MAX,
  TIMEOUT_SEC_MAX,
  USER_BYTES_MAX,
  VCPUS_MAX,
} from "../proto/hostagent/bounds.ts";

const x = (length: number) => "x".repeat(length);
const variables = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`V${i}`, ""]));

/** Each with the field at a size, and the bound. */
const COMMANDS: Record<string, [(size: number) => Partial<ExecRequest>, number]> = {
  cmd: [(size) => ({ cmd: x(size) }), PATH_BYTES_MAX],
  args: [(size) => ({ args: Array.from({ length: size }, () => "") }), ARGS_MAX],
  "one of args": [(size) => ({ args: [x(size)] }), ARG_BYTES_MAX],
  envs: [(size) => ({ envs: variables(size) }), ENVS_MAX],
  "a name of envs": [(size) => ({ envs: { [x(size)]: "" } }), ENV_NAME_BYTES_MAX],
  "a value of envs": [(size) => ({ envs: { A: x(size) } }), ENV_VALUE_BYTES_MAX],
  cwd: [(size) => ({ cwd: x(size) }), PATH_BYTES_MAX],
  user: [(size) => ({ user: x(size) }), USER_BYTES_MAX],
};

describe("a command", () => {
  test.each(Object.entries(COMMANDS))(
    "has the same bound everywhere: %s",
    (_name, [make, bound]) => {
      const api = (size: number) => Value.Check(ExecRequest, { cmd: "true", ...make(size) });
      const host = (size: number) =>
        takes(() =>
          parseCommand({ cmd: "true", args: [], envs: {}, cwd: "", user: "", ...make(size) }),
        );

      expect([api(bound), host(bound)]).toEqual([true, true]);
      expect([api(bound + 1), host(bound + 1)]).toEqual([false, false]);
    },
  );

  // A variable is one string to execve(2).
  test("may have the longest name with the longest value", () => {
    const name = x(ENV_NAME_BYTES_MAX);
    const command = ["/usr/bin/env", "-i", `${name}=${x(ENV_VALUE_BYTES_MAX)}`, "/bin/true"];

    expect(Bun.spawnSync(command).exitCode).toBe(0);
    expect(() => Bun.spawnSync([...command.slice(0, 2), `${command[2]}x`, "/bin/true"])).toThrow();
  });
});

test.each([
  [
    "path",
    PATH_BYTES_MAX,
    (n: number) => Value.Check(ListRequest, { path: x(n) }),
    (n: number) => parseFilePath({ path: x(n), user: "" }),
  ],
  [
    "depth",
    LIST_DEPTH_MAX,
    (n: number) => Value.Check(ListRequest, { path: "/", depth: n }),
    parseDepth,
  ],
  [
    "tag",
    TAG_BYTES_MAX,
    (n: number) => Value.Check(TerminalConnect, { tag: x(n) }),
    (n: number) => parseTag(x(n)),
  ],
  [
    "timeout_sec of a command",
    EXEC_TIMEOUT_SEC_MAX,
    (n: number) => Value.Check(ExecRequest, { cmd: "true", timeout_sec: n }),
    parseExecTimeout,
  ],
])("%s has the same bound everywhere", (_field, bound, api, host) => {
  expect([api(bound), takes(() => host(bound))]).toEqual([true, true]);
  expect([api(bound + 1), takes(() => host(bound + 1))]).toEqual([false, false]);
});

test.each([
  ["vcpus", VCPUS_MAX],
  ["memory_mb", MEMORY_MB_MAX],
  ["timeout_sec", TIMEOUT_SEC_MAX],
])("a create has no more %s than a host takes", (field, bound) => {
  expect(Value.Check(CreateCapsule, { [field]: bound })).toBe(true);
  expect(Value.Check(CreateCapsule, { [field]: bound + 1 })).toBe(false);
});

function takes(parse: () => unknown): boolean {
  try {
    parse();
    return true;
  } catch {
    return false;
  }
}
