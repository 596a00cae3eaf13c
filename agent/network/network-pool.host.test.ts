// Slots as kernel objects: what is made, what is left, and what a killed agent's successor finds.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { connect, serve, startGuest } from "../../tests/harness/stand-in-guest.ts";
import { waitFor } from "../../tests/harness/wait-for.ts";
import { Log } from "../log.ts";
import { Kernel } from "../native/kernel.ts";
import { NetworkPool, type NetworkSlot } from "./network-pool.ts";
import { netnsPrefix, SLOT_MAX, UPLINK, vethPrefix } from "./slot.ts";

const NATIVE_DIR = join(import.meta.dirname, "../../build/native");
const NOTHING = { netns: [], links: [], tables: [], claims: [], agents: [] };
// An agent is killed as soon as it has made this many namespaces and devices: at odd counts a slot
// is half made.
const KILL_AT_COUNTS = [1, 1, 2, 3, 3, 4, 5, 7, 9, 13];

// Fills a pool without end until it is killed.
const AGENT = `
const { Kernel } = await import(process.argv[1] + "/../native/kernel.ts");
const { NetworkPool } = await import(process.argv[1] + "/network-pool.ts");
const kernel = await Kernel.open(process.argv[2]);
const { Log } = await import(process.argv[1] + "/../log.ts");
const log = new Log({ level: "error", write: () => {} });
const [tag, owner] = process.argv.slice(3);
await NetworkPool.open({ kernel, log, tag, owner, ready: 256, keep: [] });
`;

/** A directory that is there, and no agent's. */
const FOREIGN_OWNER = "/proc";

const stack = new AsyncDisposableStack();
const lines: string[] = [];
const log = new Log({ level: "info", write: (line) => void lines.push(line) });
let kernel: Kernel;

beforeAll(async () => {
  kernel = stack.use(await Kernel.open(NATIVE_DIR));
});

afterAll(() => stack.disposeAsync());

async function newOwner(own: AsyncDisposableStack): Promise<string> {
  const owner = await mkdtemp("/tmp/wrenn-network-");
  own.defer(() => rm(owner, { recursive: true, force: true }));
  return owner;
}

async function objectsOf(tag: string, owner: string) {
  const tables = await kernel.network.runNft(null, "list tables");
  const claims: string[] = [];
  for (const name of await readdir("/run/wrenn/slots")) {
    const content = await readFile(join("/run/wrenn/slots", name), "utf8").catch(() => "");
    if (content === owner) claims.push(name);
  }
  return {
    netns: (await kernel.network.listNetns(netnsPrefix(tag))).sort(),
    links: (await kernel.network.listLinks(vethPrefix(tag))).sort(),
    tables: tables.split("\n").filter((line) => line.includes(`wrenn_${tag}`)),
    claims: claims.sort(),
    agents: (await readdir("/run/wrenn/agents")).filter((name) => name.startsWith(tag)),
  };
}

/** A number that was given back may be another agent's by now: only the claim that this file made goes. */
async function removeForeignClaim(index: number): Promise<void> {
  const path = `/run/wrenn/slots/${index}`;
  const owner = await readFile(path, "utf8").catch(() => "");
  if (owner === FOREIGN_OWNER) await rm(path, { force: true });
}

// Without waiting, so that the kill comes at once.
function countObjects(tag: string): number {
  const netns = readdirSync("/run/netns").filter((name) => name.startsWith(netnsPrefix(tag)));
  const links = readdirSync("/sys/class/net").filter((name) => name.startsWith(vethPrefix(tag)));
  return netns.length + links.length;
}

// Not expect().rejects: Bun 1.4.5 delivers no message of a Worker while it waits in there.
async function failureOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "no failure",
    (error) => error.message,
  );
}

test("a slot is gone after its release, and everything after removeAll", async () => {
  await using own = new AsyncDisposableStack();
  const owner = await newOwner(own);
  const pool = await NetworkPool.open({ kernel, log, tag: "tpc0", owner, ready: 0, keep: [] });
  own.defer(() => pool.removeAll());
  const opened = await objectsOf("tpc0", owner);

  const slots = await Promise.all([pool.acquire(), pool.acquire(), pool.acquire()]);
  const acquired = await objectsOf("tpc0", owner);
  for (const { index } of slots) await pool.release(index);
  for (const { index } of slots) await pool.release(index);
  const released = await objectsOf("tpc0", owner);
  await pool.removeAll();

  expect(new Set(slots.map(({ index }) => index)).size).toBe(3);
  expect(acquired.netns).toEqual(slots.map(({ netns }) => netns).sort());
  expect([acquired.links.length, acquired.claims.length]).toEqual([3, 3]);
  expect(released).toEqual(opened);
  expect(await objectsOf("tpc0", owner)).toEqual(NOTHING);
});

test("a pool fills itself and refills after each acquisition", async () => {
  await using own = new AsyncDisposableStack();
  const owner = await newOwner(own);
  const pool = await NetworkPool.open({ kernel, log, tag: "tpd0", owner, ready: 3, keep: [] });
  own.defer(() => pool.removeAll());
  const slotsMade = async (count: number) =>
    (await objectsOf("tpd0", owner)).links.length === count;

  await waitFor("three slots", () => slotsMade(3));
  await pool.acquire();
  await waitFor("a fourth slot", () => slotsMade(4));
  await waitFor("three slots in stock", () => pool.stock, { holds: ({ ready }) => ready === 3 });

  expect(pool.fillError).toBeNull();
  expect(pool.stock).toEqual({ ready: 3, wanted: 3, failures: 0 });
});

async function ip(netns: string | null, words: string): Promise<void> {
  const place = netns === null ? [] : ["-n", netns];
  const child = Bun.spawn(["ip", ...place, ...words.split(" ")], {
    stdio: ["ignore", "inherit", "inherit"],
  });
  expect(await child.exited).toBe(0);
}

/** What others may do to a slot that stands ready. */
const DAMAGES: Readonly<Record<string, (slot: NetworkSlot, tag: string) => Promise<unknown>>> = {
  "its namespace": ({ netns }) => kernel.network.deleteNetns(netns),
  "its TAP": ({ netns, tap }) => kernel.network.deleteLink({ netns, name: tap }),
  "its veth": ({ index }, tag) =>
    kernel.network.deleteLink({ netns: null, name: `${vethPrefix(tag)}${index}` }),
  "its firewall": ({ netns }) => kernel.network.runNft(netns, "flush ruleset"),
  "a chain of its firewall": ({ netns }) =>
    kernel.network.runNft(netns, "flush chain inet wrenn from_guest"),
  "the default route of its namespace": ({ netns }) => ip(netns, "route del default"),
  "the gateway of its default route": ({ netns }) =>
    ip(netns, `route replace default dev ${UPLINK}`),
  "the route to it": ({ hostIp }) => ip(null, `route del ${hostIp}/32`),
  "the host's address": ({ index }, tag) =>
    ip(null, `address flush dev ${vethPrefix(tag)}${index}`),
  "the address of its TAP": ({ netns, tap }) => ip(netns, `address flush dev ${tap}`),
  "a device that is up": ({ netns, tap }) => ip(netns, `link set ${tap} down`),
  "its forwarding": ({ netns }) => kernel.network.writeSysctl(netns, "net/ipv4/ip_forward", "0"),
  "the forwarding of its TAP": ({ netns, tap }) =>
    kernel.network.writeSysctl(netns, `net/ipv4/conf/${tap}/forwarding`, "0"),
  "being without IPv6": ({ netns }) =>
    kernel.network.writeSysctl(netns, "net/ipv6/conf/all/disable_ipv6", "0"),
  "being without IPv6 on the host": ({ index }, tag) =>
    kernel.network.writeSysctl(null, `net/ipv6/conf/${vethPrefix(tag)}${index}/disable_ipv6`, "0"),
  // The claims of an agent are one file: not by writing to it.
  "its claim, which somebody else has now": async ({ index }) => {
    await writeFile(`/run/wrenn/slots/${index}.other`, FOREIGN_OWNER);
    await rename(`/run/wrenn/slots/${index}.other`, `/run/wrenn/slots/${index}`);
  },
};

test.each(Object.keys(DAMAGES))("a ready slot that lost %s is set aside", async (name) => {
  await using own = new AsyncDisposableStack();
  const owner = await newOwner(own);
  const pool = await NetworkPool.open({ kernel, log, tag: "tpi0", owner, ready: 3, keep: [] });
  own.defer(() => pool.removeAll());
  const isFull = ({ ready }: { ready: number }) => ready === 3;
  await waitFor("three slots in stock", () => pool.stock, { holds: isFull });
  const [first] = (await objectsOf("tpi0", owner)).claims.map(Number).sort((a, b) => a - b);
  const broken = pool.slot(first ?? 0);
  own.defer(() => removeForeignClaim(broken.index));
  await DAMAGES[name]?.(broken, "tpi0");

  const slots = [await pool.acquire(), await pool.acquire(), await pool.acquire()];
  const guest = await startGuest(kernel, slots[0] ?? broken, own);
  const port = await serve(guest, own);
  const address = slots[0]?.hostIp ?? "";

  expect(slots.map(({ index }) => index)).not.toContain(broken.index);
  expect(await connect(null, { address, port })).toBe("169.254.0.22");
  await waitFor("three slots in stock", () => pool.stock, { holds: isFull });
  const left = await objectsOf("tpi0", owner);
  expect([left.netns, left.links].flat()).not.toContain(broken.netns);
  expect([left.netns.length, left.links.length]).toEqual([6, 6]);
  expect(lines.join()).toContain(`"network.slot-set-aside","slot":${broken.index}`);
});

test("a slot that lost its claim gets it back, and its number is nobody else's", async () => {
  await using own = new AsyncDisposableStack();
  const owner = await newOwner(own);
  const pool = await NetworkPool.open({ kernel, log, tag: "tpj0", owner, ready: 1, keep: [] });
  own.defer(() => pool.removeAll());
  await waitFor("a slot in stock", () => pool.stock, { holds: ({ ready }) => ready === 1 });
  const [ready] = (await objectsOf("tpj0", owner)).claims;
  await rm(`/run/wrenn/slots/${ready}`);

  const slot = await pool.acquire();

  expect(String(slot.index)).toBe(ready ?? "");
  expect((await objectsOf("tpj0", owner)).claims).toContain(ready ?? "");
});

test("what others left in the way of a slot costs its number and no create", async () => {
  await using own = new AsyncDisposableStack();
  const owner = await newOwner(own);
  const pool = await NetworkPool.open({ kernel, log, tag: "tpk0", owner, ready: 0, keep: [] });
  own.defer(() => pool.removeAll());
  const { index } = await pool.acquire();
  await kernel.network.createNetns(`${netnsPrefix("tpk0")}${index + 1}`);

  expect((await pool.acquire()).index).toBeGreaterThan(index + 1);
});

test("a slot in use that lost its claim stays whole when its number comes round again", async () => {
  await using own = new AsyncDisposableStack();
  const owner = await newOwner(own);
  const open = (keep: number[]) =>
    NetworkPool.open({ kernel, log, tag: "tpl0", owner, ready: 0, keep });
  const first = await open([]);
  const { index, netns } = await first.acquire();
  await first.close();
  // After the highest number, claims begin again with the lowest that is free.
  const pool = await open([index, SLOT_MAX]);
  own.defer(() => pool.removeAll());
  await rm(`/run/wrenn/slots/${index}`);

  const next = await pool.acquire();

  expect(next.index).not.toBe(index);
  const { netns: there, claims } = await objectsOf("tpl0", owner);
  expect(there).toEqual([netns, next.netns].sort());
  expect(claims).toContain(String(index));
});

test("the agent's own table is made again when others removed it", async () => {
  await using own = new AsyncDisposableStack();
  const owner = await newOwner(own);
  const pool = await NetworkPool.open({ kernel, log, tag: "tpm0", owner, ready: 0, keep: [] });
  own.defer(() => pool.removeAll());
  const list = () => kernel.network.runNft(null, "list table inet wrenn_tpm0");
  const made = await list();
  await kernel.network.runNft(null, "delete table inet wrenn_tpm0");

  await pool.acquire();

  expect(await list()).toBe(made);
  expect(lines.join()).toContain("network.rules-lost");
});

test("close leaves kept slots working, and open keeps them and removes the others", async () => {
  await using own = new AsyncDisposableStack();
  const owner = await newOwner(own);
  const first = await NetworkPool.open({ kernel, log, tag: "tpe0", owner, ready: 2, keep: [] });
  own.defer(() => first.removeAll());
  const slot = await first.acquire();
  const guest = await startGuest(kernel, slot, own);
  const port = await serve(guest, own);
  await first.close();
  expect(await failureOf(first.acquire())).toContain("closed");

  const keep = [slot.index];
  const second = await NetworkPool.open({ kernel, log, tag: "tpe0", owner, ready: 0, keep });

  expect((await objectsOf("tpe0", owner)).netns).toEqual([slot.netns]);
  expect(second.slot(slot.index)).toEqual(slot);
  expect(await connect(null, { address: slot.hostIp, port })).toBe("169.254.0.22");
});

test("two agents at once get different slots and do not see each other's", async () => {
  await using own = new AsyncDisposableStack();
  const owners = [await newOwner(own), await newOwner(own)] as const;
  const open = (tag: string, owner: string) =>
    NetworkPool.open({ kernel, log, tag, owner, ready: 0, keep: [] });
  const pools = [await open("tpf0", owners[0]), await open("tpf1", owners[1])] as const;
  own.defer(() => pools[0].removeAll());

  const slots = await Promise.all(
    Array.from({ length: 12 }, (_, at) => (at % 2 === 0 ? pools[0] : pools[1]).acquire()),
  );
  await pools[1].removeAll();

  expect(new Set(slots.map(({ hostIp }) => hostIp)).size).toBe(12);
  expect((await objectsOf("tpf0", owners[0])).netns).toHaveLength(6);
  expect(await objectsOf("tpf1", owners[1])).toEqual(NOTHING);
});

test("two agents cannot share a tag or a slot", async () => {
  await using own = new AsyncDisposableStack();
  const owners = [await newOwner(own), await newOwner(own)] as const;
  const pool = await NetworkPool.open({
    kernel,
    log,
    tag: "tpg0",
    owner: owners[0],
    ready: 0,
    keep: [],
  });
  own.defer(() => pool.removeAll());
  const { index } = await pool.acquire();
  own.defer(() => rm("/run/wrenn/agents/tpg1", { force: true }));
  const open = (tag: string) =>
    NetworkPool.open({ kernel, log, tag, owner: owners[1], ready: 0, keep: [index] });

  const failures = [await failureOf(open("tpg0")), await failureOf(open("tpg1"))];

  expect(failures).toEqual([
    `Tag tpg0 belongs to the agent at ${owners[0]}`,
    `Network slot ${index} belongs to the agent at ${owners[0]}`,
  ]);
});

// Its capsules may still run there, whatever became of its directory.
test("a number whose namespace is there is not free when its agent's directory is gone", async () => {
  await using own = new AsyncDisposableStack();
  const [gone, heir] = [await newOwner(own), await newOwner(own)];
  const open = (tag: string, owner: string, keep: number[]) =>
    NetworkPool.open({ kernel, log, tag, owner, ready: 0, keep });
  const pool = await open("tpn0", gone, []);
  own.defer(async () => {
    await mkdir(gone);
    await (await open("tpn0", gone, [])).removeAll();
    await rm("/run/wrenn/agents/tpn1", { force: true });
  });
  const { index } = await pool.acquire();
  await pool.close();
  await rm(gone, { recursive: true });

  expect(await failureOf(open("tpn1", heir, [index]))).toContain("belongs to the agent at");
});

test("whatever an agent killed at any moment leaves behind, the next one removes", async () => {
  await using own = new AsyncDisposableStack();
  const owner = await newOwner(own);
  const left: number[] = [];

  for (const killAt of KILL_AT_COUNTS) {
    const command = [process.execPath, "-e", AGENT, import.meta.dirname, NATIVE_DIR, "tph0", owner];
    const agent = Bun.spawn(command, { stdio: ["ignore", "ignore", "inherit"] });
    await waitFor("objects of the agent", () => countObjects("tph0"), {
      holds: (count) => count >= killAt,
      everyMs: 0,
    });
    agent.kill("SIGKILL");
    await agent.exited;
    const found = await objectsOf("tph0", owner);
    left.push(found.netns.length + found.links.length + found.claims.length);

    const next = await NetworkPool.open({ kernel, log, tag: "tph0", owner, ready: 0, keep: [] });
    const opened = await objectsOf("tph0", owner);
    const slot = await next.acquire();
    await next.removeAll();

    expect([opened.netns, opened.links, opened.claims]).toEqual([[], [], []]);
    expect(slot.index).toBeGreaterThan(0);
    expect(await objectsOf("tph0", owner)).toEqual(NOTHING);
  }

  // Some slots must have been half made for the above to say anything.
  expect(left.filter((count) => count % 3 !== 0).length).toBeGreaterThan(2);
}, 60_000);
