// Ports of a development platform: chosen once, kept while they stay free or its own programs have them.

import { createHash } from "node:crypto";
import { readFile, rename, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import type { Processes } from "./processes.ts";

/** The control plane's usual ports; taken when they are free: the first platform has known URLs. */
const PREFERRED = { cp: 8080, tls: 8443 } as const;
/** Below those that the kernel gives to outgoing connections, which could have one while a program is away. */
const FIRST = 20_000;
const COUNT = 10_000;

export interface Ports {
  readonly cp: number;
  readonly tls: number;
  readonly agent: number;
  readonly agentMetrics: number;
  readonly postgres: number;
  readonly redis: number;
}

/** An agent can be started without the rest. */
export type AgentPorts = Pick<Ports, "agent" | "agentMetrics">;

/** Which program listens on it. */
const OWNERS = {
  cp: "cp",
  tls: "cp",
  agent: "agent",
  agentMetrics: "agent",
  postgres: "postgres",
  redis: "redis",
} as const;

/**
 * The ports saved in `<dir>/ports.json`; those that others have taken since are chosen anew. Throws when
 * that is the agent's: its host is known by it. Without `hasUsual` the usual ones are not taken at first either:
 * all are then this directory's, and free for it while its programs are away.
 */
export async function choosePorts(
  dir: string,
  options: { processes: Processes; isRegistered: boolean; hasUsual: boolean },
): Promise<Ports> {
  const path = join(dir, "ports.json");
  const saved: Partial<Ports> = (await savedPorts(dir)) ?? (options.hasUsual ? PREFERRED : {});
  const choose = async (name: keyof Ports): Promise<number> => {
    const port = saved[name];
    if (port !== undefined) {
      if (await options.processes.running(OWNERS[name])) return port;
      if ((await tryListen(port)) !== null) return port;
      if (name === "agent" && options.isRegistered) {
        const advice = "end what listens there (ss -ltnp shows it), or make dev-reset";
        throw new Error(`another program has the agent's port ${port}: ${advice}`);
      }
    }
    return await anyFreePort(`${dir} ${name}`);
  };
  const ports: Ports = {
    cp: await choose("cp"),
    tls: await choose("tls"),
    agent: await choose("agent"),
    agentMetrics: await choose("agentMetrics"),
    postgres: await choose("postgres"),
    redis: await choose("redis"),
  };
  await writeFile(`${path}.new`, JSON.stringify(ports), { mode: 0o600 });
  await rename(`${path}.new`, path);
  return ports;
}

/** Null: none were chosen, or the file is lost. */
export async function savedPorts(dir: string): Promise<Partial<Ports> | null> {
  const text = await readFile(join(dir, "ports.json"), "utf8").catch(() => "");
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** The wanted loopback port when it is free, else one that the kernel picks. */
export async function freePort(wanted = 0): Promise<number> {
  return (await tryListen(wanted)) ?? (await freePort(0));
}

/** One that no outgoing connection gets, of the same `owner` the same if it can be. Throws when all are taken. */
export async function anyFreePort(owner: string): Promise<number> {
  const start = createHash("sha256").update(owner).digest().readUInt32BE() % COUNT;
  for (let step = 0; step < COUNT; step++) {
    const port = await tryListen(FIRST + ((start + step) % COUNT));
    if (port !== null) return port;
  }
  throw new Error(`no port from ${FIRST} to ${FIRST + COUNT - 1} is free`);
}

function tryListen(port: number): Promise<number | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(null));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" ? (address?.port ?? null) : null));
    });
  });
}
