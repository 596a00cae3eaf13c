// Streams through the API's WebSockets, against envd's own streams in the same run.

import type { Capsule, Client } from "../harness/client.ts";
import { platform } from "../harness/platform.ts";
import { StreamClient } from "../harness/stream-client.ts";
import { envdClient, runDirectly } from "./guest-baseline.ts";
import { inTurn, type Row, timed } from "./rows.ts";

const EXEC_RUNS = 21;
const ECHO_RUNS = 41;
const THROUGHPUT_RUNS = 5;
const THROUGHPUT_BYTES = 20_000_000;
const PRINT = ["-c", `head -c ${THROUGHPUT_BYTES} /dev/zero | tr '\\0' x`];
const baselineIs = "envd directly";

type Envd = Awaited<ReturnType<typeof envdClient>>;

export async function benchStreams(client: Client, capsule: Capsule): Promise<Row[]> {
  const envd = await envdClient(capsule);
  const { baseUrl, account } = await platform();
  const open = (route: string) =>
    StreamClient.open(baseUrl, `/v1/capsules/${capsule.id}/${route}`, {
      "x-api-key": account.apiKey,
    });
  await client.exec(capsule.id, { cmd: "/bin/true" });
  const exec = await inTurn(
    EXEC_RUNS,
    () => timed(() => execToEnd(open)),
    () => timed(() => runDirectly(envd, "/bin/true")),
  );
  const echo = await benchEcho(open, envd);
  const rate = async (body: () => Promise<unknown>) =>
    THROUGHPUT_BYTES / 1e6 / ((await timed(body)) / 1000);
  const output = await inTurn(
    THROUGHPUT_RUNS,
    () => rate(() => printToEnd(open)),
    () => rate(() => printDirectly(envd)),
  );
  return [
    { name: "exec stream /bin/true", unit: "ms", ...exec, baselineIs },
    { name: "terminal echo of a key", unit: "ms", ...echo, baselineIs },
    { name: "exec stream output, 20 MB", unit: "MB/s", ...output, baselineIs },
  ];
}

type Open = (route: string) => Promise<StreamClient>;

async function execToEnd(open: Open): Promise<void> {
  await using stream = await open("exec/stream");
  stream.send({ type: "start", cmd: "/bin/true" });
  await stream.until("exit");
}

async function printToEnd(open: Open): Promise<void> {
  await using stream = await open("exec/stream");
  stream.send({ type: "start", cmd: "/bin/sh", args: PRINT });
  let bytes = 0;
  while (bytes < THROUGHPUT_BYTES) bytes += (await stream.until("stdout")).data?.length ?? 0;
}

async function printDirectly(envd: Envd): Promise<void> {
  let bytes = 0;
  const process = { cmd: "/bin/sh", args: PRINT };
  for await (const { event } of envd.start({ process, stdin: false })) {
    if (event?.event.case === "data") bytes += event.event.value.output.value?.length ?? 0;
  }
  if (bytes !== THROUGHPUT_BYTES) throw new Error(`${bytes} bytes of ${THROUGHPUT_BYTES}`);
}

/** `cat` on a terminal that echoes: each key comes back once, from the terminal itself. */
async function benchEcho(open: Open, envd: Envd) {
  await using stream = await open("pty");
  stream.send({ type: "start", cmd: "/bin/cat" });
  await stream.until("started");
  const direct = await openDirectly(envd);
  const echoes = await inTurn(
    ECHO_RUNS,
    () =>
      timed(async () => {
        stream.type("x");
        await stream.until("output");
      }),
    () => timed(() => direct.echo()),
  );
  stream.send({ type: "kill" });
  await direct.kill();
  return echoes;
}

async function openDirectly(envd: Envd) {
  const size = { cols: 80, rows: 24 };
  const started = envd.start({ process: { cmd: "/bin/cat", args: [] }, pty: { size } });
  const events = started[Symbol.asyncIterator]();
  const first = await events.next();
  const event = first.done === true ? undefined : first.value.event?.event;
  if (event?.case !== "start") throw new Error("envd did not start the terminal");
  const process = { selector: { case: "pid" as const, value: event.value.pid } };
  const input = { input: { case: "pty" as const, value: Buffer.from("x") } };
  return {
    async echo() {
      await Promise.all([envd.sendInput({ process, input }), events.next()]);
    },
    async kill() {
      await envd.sendSignal({ process, signal: 9 });
    },
  };
}
