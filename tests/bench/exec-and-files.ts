// Work inside one running capsule: commands and files through the API, against direct ways into the guest.

import { hostIpOf } from "../harness/agent-client.ts";
import type { Capsule, Client } from "../harness/client.ts";
import { waitFor } from "../harness/wait-for.ts";
import { envdClient, RAW_TCP_PROGRAM, receiveRaw, runDirectly, sendRaw } from "./guest-baseline.ts";
import { inTurn, type Row, timed } from "./rows.ts";

const EXEC_RUNS = 21;
const FILE_RUNS = 5;
/** Python has to start, on an emulated processor. */
const START_TIMEOUT_MS = 120_000;
const FILE_BYTES = 50 * 1000 * 1000;

export async function benchExec(client: Client, capsule: Capsule): Promise<Row> {
  const envd = await envdClient(capsule);
  await runDirectly(envd, "/bin/true");
  await client.exec(capsule.id, { cmd: "/bin/true" });
  const medians = await inTurn(
    EXEC_RUNS,
    () => timed(() => client.exec(capsule.id, { cmd: "/bin/true" })),
    () => timed(() => runDirectly(envd, "/bin/true")),
  );
  return { name: "exec /bin/true", unit: "ms", ...medians, baselineIs: "envd directly" };
}

export async function benchFiles(client: Client, capsule: Capsule): Promise<Row[]> {
  const host = await hostIpOf(capsule);
  await client.exec(capsule.id, {
    cmd: "python3",
    args: ["-c", RAW_TCP_PROGRAM, String(FILE_BYTES), "/home/wrenn-user/raw"],
    background: true,
    tag: "raw-tcp",
  });
  await untilListening(host);
  const bytes = new Uint8Array(FILE_BYTES).fill(0x5a);
  const rate = async (body: () => Promise<unknown>) =>
    FILE_BYTES / 1e6 / ((await timed(body)) / 1000);

  const uploads = () =>
    inTurn(
      FILE_RUNS,
      () => rate(() => client.write(capsule.id, "/home/wrenn-user/bench", bytes)),
      () => rate(() => sendRaw(host, bytes)),
    );
  // Its agent compiles what it runs often, and on an emulated processor that takes many uploads.
  const first = await uploads();
  const later = await uploads();
  const down = await inTurn(
    FILE_RUNS,
    () => rate(() => client.read(capsule.id, "/home/wrenn-user/bench")),
    () => rate(() => receiveRaw(host)),
  );
  const into = "raw TCP through the TAP into a file that is then renamed";
  const outOf = "raw TCP through the TAP out of a file";
  return [
    { name: "file up, 50 MB, the guest's first", unit: "MB/s", ...first, baselineIs: into },
    { name: "file up, 50 MB, later ones", unit: "MB/s", ...later, baselineIs: into },
    { name: "file down, 50 MB", unit: "MB/s", ...down, baselineIs: outOf },
  ];
}

async function untilListening(host: string): Promise<void> {
  await waitFor("the raw TCP program in the guest", () => receiveRaw(host).catch(() => 0), {
    holds: (bytes) => bytes === FILE_BYTES,
    timeoutMs: START_TIMEOUT_MS,
  });
}
