// Ports of a development platform: chosen once, kept while they stay free.

import { readFile, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";

/** The control plane's usual ports; taken when they are free: the first platform has known URLs. */
const PREFERRED = { cp: 8080, tls: 8443 } as const;

export interface Ports {
  readonly cp: number;
  readonly tls: number;
  readonly agent: number;
  readonly postgres: number;
  readonly redis: number;
}

/** The ports saved in `<dir>/ports.json`; those taken by somebody else since are chosen anew. */
export async function choosePorts(dir: string): Promise<Ports> {
  const path = join(dir, "ports.json");
  const text = await readFile(path, "utf8").catch(() => null);
  const saved: Partial<Ports> = text === null ? PREFERRED : JSON.parse(text);
  const ports: Ports = {
    cp: await freePort(saved.cp),
    tls: await freePort(saved.tls),
    agent: await freePort(saved.agent),
    postgres: await freePort(saved.postgres),
    redis: await freePort(saved.redis),
  };
  await writeFile(path, JSON.stringify(ports));
  return ports;
}

/** The wanted loopback port when it is free, else one that the kernel picks. */
export async function freePort(wanted = 0): Promise<number> {
  return (await tryListen(wanted)) ?? (await freePort(0));
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
