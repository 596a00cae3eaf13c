// `make bench`: a platform of its own, each figure beside its baseline in the same run, as a table and as
// build/bench.json.

import { join, resolve } from "node:path";
import { deletePlatform, startPlatform, stopPlatform } from "../../scripts/dev/platform.ts";
import { adminClient } from "../harness/platform.ts";
import { BareVmm } from "./bare-vmm.ts";
import { benchExec, benchFiles } from "./exec-and-files.ts";
import { benchGetCapsule } from "./get-capsule.ts";
import { benchProxy } from "./proxy.ts";
import { inTurn, printTable, type Row, timed } from "./rows.ts";
import { benchStreams } from "./streams.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const HOME = join(ROOT, "build/bench");
const CREATE_RUNS = 5;
const SHAPE = { vcpus: 1, memory_mb: 512 };

process.env.DEV_DIR = HOME;
await stopPlatform(HOME);
await deletePlatform(HOME);
const progress = (line: string) => console.log(`==> ${line}`);
try {
  await startPlatform({
    home: HOME,
    databaseUrl: undefined,
    redisUrl: undefined,
    durable: true,
    progress,
  });
  const rows = await measure();
  printTable(rows);
  await Bun.write(join(ROOT, "build/bench.json"), `${JSON.stringify(rows, null, 2)}\n`);
} finally {
  await stopPlatform(HOME);
  await deletePlatform(HOME);
}

async function measure(): Promise<Row[]> {
  const client = await adminClient();
  progress("cold create");
  const create = await benchCreate(client);

  const capsule = await client.create(SHAPE);
  progress("exec");
  const exec = await benchExec(client, capsule);
  progress("streams");
  const streams = await benchStreams(client, capsule);
  progress("files");
  const files = await benchFiles(client, capsule);
  progress("proxy");
  const proxy = await benchProxy(client, capsule);
  progress("reads");
  const get = await benchGetCapsule(client);
  await client.destroy(capsule.id);
  return [create, exec, ...streams, ...files, ...proxy, get];
}

async function benchCreate(client: Awaited<ReturnType<typeof adminClient>>): Promise<Row> {
  await using bare = await BareVmm.open();
  const medians = await inTurn(
    CREATE_RUNS,
    async () => {
      let id = "";
      const ms = await timed(async () => {
        id = (await client.create(SHAPE)).id;
        await client.exec(id, { cmd: "/bin/true" });
      });
      await client.destroy(id);
      return ms;
    },
    () => bare.bootAndExec(SHAPE),
  );
  return {
    name: "cold create to the end of a first exec",
    unit: "ms",
    ...medians,
    baselineIs: "the bare VMM with the same flags",
  };
}
