// Watches of more directories than can be watched, and whose they are to the kernel.
import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import type { Client } from "@connectrpc/connect";
import { EventType, type Filesystem } from "../../proto/gen/envd/filesystem_pb.js";
import { waitFor } from "../harness/wait-for.ts";
import { failureOf, runShell } from "./command.ts";
import { type Envd, filesystemClient, processClient, startEnvd, WAIT_MS } from "./fixture.ts";

// The machine may be busy with virtual machines.
setDefaultTimeout(60_000);

/** One watch may have half of it. */
const WATCHES_MAX = 20;

let envd: Envd;
let client: Client<typeof Filesystem>;
let dir: string;
beforeAll(async () => {
  envd = await startEnvd({ inotifyWatchesMax: WATCHES_MAX });
  client = filesystemClient(envd, "json");
  dir = `/tmp/envd-watch-limit-${crypto.randomUUID()}`;
  await shell(`mkdir -p ${dir}/many/$(seq -s / 10) ${dir}/few/$(seq -s / 8)`);
});
afterAll(async () => {
  await shell(`rm -rf ${dir}`);
  await envd[Symbol.asyncDispose]();
});

const refusal = {
  code: "resource_exhausted",
  message: "too many directories: the guest cannot watch more (fs.inotify.max_user_watches)",
};

test("a tree of too many directories is refused, and the directory alone is not", async () => {
  const recursive = client.createWatcher({ path: `${dir}/many`, recursive: true });
  expect(await failureOf(recursive)).toEqual(refusal);

  const { watcherId } = await client.createWatcher({ path: `${dir}/many` });
  await client.removeWatcher({ watcherId });
});

test("a directory too many is told where it appears, and what else changes goes on", async () => {
  const path = `${dir}/few`;
  const { watcherId } = await client.createWatcher({ path, recursive: true });
  const stream = client.watchDir({ path, recursive: true })[Symbol.asyncIterator]();
  await stream.next();
  await shell(`cd ${path}; mkdir -p a/b/c; touch 1/2/after`);

  const streamed = async () => {
    for (;;) await stream.next();
  };
  const polled = async () => {
    for (;;) await client.getWatcherEvents({ watcherId });
  };
  const told = {
    ...refusal,
    message: refusal.message.replace("more", "'a/b' and below"),
  };
  expect([await failureOf(streamed()), await failureOf(polled())]).toEqual([told, told]);
  await shell(`touch ${path}/1/2/later`);
  await waitFor("the event of the file", () => client.getWatcherEvents({ watcherId }), {
    holds: ({ events }) =>
      events.some(({ type, name }) => type === EventType.CREATE && name === "1/2/later"),
    timeoutMs: WAIT_MS,
  });
  await client.removeWatcher({ watcherId });
});

test("a watch is not root's to the kernel, and sees what belongs to anybody", async () => {
  await shell(`mkdir ${dir}/closed; chown nobody ${dir}/closed; chmod 700 ${dir}/closed`);
  const { watcherId } = await client.createWatcher({ path: `${dir}/closed`, recursive: true });
  const status = await shell(`cat /proc/$(pgrep -f 'watch .*${dir}/closed$')/status`);
  await shell(`touch ${dir}/closed/file`);

  await waitFor("an event", () => client.getWatcherEvents({ watcherId }), {
    holds: ({ events }) => events.length > 0,
    timeoutMs: WAIT_MS,
  });
  expect(status).toMatch(/^Uid:\s+0\s+2000049983\s+0\s+2000049983$/m);
  expect(status).toMatch(/^CapEff:\s+0000000000000004$/m);
  await client.removeWatcher({ watcherId });
});

async function shell(script: string): Promise<string> {
  const { stdout } = await runShell(processClient(envd, "binary"), script);
  return stdout.toString();
}
