// Who reaches whom, tried with real packets. Each refusal has its control: the same server answers
// somebody who may, so a connection that fails fails because of the policy.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm } from "node:fs/promises";
import { join } from "node:path";
import { DENIED_RANGES } from "../../proto/denied-ranges.ts";
import {
  connect,
  HOST_PUBLIC_ADDRESS,
  INTERNET_ADDRESS,
  type Place,
  serve,
  startGuest,
  startInternet,
} from "../../tests/harness/stand-in-guest.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { Log } from "../log.ts";
import { Kernel } from "../native/kernel.ts";
import { NetworkPool, type NetworkSlot } from "./network-pool.ts";
import { GUEST_CONNECTIONS_MAX } from "./rules.ts";
import { describeLinks } from "./slot.ts";

const log = new Log({ level: "warn", write: console.error });
const NATIVE_DIR = join(import.meta.dirname, "../../build/native");
/** One of each denied range that packets can be routed to. */
const DENIED: Readonly<Record<string, string>> = {
  "10.0.0.0/8": "10.99.7.1",
  "100.64.0.0/10": "100.64.7.1",
  "168.63.129.16/32": "168.63.129.16",
  "169.254.0.0/16": "169.254.169.254",
  "172.16.0.0/12": "172.16.7.1",
  "192.0.0.0/24": "192.0.0.192",
  "192.0.2.0/24": "192.0.2.7",
  "192.88.99.0/24": "192.88.99.1",
  "192.168.0.0/16": "192.168.77.1",
  "198.18.0.0/15": "198.19.255.7",
  "198.51.100.0/24": "198.51.100.7",
  "203.0.113.0/24": "203.0.113.7",
  "240.0.0.0/4": "240.7.7.7",
};
const DENIED_ADDRESSES = Object.values(DENIED);
const UNROUTABLE = ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4"];
const TAGS = ["tpa0", "tpb0"] as const;

const stack = new AsyncDisposableStack();
let kernel: Kernel;
let internet: { place: Place; port: number };
let hostPort: number;
let guests: { place: Place; port: number; slot: NetworkSlot }[];

beforeAll(async () => {
  kernel = stack.use(await Kernel.open(NATIVE_DIR));
  const place = await startInternet(kernel, DENIED_ADDRESSES, stack);
  internet = { place, port: await serve(place, stack) };
  hostPort = await serve(null, stack);

  const pools = await Promise.all(TAGS.map(openPool));
  guests = [];
  for (const pool of [pools[0], pools[0], pools[1]]) {
    if (pool === undefined) throw new Error("unreachable: two pools were opened");
    const slot = await pool.acquire();
    const guest = await startGuest(kernel, slot, stack);
    guests.push({ place: guest, port: await serve(guest, stack), slot });
  }
});

afterAll(() => stack.disposeAsync());

async function openPool(tag: string): Promise<NetworkPool> {
  const owner = await mkdtemp("/tmp/wrenn-network-");
  stack.defer(() => rm(owner, { recursive: true }));
  const pool = await NetworkPool.open({ kernel, log, tag, owner, ready: 0, keep: [] });
  stack.defer(() => pool.removeAll());
  return pool;
}

async function setInputPolicy(slot: NetworkSlot, policy: "accept" | "drop"): Promise<void> {
  const hook = `type filter hook input priority filter; policy ${policy};`;
  await kernel.network.runNft(slot.netns, `table inet wrenn {\nchain input {\n${hook}\n}\n}\n`);
}

function readIn(netns: string, files: string[]): string {
  const command = ["nsenter", `--net=/run/netns/${netns}`, "cat", ...files];
  return Bun.spawnSync(command).stdout.toString();
}

function guest(number: 0 | 1 | 2) {
  const found = guests[number];
  if (found === undefined) throw new Error("unreachable: three guests were started");
  return found;
}

describe("the host", () => {
  test("reaches each guest by its host address, and the guest sees its gateway", async () => {
    const answers = await Promise.all(
      guests.map(({ slot, port }) => connect(null, { address: slot.hostIp, port })),
    );

    expect(answers).toEqual(["169.254.0.22", "169.254.0.22", "169.254.0.22"]);
  });
});

describe("a guest", () => {
  test("reaches the internet, which sees the host's address", async () => {
    const to = { address: INTERNET_ADDRESS, port: internet.port };

    expect(await connect(guest(0).place, to)).toBe(HOST_PUBLIC_ADDRESS);
    expect(await connect(guest(2).place, to)).toBe(HOST_PUBLIC_ADDRESS);
  });

  test("does not reach addresses of a special purpose, which the host can", async () => {
    const targets = DENIED_ADDRESSES.map((address) => ({ address, port: internet.port }));

    const controls = await Promise.all(targets.map((to) => connect(null, to)));
    const answers = await Promise.all(targets.map((to) => connect(guest(0).place, to)));

    expect([...Object.keys(DENIED), ...UNROUTABLE].sort()).toEqual([...DENIED_RANGES].sort());
    expect(controls).toEqual(targets.map(() => HOST_PUBLIC_ADDRESS));
    expect(answers).toEqual(targets.map(() => null));
  });

  test("does not reach the host by any of its addresses", async () => {
    const { vethAddress } = describeLinks(TAGS[0], guest(0).slot.index);
    const addresses = [HOST_PUBLIC_ADDRESS, vethAddress];

    const control = await connect(null, { address: vethAddress, port: hostPort });
    const answers = await Promise.all(
      addresses.map((address) => connect(guest(0).place, { address, port: hostPort })),
    );

    expect(control).toBe(vethAddress);
    expect(answers).toEqual([null, null]);
  });

  test("does not reach its own namespace by any of its addresses", async () => {
    const { slot, place } = guest(0);
    const { uplinkAddress } = describeLinks(TAGS[0], slot.index);
    const port = await serve(slot.netns, stack);

    const targets = ["169.254.0.22", uplinkAddress, slot.hostIp].map((address) => ({
      address,
      port,
    }));
    const answers = await Promise.all(targets.map((to) => connect(place, to)));
    // The control: the same server answers once the namespace lets its input in.
    await setInputPolicy(slot, "accept");
    const control = await connect(place, { address: "169.254.0.22", port });
    await setInputPolicy(slot, "drop");

    expect(answers).toEqual([null, null, null]);
    expect(control).toBe("169.254.0.21");
  });

  test("does not reach a guest of the same agent or of another", async () => {
    const targets = [guest(1), guest(2)].flatMap(({ slot, port }, at) => [
      { address: slot.hostIp, port },
      { address: describeLinks(TAGS[at] ?? "", slot.index).uplinkAddress, port },
    ]);

    const answers = await Promise.all(targets.map((to) => connect(guest(0).place, to)));

    expect(answers).toEqual([null, null, null, null]);
  });

  test("is not reached from outside the host by its host address", async () => {
    const { slot, port } = guest(0);
    const device = { netns: internet.place, name: "eth0" };
    const route = { destination: slot.hostIp, prefixLength: 32, gateway: HOST_PUBLIC_ADDRESS };
    await kernel.network.addRoute(device, route);

    const to = { address: slot.hostIp, port };
    expect(await connect(null, to)).toBe("169.254.0.22");
    expect(await connect(internet.place, to)).toBeNull();
  });

  test("cannot fill the host's table of connections, and stays reachable", async () => {
    const { slot, place, port } = guest(1);
    const flows = 2 * GUEST_CONNECTIONS_MAX;
    const send = `for p in {1..${flows}}; do echo >/dev/udp/${INTERNET_ADDRESS}/$p; done`;

    // Its errors are the internet's "port unreachable".
    Bun.spawnSync(["nsenter", `--net=/run/netns/${place}`, "bash", "-c", send]);
    const tracked = readIn(slot.netns, ["/proc/sys/net/netfilter/nf_conntrack_count"]);

    expect(Number(tracked)).toBeGreaterThan(GUEST_CONNECTIONS_MAX / 2);
    expect(Number(tracked)).toBeLessThan(GUEST_CONNECTIONS_MAX + 100);
    // The machine may still be at the errors.
    const answer = await waitFor("an answer", () => connect(null, { address: slot.hostIp, port }));
    expect(answer).toBe("169.254.0.22");
  });

  test("has no IPv6", async () => {
    const files = ["eth0", "tap0"].map((name) => `/proc/sys/net/ipv6/conf/${name}/disable_ipv6`);

    expect(readIn(guest(0).slot.netns, files)).toBe("1\n1\n");
  });
});
