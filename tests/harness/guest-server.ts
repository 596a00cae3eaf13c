// The tests' server inside a real capsule, and how it is reached from outside.

import { join } from "node:path";
import type { Platform } from "../../scripts/dev/settings.ts";
import type { Client } from "./client.ts";
import { waitFor } from "./wait-for.ts";

const PROGRAM = join(import.meta.dirname, "../e2e/guest-server.py");
const START_TIMEOUT_MS = 60_000;

export interface Echo {
  readonly method: string;
  readonly target: string;
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Which of the server's connections it came on. */
  readonly connection: number;
}

/** One port of one capsule, through the control plane. */
export class CapsulePort {
  readonly host: string;
  readonly origin: string;
  readonly secureOrigin: string;

  constructor(platform: Platform, capsuleId: string, port: number) {
    this.host = `${port}-${capsuleId}.${platform.proxyDomain}`;
    this.origin = `http://${this.host}:${platform.ports.cp}`;
    this.secureOrigin = `https://${this.host}:${platform.ports.tls}`;
  }

  fetch(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(this.origin + path, { redirect: "manual", ...init });
  }

  /** What the server saw of a request. */
  async echo(path: string, init: RequestInit = {}): Promise<Echo> {
    return JSON.parse(await (await this.fetch(path, init)).text());
  }
}

/** The value of a header that the server saw; null when there was none. */
export function seen(echo: Echo, name: string): string | null {
  return echo.headers.find(([known]) => known.toLowerCase() === name)?.[1] ?? null;
}

/** Starts the server in the capsule and returns once it answers. */
export async function startGuestServer(
  client: Client,
  platform: Platform,
  options: { capsuleId: string; port: number },
): Promise<CapsulePort> {
  const { capsuleId, port } = options;
  await client.write(capsuleId, "/tmp/guest-server.py", await Bun.file(PROGRAM).text());
  const args = ["/tmp/guest-server.py", String(port)];
  await client.exec(capsuleId, { cmd: "python3", args, background: true });
  const place = new CapsulePort(platform, capsuleId, port);
  const look = async () => {
    const response = await place.fetch("/");
    await response.arrayBuffer();
    return response.status;
  };
  const holds = (status: number) => status === 200;
  await waitFor("the guest's server", look, { holds, timeoutMs: START_TIMEOUT_MS });
  return place;
}
