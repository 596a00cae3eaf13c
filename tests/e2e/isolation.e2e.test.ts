// Two teams on one host neither see nor reach each other's capsules, by API or by network.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { networkInterfaces } from "node:os";
import { hostIpOf } from "../harness/agent-client.ts";
import { apiError, type Capsule, type Client } from "../harness/client.ts";
import { adminClient, newTeamClient, platform } from "../harness/platform.ts";
import { waitFor } from "../harness/wait-for.ts";

const BOOT_TIMEOUT_MS = 180_000;
const LISTEN = `
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
ThreadingHTTPServer(('0.0.0.0', 8000), SimpleHTTPRequestHandler).serve_forever()
`;
/** Prints a line for each address and port: `open` when a TCP connection comes about within 2 s, else why not. */
const CONNECT = `
import socket, sys
from concurrent.futures import ThreadPoolExecutor
def connect(target):
    address, port = target.rsplit(":", 1)
    s = socket.socket(); s.settimeout(2)
    try:
        s.connect((address, int(port))); return "open"
    except OSError as e:
        return f"{type(e).__name__} {e}"
with ThreadPoolExecutor(32) as pool:
    for answer in pool.map(connect, sys.argv[1:]): print(answer)
`;

let ours: Client;
let theirs: Client;
let ourCapsule: Capsule;
let theirCapsule: Capsule;

beforeAll(async () => {
  ours = await adminClient();
  theirs = await newTeamClient();
  [ourCapsule, theirCapsule] = await Promise.all([
    ours.create({ memory_mb: 256 }),
    theirs.create({ memory_mb: 256 }),
  ]);
  await theirs.exec(theirCapsule.id, {
    cmd: "python3",
    args: ["-c", LISTEN],
    background: true,
    tag: "listener",
  });
  await waitFor("the listener", () => connect(theirs, theirCapsule, ["127.0.0.1:8000"]), {
    holds: ([answer]) => answer === "open",
    timeoutMs: 60_000,
  });
}, BOOT_TIMEOUT_MS);

afterAll(async () => {
  await Promise.all([ours.destroy(ourCapsule.id), theirs.destroy(theirCapsule.id)]);
}, BOOT_TIMEOUT_MS);

describe("by API", () => {
  test("another team's capsule is not found by any route", async () => {
    const path = `/v1/capsules/${theirCapsule.id}`;
    const attempts = [
      () => ours.json("GET", path),
      () => ours.json("DELETE", path),
      () => ours.json("POST", `${path}/ping`),
      () => ours.json("POST", `${path}/exec`, { cmd: "true" }),
      () => ours.json("GET", `${path}/processes`),
      () => ours.json("DELETE", `${path}/processes/listener`),
      () => ours.json("POST", `${path}/files/list`, { path: "/" }),
      () => ours.json("POST", `${path}/files/mkdir`, { path: "/tmp/x" }),
      () => ours.json("POST", `${path}/files/remove`, { path: "/tmp/x" }),
      () => ours.read(theirCapsule.id, "/etc/passwd"),
      () => ours.write(theirCapsule.id, "/tmp/x", "x"),
    ];

    for (const attempt of attempts) {
      expect(await apiError(attempt())).toMatchObject({ status: 404, code: "not_found" });
    }
    expect((await ours.list()).map((c) => c.id)).not.toContain(theirCapsule.id);
    expect(await theirs.get(theirCapsule.id)).toMatchObject({ status: "running" });
  });

  test("without a key, or with a wrong one, nothing answers", async () => {
    for (const headers of [{}, { "x-api-key": "wrn_00000000000000000000000000000000" }]) {
      const { baseUrl } = await platform();
      const response = await fetch(`${baseUrl}/v1/capsules/${ourCapsule.id}`, { headers });
      expect(response.status).toBe(401);
    }
  });
});

describe("by network", () => {
  test("the listener of the other capsule answers its own team and the host", async () => {
    expect(await connect(theirs, theirCapsule, ["127.0.0.1:8000"])).toEqual(["open"]);
    const response = await fetch(`http://${await hostIpOf(theirCapsule)}:8000/`, {
      signal: AbortSignal.timeout(5_000),
    });
    expect(response.status).toBe(200);
  });

  test("it can't be reached from a capsule of another team", async () => {
    const hostIp = await hostIpOf(theirCapsule);

    const answers = await connect(ours, ourCapsule, [`${hostIp}:8000`, `${hostIp}:49983`]);

    expect(answers.map((answer) => answer === "open")).toEqual([false, false]);
  });

  test("no address of the host answers, nor metadata, nor private ranges", async () => {
    const { ports } = await platform();
    const hostAddresses = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .filter((address) => address.family === "IPv4" && !address.internal)
      .map((address) => address.address);
    const targets = [
      ...hostAddresses.slice(0, 6).map((address) => `${address}:${ports.cp}`),
      `169.254.0.22:${ports.cp}`,
      "169.254.169.254:80",
      "10.0.0.1:80",
      "172.16.0.1:80",
      "192.168.0.1:80",
      "100.64.0.1:80",
    ];

    const answers = await connect(ours, ourCapsule, targets);

    expect(answers.map((answer) => answer === "open")).toEqual(targets.map(() => false));
  }, 60_000);

  test("the guest's own address and loopback work", async () => {
    const args = ["-m", "http.server", "8001"];
    await ours.exec(ourCapsule.id, { cmd: "python3", args, background: true, tag: "server" });
    const addresses = ["169.254.0.21:8001", "127.0.0.1:8001"];

    await waitFor("both to be open", () => connect(ours, ourCapsule, addresses), {
      holds: (answers) => answers.every((answer) => answer === "open"),
    });
    await ours.json("DELETE", `/v1/capsules/${ourCapsule.id}/processes/server`);
  }, 60_000);
});

async function connect(client: Client, from: Capsule, targets: string[]): Promise<string[]> {
  const args = ["-c", CONNECT, ...targets];
  const { stdout } = await client.exec(from.id, { cmd: "python3", args, user: "root" });
  return stdout.trimEnd().split("\n");
}
