import { describe, expect, test } from "bun:test";
import { create } from "@bufbuild/protobuf";
import {
  CreateSandboxRequestSchema,
  ExecRequestSchema,
  KillProcessRequestSchema,
  ResumeSandboxRequestSchema,
} from "../../proto/gen/hostagent/hostagent_pb.js";
import {
  parseCommand,
  parseCreate,
  parseDepth,
  parseExecTimeout,
  parseFilePath,
  parseKill,
  parseResume,
} from "./requests.ts";

const UUID = "00000000-0000-0000-0000-000000000004";
const CREATE = {
  sandboxId: `cl-${"0".repeat(25)}`,
  operationId: UUID,
  vcpus: 1,
  memoryMb: 256,
  diskSizeMb: 0,
  timeoutSec: 0,
  teamId: UUID,
  templateId: UUID,
  templateTeamId: UUID,
  defaultUser: "root",
  defaultEnv: { PATH_INFO: "x" } as Record<string, string>,
  envdAccessToken: "token",
};
const COMMAND = { cmd: "ls", args: ["-l"], envs: {}, cwd: "", user: "" };

describe("a create", () => {
  test("becomes a spec; a disk that was not asked for has the size of the base images", () => {
    expect(parseCreate(create(CreateSandboxRequestSchema, CREATE))).toMatchObject({
      id: CREATE.sandboxId,
      memoryMib: 256,
      diskMib: 5120,
      defaultEnvs: { PATH_INFO: "x" },
    });
  });

  const wrong: [string, Partial<typeof CREATE>][] = [
    ["sandbox_id", { sandboxId: "cl-../../etc" }],
    ["sandbox_id", { sandboxId: `sb-${"0".repeat(25)}` }],
    ["operation_id", { operationId: "1" }],
    ["vcpus", { vcpus: 0 }],
    ["vcpus", { vcpus: 1000 }],
    ["memory_mb", { memoryMb: -1 }],
    ["memory_mb", { memoryMb: 2 ** 30 }],
    ["disk_size_mb", { diskSizeMb: -5 }],
    ["timeout_sec", { timeoutSec: -1 }],
    ["team_id", { teamId: "../x" }],
    ["template_id", { templateId: UUID.toUpperCase().replace("4", "A") }],
    ["template_team_id", { templateTeamId: "" }],
    ["default_user", { defaultUser: "a:b" }],
    ["default_env", { defaultEnv: { "A=B": "1" } }],
    ["default_env", { defaultEnv: { A: "x\0y" } }],
    ["envd_access_token", { envdAccessToken: "" }],
    ["envd_access_token", { envdAccessToken: "a\r\nHost: evil" }],
  ];
  test.each(wrong)("with a wrong %s is refused by that name: %p", (field, change) => {
    const request = create(CreateSandboxRequestSchema, { ...CREATE, ...change });

    expect(() => parseCreate(request)).toThrow(new RegExp(`^${field}: `));
  });
});

describe("shares", () => {
  const parse = (shares: object) =>
    parseCreate(create(CreateSandboxRequestSchema, { ...CREATE, shares })).shares;

  test("that are not named are the host's", () => {
    expect(parseCreate(create(CreateSandboxRequestSchema, CREATE)).shares).toBeUndefined();
    expect(parse({ diskReadMibps: 7 })).toEqual({
      ...{ diskReadMibps: 7, diskWriteMibps: 0, diskReadIops: 0, diskWriteIops: 0 },
      ...{ networkInMbitps: 0, networkOutMbitps: 0 },
    });
  });

  test("out of bounds are refused by name", () => {
    expect(() => parse({ diskReadMibps: -1 })).toThrow(/^shares.disk_read_mibps: /);
    expect(() => parse({ networkInMbitps: 100_001 })).toThrow(/^shares.network_in_mbitps: /);
  });
});

describe("a resume", () => {
  const request = (from: string) =>
    parseResume(create(ResumeSandboxRequestSchema, { ...CREATE, from }));

  test("says what it is to come from, or leaves that to the host", () => {
    expect(["", "memory", "disk"].map((from) => request(from).from)).toEqual([
      null,
      "memory",
      "disk",
    ]);
    expect(() => request("tape")).toThrow("from: must be memory, disk or empty");
  });
});

describe("a command", () => {
  const wrong: [string, Partial<typeof COMMAND>][] = [
    ["cmd", { cmd: "" }],
    ["cmd", { cmd: "a\0b" }],
    ["args", { args: Array.from({ length: 5000 }, () => "x") }],
    ["args", { args: ["x".repeat(200_000)] }],
    ["envs", { envs: { "": "x" } }],
    ["cwd", { cwd: `/${"x".repeat(5000)}` }],
    ["user", { user: "root\n" }],
  ];
  test.each(wrong)("with a wrong %s is refused by that name", (field, change) => {
    const request = create(ExecRequestSchema, { ...COMMAND, ...change });

    expect(() => parseCommand(request)).toThrow(new RegExp(`^${field}: `));
  });

  test("has 30 seconds unless it asks for others, and a day at most", () => {
    expect([parseExecTimeout(0), parseExecTimeout(5)]).toEqual([30_000, 5_000]);
    expect(() => parseExecTimeout(100_000)).toThrow("timeout_sec: ");
    expect(() => parseExecTimeout(-1)).toThrow("timeout_sec: ");
  });
});

test("a kill is a SIGKILL by pid or tag unless it says SIGTERM", () => {
  const pid = { selector: { case: "pid" as const, value: 7 } };
  expect(parseKill(create(KillProcessRequestSchema, pid))).toEqual({
    process: { case: "pid", value: 7 },
    signal: "SIGKILL",
  });
  expect(() => parseKill(create(KillProcessRequestSchema, {}))).toThrow("pid: ");
  expect(() => parseKill(create(KillProcessRequestSchema, { ...pid, signal: "SIGHUP" }))).toThrow(
    "signal: ",
  );
});

test("a path is not empty, has no NUL and a bound; a depth has one, too", () => {
  expect(parseFilePath({ path: "a b/ü", user: "" })).toEqual({ path: "a b/ü", user: "" });
  for (const path of ["", "a\0b", "ü".repeat(2049)]) {
    expect(() => parseFilePath({ path, user: "" })).toThrow("path: ");
  }
  expect(() => parseFilePath({ path: "/", user: "a:b" })).toThrow("user: ");
  expect(parseDepth(0)).toBe(1);
  expect(() => parseDepth(1000)).toThrow("depth: ");
});
