// The unmodified E2B client against envd.
import { beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { $ } from "bun";
import { buildPrograms, PACE } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000);

interface Seen {
  readonly isRunning: boolean;
  readonly commands: Record<string, unknown>;
  readonly terminal: { exitCode: number; shown: string };
  readonly files: Record<string, unknown>;
  readonly changes: string[];
}

let seen: Seen;
beforeAll(async () => {
  await buildPrograms();
  const script = join(import.meta.dir, "e2b-client.ts");
  // A network namespace of its own, because the port is fixed and may be in use.
  const inside = `ip link set lo up && exec ${process.execPath} ${script}`;
  seen = JSON.parse(
    process.env.ENVD_URL
      ? await $`${process.execPath} ${script}`.text()
      : await $`unshare --net sh -c ${inside}`.text(),
  );
}, 60_000 * PACE);

test("it finds the sandbox running", () => {
  expect(seen.isRunning).toBe(true);
});

test("it runs commands in front and behind, with input, deadlines and users", () => {
  expect(seen.commands).toEqual({
    run: { exitCode: 0, stdout: "out\n/tmp\nb\n", stderr: "err\n", streamed: "out\n/tmp\nb\n" },
    failed: 3,
    late: "TimeoutError",
    user: "nobody\n",
    background: { listed: true, stdout: "got this\n" },
    killed: { isKilled: true, ended: "signal: killed", isKilledTwice: false },
  });
});

test("it has a terminal that follows its size", () => {
  expect(seen.terminal.exitCode).toBe(0);
  expect(seen.terminal.shown).toContain("40 120\r\nxterm-256color\r\n");
});

test("it writes, reads, lists, moves and removes files", () => {
  expect(seen.files).toEqual({
    written: "/files/a/text",
    text: "héllo",
    bytes: 100_000,
    empty: "",
    isMade: true,
    isMadeTwice: false,
    moved: "/files/made/uno",
    list: [
      "dir /files/a",
      "file /files/a/text",
      "file /files/empty",
      "dir /files/made",
      "file /files/made/uno",
      "file /files/two",
    ],
    info: { size: 100_000, permissions: "-rw-r--r--", owner: "root" },
    exists: false,
    isMissing: true,
  });
});

test("it is told of changes in a tree", () => {
  expect(seen.changes).toContain("create sub dir");
  expect(seen.changes.some((change) => change.startsWith("create sub/file"))).toBe(true);
  expect(seen.changes.at(-1)).toBe("remove sub/file -");
});
