// Direct ways into a guest, past the platform: envd by its own RPC, and raw TCP through the TAP.

import { connect } from "node:net";
import { createClient, type Client as RpcClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { EnvdTokens } from "../../cp/capsules/envd-tokens.ts";
import { Process } from "../../proto/gen/envd/process_pb.js";
import { decodeId } from "../../proto/ids.ts";
import { hostIpOf } from "../harness/agent-client.ts";
import type { Capsule } from "../harness/client.ts";
import { platform } from "../harness/platform.ts";

/** A client of the capsule's envd, with its token. */
export async function envdClient(capsule: Capsule): Promise<RpcClient<typeof Process>> {
  const { cpEnv } = await platform();
  const id = decodeId("capsule", capsule.id);
  if (id === null) throw new Error(`${capsule.id} is no capsule id`);
  const key = Buffer.from(cpEnv.WRENN_ENCRYPTION_KEY ?? "", "hex");
  const token = new EnvdTokens(key).of(id);
  const transport = createConnectTransport({
    baseUrl: `http://${await hostIpOf(capsule)}:49983`,
    useBinaryFormat: true,
    interceptors: [
      (next) => (request) => {
        request.header.set("X-Access-Token", token);
        return next(request);
      },
    ],
  });
  return createClient(Process, transport);
}

/** Runs a command to its end by the guest agent's own stream. */
export async function runDirectly(envd: RpcClient<typeof Process>, cmd: string): Promise<void> {
  for await (const { event } of envd.start({ process: { cmd, args: [] }, stdin: false })) {
    if (event?.event.case === "end" && event.event.value.exitCode !== 0) {
      throw new Error(`${cmd} ended with ${event.event.value.exitCode}`);
    }
  }
}

/**
 * A guest program that takes `bytes` on one port and writes them, as envd does, into a file that then
 * takes the place of the one before, without fsync; it answers one byte. It sends as many of a file's
 * on the next port.
 */
export const RAW_TCP_PROGRAM = `
import os, socket, threading, sys
size = int(sys.argv[1]); path = sys.argv[2]
def serve(port, handle):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("0.0.0.0", port)); s.listen(8)
    while True:
        c, _ = s.accept(); handle(c); c.close()
def sink(c):
    left = size; buffer = bytearray(1 << 18); view = memoryview(buffer)
    with open(path + ".part", "wb", buffering=0) as file:
        while left > 0:
            n = c.recv_into(buffer)
            if n == 0: return
            at = 0
            while at < n: at += file.write(view[at:n])
            left -= n
    os.rename(path + ".part", path)
    c.sendall(b"k")
def source(c):
    buffer = bytearray(1 << 18); view = memoryview(buffer)
    with open(path, "rb", buffering=0) as file:
        while True:
            n = file.readinto(buffer)
            if n == 0: return
            c.sendall(view[:n])
with open(path, "wb") as file: file.truncate(size)
threading.Thread(target=serve, args=(9001, sink), daemon=True).start()
serve(9002, source)
`;

/** Sends the bytes to the guest program and waits for its answer. */
export function sendRaw(host: string, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect(9001, host, () => socket.write(bytes));
    socket.once("data", () => {
      socket.destroy();
      resolve();
    });
    socket.once("error", reject);
  });
}

/** Receives all that the guest program sends; returns how many bytes those were. */
export function receiveRaw(host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let count = 0;
    const socket = connect(9002, host);
    socket.on("data", (chunk) => {
      count += chunk.length;
    });
    socket.once("end", () => resolve(count));
    socket.once("error", reject);
  });
}
