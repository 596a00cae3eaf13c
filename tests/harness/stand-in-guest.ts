// Network namespaces that play what is outside the agent: a guest behind a slot's TAP, and an
// internet.

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { Kernel } from "../../agent/native/kernel.ts";
import { netnsPath } from "../../agent/native/network-calls.ts";
import type { NetworkSlot } from "../../agent/network/network-pool.ts";

const RELAY = join(import.meta.dirname, "../../build/native/tests/tap-relay");
// Every link is local: an answer takes milliseconds.
const CONNECT_TIMEOUT_S = 1;

// Answers each connection with the address it comes from, then closes.
const SERVER = `
const server = Bun.listen({ hostname: "0.0.0.0", port: 0, socket: {
  open(socket) { socket.end(socket.remoteAddress + "\\n"); }, data() {} } });
console.log(server.port);
`;

// Accepts connections and never says a word.
const SILENT_SERVER = `
const server = Bun.listen({ hostname: "0.0.0.0", port: 0, socket: { data() {} } });
console.log(server.port);
`;

/** A namespace, by its name under /run/netns, or null for the agent's own. */
export type Place = string | null;

/**
 * Of no special purpose, so that guests may go there, and of a network (33.0.0.0/8) that nobody announces to the
 * internet: while a test runs, the machine that runs it misses nothing there.
 */
export const INTERNET_ADDRESS = "33.203.113.80";
/** The host's own address on the link to the internet. */
export const HOST_PUBLIC_ADDRESS = "33.198.255.1";
const ROUTER_ADDRESS = "33.198.255.2";

/**
 * A namespace with the guest's address, joined to the slot's TAP by a process that opens it as the
 * VMM's user would. Returns its name; goes with the stack.
 */
export async function startGuest(
  kernel: Kernel,
  slot: NetworkSlot,
  stack: AsyncDisposableStack,
): Promise<string> {
  const { network } = kernel;
  const netns = `wt-guest-${slot.netns}`;
  const device = { netns, name: "eth0" };
  await network.createNetns(netns);
  stack.defer(() => network.deleteNetns(netns).then(() => {}));
  await network.createTap(device, 0);
  await network.addAddress(device, { address: "169.254.0.21", prefixLength: 30 });

  const relay = Bun.spawn([RELAY, netnsPath(slot.netns), slot.tap, netnsPath(netns), "eth0"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  stack.defer(async () => {
    relay.stdin.end();
    await relay.exited;
  });
  await readLine(relay.stdout);
  await network.bringUp(device);
  const gateway = "169.254.0.22";
  await network.addRoute(device, { destination: "0.0.0.0", prefixLength: 0, gateway });
  return netns;
}

/**
 * A namespace that the host routes INTERNET_ADDRESS and `others` to. It knows no way back but to
 * the host's own address, so only what is masqueraded gets answers.
 */
export async function startInternet(
  kernel: Kernel,
  others: readonly string[],
  stack: AsyncDisposableStack,
): Promise<string> {
  const { network } = kernel;
  const mark = randomBytes(3).toString("hex");
  const netns = `wt-internet-${mark}`;
  const host = { netns: null, name: `wt-${mark}` };
  const inside = { netns, name: "eth0" };
  await network.createNetns(netns);
  stack.defer(async () => {
    await network.deleteLink(host);
    await network.deleteNetns(netns);
  });
  await network.createVeth({ name: host.name, peer: inside.name, netns });
  await network.addAddress(host, { address: HOST_PUBLIC_ADDRESS, prefixLength: 30 });
  await network.addAddress(inside, { address: ROUTER_ADDRESS, prefixLength: 30 });
  await network.bringUp(host);
  await network.bringUp(inside);
  for (const address of [INTERNET_ADDRESS, ...others]) {
    await network.addAddress(inside, { address, prefixLength: 32 });
    const route = { destination: address, prefixLength: 32, gateway: ROUTER_ADDRESS };
    await network.addRoute(host, route);
  }
  return netns;
}

/**
 * Starts a server on all addresses of the place that tells each client its address; returns its
 * port.
 */
export async function serve(place: Place, stack: AsyncDisposableStack): Promise<number> {
  return await startServer(place, SERVER, stack);
}

/** Starts a server that accepts connections and leaves them open without a word; returns its port. */
export async function holdConnections(place: Place, stack: AsyncDisposableStack): Promise<number> {
  return await startServer(place, SILENT_SERVER, stack);
}

async function startServer(
  place: Place,
  script: string,
  stack: AsyncDisposableStack,
): Promise<number> {
  const child = Bun.spawn(inside(place, [process.execPath, "-e", script]), {
    stdio: ["ignore", "pipe", "inherit"],
  });
  stack.defer(async () => {
    child.kill();
    await child.exited;
  });
  return Number(await readLine(child.stdout));
}

/**
 * What a server answers to a connection from the place: the client's address as it sees it, or null
 * if none comes.
 */
export async function connect(
  from: Place,
  to: { address: string; port: number },
): Promise<string | null> {
  const script = `exec 3<>/dev/tcp/${to.address}/${to.port} && read -r line <&3 && echo "$line"`;
  const command = ["timeout", String(CONNECT_TIMEOUT_S), "bash", "-c", script];
  const child = Bun.spawn(inside(from, command), { stdio: ["ignore", "pipe", "ignore"] });
  const answer = (await new Response(child.stdout).text()).trim();
  await child.exited;
  return answer === "" ? null : answer;
}

function inside(place: Place, command: string[]): string[] {
  return place === null ? command : ["nsenter", `--net=${netnsPath(place)}`, ...command];
}

async function readLine(stream: ReadableStream<Uint8Array>): Promise<string> {
  const reader = stream.getReader();
  const { value } = await reader.read();
  reader.releaseLock();
  return new TextDecoder().decode(value).trim();
}
