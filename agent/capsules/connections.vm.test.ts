// What becomes of TCP connections when a guest goes on elsewhere or in another time.

import { expect, setDefaultTimeout, test } from "bun:test";
import { join } from "node:path";
import { encodeId, newId } from "../../proto/ids.ts";
import { pauseDurably, resume } from "../../tests/harness/agent-calls.ts";
import { AgentProcess, NOTHING } from "../../tests/harness/agent-process.ts";
import {
  holdConnections,
  INTERNET_ADDRESS,
  startInternet,
} from "../../tests/harness/stand-in-guest.ts";
import { Kernel } from "../native/kernel.ts";

setDefaultTimeout(300_000);

const NATIVE_DIR = join(import.meta.dirname, "../../build/native");

/** Waits for a peer outside that says nothing, then uses a connection within the guest. */
const program = (port: number) => `
import socket, threading
server = socket.create_server(("127.0.0.1", 0))
def echo():
    peer, _ = server.accept()
    while data := peer.recv(100):
        peer.sendall(data)
threading.Thread(target=echo, daemon=True).start()
inside = socket.create_connection(server.getsockname())
outside = socket.create_connection(("${INTERNET_ADDRESS}", ${port}))
open("/dev/shm/waits", "w").close()
try:
    outcome = repr(outside.recv(100))
except OSError as error:
    outcome = type(error).__name__
inside.sendall(b"echo")
with open("/dev/shm/outcome", "w") as file:
    file.write(f"{outcome} {inside.recv(100).decode()}")
`;
const OUTCOME = "while [ ! -s /dev/shm/outcome ]; do sleep 0.05; done; cat /dev/shm/outcome";

test("connections to the outside end at a restore, those within the guest go on", async () => {
  await using stack = new AsyncDisposableStack();
  const kernel = stack.use(await Kernel.open(NATIVE_DIR));
  const port = await holdConnections(await startInternet(kernel, [], stack), stack);
  const agent = stack.use(await AgentProcess.start());
  const { client } = agent;
  const id = await agent.create();
  const args = ["-c", program(port)];
  await client.startBackground({ sandboxId: id, cmd: "python3", args, tag: "waits" });
  await agent.sh(id, "while [ ! -e /dev/shm/waits ]; do sleep 0.05; done");

  const sandboxId = encodeId("capsule", newId("capsule"));
  const child = { sandboxId, operationId: crypto.randomUUID(), envdAccessToken: "f".repeat(64) };
  await client.forkSandbox({ sandboxId: id, children: [child], timeoutSec: 600 });
  const ofFork = await agent.sh(sandboxId, OUTCOME);
  const ofSource = await agent.sh(id, "cat /dev/shm/outcome 2>/dev/null || echo waits");
  await pauseDurably(agent, id);
  await resume(agent, id);
  const ofResumed = await agent.sh(id, OUTCOME);

  expect(ofFork).toBe("ConnectionAbortedError echo");
  expect(ofSource).toBe("waits\n");
  expect(ofResumed).toBe("ConnectionAbortedError echo");
  for (const capsule of [id, sandboxId]) await client.destroySandbox({ sandboxId: capsule });
  expect(await agent.leftovers()).toEqual(NOTHING);
});
