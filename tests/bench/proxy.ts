// The proxy to guests' ports against nginx and against no proxy at all, in the same run.

import { hostIpOf } from "../harness/agent-client.ts";
import type { Capsule, Client } from "../harness/client.ts";
import { type CapsulePort, startGuestServer } from "../harness/guest-server.ts";
import { platform } from "../harness/platform.ts";
import { Nginx } from "./nginx.ts";
import { inTurn, median, type Row, timed } from "./rows.ts";

const RUNS = 3;
const CONNECTIONS = 64;
const DURATION_MS = 2_000;
const REQUESTS = 200;
/** Until the programs' hot paths are compiled. */
const WARM_UP_REQUESTS = 1_000;
const BULK_BYTES = 64 * 1024 ** 2;
const PORT = 8000;

/** Rows of a real capsule, then of one hop alone, which no emulated guest slows down. */
export async function benchProxy(client: Client, capsule: Capsule): Promise<Row[]> {
  const guest = await startGuestServer(client, await platform(), {
    capsuleId: capsule.id,
    port: PORT,
  });
  const address = `${await hostIpOf(capsule)}:${PORT}`;
  await using nginx = await Nginx.open(address);
  const places = { ours: guest, nginx: nginx.origin, direct: `http://${address}` };
  return [await latency(places), await bulk(places), ...(await oneHop())];
}

interface Places {
  readonly ours: CapsulePort;
  readonly nginx: string;
  readonly direct: string;
}

/** What each proxy adds to the same request without one. */
async function latency({ ours, nginx, direct }: Places): Promise<Row> {
  for (let i = 0; i < WARM_UP_REQUESTS; i++) await get(`${ours.origin}/204`);
  const added = async (origin: string) => {
    const proxied: number[] = [];
    const bare: number[] = [];
    for (let i = 0; i < REQUESTS; i++) {
      proxied.push(await timed(() => get(`${origin}/204`)));
      bare.push(await timed(() => get(`${direct}/204`)));
    }
    return median(proxied) - median(bare);
  };
  const medians = await inTurn(
    RUNS,
    () => added(ours.origin),
    () => added(nginx),
  );
  return {
    name: "added to a request to a guest's server, one connection",
    unit: "ms",
    ...medians,
    baselineIs: "what nginx adds (one hop; ours are two)",
  };
}

async function bulk({ ours, nginx }: Places): Promise<Row> {
  const rate = async (origin: string) => {
    const ms = await timed(() => get(`${origin}/download?bytes=${BULK_BYTES}`));
    return BULK_BYTES / 1000 / ms;
  };
  const medians = await inTurn(
    RUNS,
    () => rate(ours.origin),
    () => rate(nginx),
  );
  return {
    name: "64 MiB from a guest's server",
    unit: "MB/s",
    ...medians,
    baselineIs: "through nginx",
  };
}

/** One hop before a server on the host: ours against nginx, and against none. */
async function oneHop(): Promise<Row[]> {
  const block = new Uint8Array(2 ** 20);
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => new Response(request.url.endsWith("/bulk") ? block : "hello"),
  });
  const port = String(server.port);
  try {
    await using ours = await program("proxy-front.ts", port);
    await using nginx = await Nginx.open(`127.0.0.1:${port}`);
    await using bare = await program("bare-hop.ts", port);
    // Until the programs' hot paths are compiled.
    for (const { origin } of [ours, nginx, bare]) await requestsPerSecond(`${origin}/`);
    const against = async (origin: string, baselineIs: string): Promise<Row> => ({
      name: `requests over one hop, ${CONNECTIONS} connections`,
      unit: "req/s",
      ...(await inTurn(
        RUNS,
        () => requestsPerSecond(`${ours.origin}/`),
        () => requestsPerSecond(`${origin}/`),
      )),
      baselineIs,
    });
    return [
      await against(nginx.origin, "nginx, one worker"),
      await against(bare.origin, "bytes from socket to socket in Bun, unread"),
      await against(`http://127.0.0.1:${port}`, "no proxy"),
    ];
  } finally {
    await server.stop(true);
  }
}

async function get(url: string): Promise<void> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} answered ${response.status}`);
  for await (const _ of response.body ?? []);
}

/** A proxy of ours in a process of its own, as nginx is. */
async function program(file: string, port: string) {
  const child = Bun.spawn([process.execPath, `${import.meta.dirname}/${file}`, port], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const { value } = await child.stdout.getReader().read();
  return {
    origin: `http://127.0.0.1:${new TextDecoder().decode(value).trim()}`,
    async [Symbol.asyncDispose]() {
      child.kill();
      await child.exited;
    },
  };
}

async function requestsPerSecond(url: string): Promise<number> {
  const command = [process.execPath, `${import.meta.dirname}/load.ts`, url];
  const load = Bun.spawn([...command, String(CONNECTIONS), String(DURATION_MS)], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const output = await new Response(load.stdout).text();
  if ((await load.exited) !== 0) throw new Error(`The load generator failed on ${url}`);
  return JSON.parse(output).requestsPerSecond;
}
