// Freezing and thawing the processes of a guest, on a real cgroup2 file system.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { mkdirSync, readFileSync, rmdirSync } from "node:fs";
import { join } from "node:path";
import { Cgroups } from "../../envd/process/cgroups.ts";
import { waitFor } from "../harness/wait-for.ts";
import { runShell, startAndLeave, tagsOf } from "./command.ts";
import { type Envd, postInit, processClient, startEnvd, WAIT_MS } from "./fixture.ts";

// The machine may be busy with virtual machines; a guest is slower still.
setDefaultTimeout(60_000);

const TOKEN = "cgroup-token";
let root: string;
let envd: Envd;
beforeAll(async () => {
  const mount = readFileSync("/proc/mounts", "utf8").match(/^\S+ (\S+) cgroup2 /m)?.[1];
  if (mount === undefined) throw new Error("no cgroup2 file system is mounted");
  root = join(mount, `envd-test-${crypto.randomUUID()}`);
  mkdirSync(root);
  envd = { ...(await startEnvd({ cgroupRoot: root })), token: TOKEN };
  await postInit(envd, { accessToken: TOKEN });
});
afterAll(async () => {
  await envd[Symbol.asyncDispose]();
  Cgroups.open(root)?.remove();
  rmdirSync(root);
});

const control = (path: string, token = TOKEN) =>
  fetch(envd.baseUrl + path, { method: "POST", headers: { "x-access-token": token } });

/** A process that counts, in the group of commands or of terminals. */
async function startCounting(options: { pty: boolean }) {
  const client = processClient(envd, "json");
  const path = `/tmp/envd-count-${crypto.randomUUID()}`;
  const script = `i=0; while :; do i=$((i+1)); echo $i > ${path}; sleep 0.01; done`;
  const pty = options.pty ? { pty: { size: { cols: 80, rows: 24 } } } : {};
  await startAndLeave(client, { cmd: "/bin/sh", args: ["-c", script], tag: path, ...pty });
  const count = async () => Number(await Bun.file(path).text());
  await waitFor(
    "the first count",
    async () => (await Bun.file(path).exists()) && (await count()) > 0,
    { timeoutMs: WAIT_MS },
  );
  return {
    count,
    async isCounting(): Promise<boolean> {
      const before = await count();
      await Bun.sleep(300);
      return (await count()) !== before;
    },
    async [Symbol.asyncDispose]() {
      await client.sendSignal({ process: { selector: { case: "tag", value: path } }, signal: 9 });
      await waitFor("the end of the counting", () => tagsOf(client), {
        holds: (tags) => !tags.includes(path),
        timeoutMs: WAIT_MS,
      });
      await Bun.file(path).delete();
    },
  };
}

test("frozen processes stand still, and envd answers", async () => {
  await using command = await startCounting({ pty: false });
  await using terminal = await startCounting({ pty: true });

  const frozen = await control("/freeze");
  const counting = [await command.isCounting(), await terminal.isCounting()];
  const health = await fetch(`${envd.baseUrl}/health`);
  const thawed = await control("/unfreeze");

  expect([frozen.status, health.status, thawed.status]).toEqual([204, 200, 204]);
  expect(counting).toEqual([false, false]);
  for (const one of [command, terminal]) await goesOn(one);
});

test("a message of the host thaws, even one that changes nothing", async () => {
  await using command = await startCounting({ pty: false });
  const timestamp = new Date().toISOString();
  await postInit(envd, { accessToken: TOKEN, timestamp });
  await control("/freeze");
  await postInit(envd, { accessToken: TOKEN, timestamp });

  await goesOn(command);
});

test("what is frozen can be killed, and what starts then runs after the thaw", async () => {
  const counting = await startCounting({ pty: false });
  await control("/freeze");
  const late = runShell(processClient(envd, "json"), "echo late");
  await counting[Symbol.asyncDispose]();
  await control("/unfreeze");

  expect((await late).stdout.toString()).toBe("late\n");
});

test("nobody freezes without the token, or for a senseless time", async () => {
  const statuses = [
    await control("/freeze", "other"),
    await control("/unfreeze", "other"),
    await control("/freeze?maxWaitMs=x"),
    await control("/freeze?maxWaitMs=99999"),
  ].map(({ status }) => status);

  expect(statuses).toEqual([401, 401, 400, 400]);
});

test("a forgotten guest thaws by itself", async () => {
  await using command = await startCounting({ pty: false });
  const cgroups = Cgroups.open(root);
  await cgroups?.freeze(2000, 3000);
  const before = await command.count();
  await Bun.sleep(200);
  const during = await command.count();

  expect(during).toBe(before);
  await goesOn(command);
});

/** Throws if it stands still; how soon it goes on is the machine's business. */
async function goesOn({ count }: { count: () => Promise<number> }): Promise<void> {
  const before = await count();
  await waitFor("the count to go on", count, {
    holds: (now) => now > before,
    timeoutMs: WAIT_MS,
  });
}
