// An envd to test: one of our own, or the one that ENVD_URL names.
//
// ENVD_URL (and ENVD_TOKEN) let the same tests run against an envd inside a capsule, see
// in-capsule.vm.test.ts. Otherwise envd is started from source on a free port, as root, with a token.
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { type Client, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { $ } from "bun";
import { Filesystem } from "../../proto/gen/envd/filesystem_pb.js";
import { Process } from "../../proto/gen/envd/process_pb.js";

const ROOT = resolve(import.meta.dir, "../..");
export const PROGRAMS = join(ROOT, "build/guest");
const START_MS_MAX = 10_000;

/**
 * How much longer the envd under test may take than one on this machine: ENVD_PACE. What is large is
 * smaller by as much.
 */
export const PACE = Number(process.env.ENVD_PACE ?? 1);
/** For what envd does by itself. */
export const WAIT_MS = 10_000 * PACE;
/** For what envd has nothing else to do than. */
export const MOMENT_MS = Math.round(500 * Math.sqrt(PACE));
/** Whether what takes a guest half a minute is left to the envd on this machine, which is the same program. */
export const IS_SHORT = PACE > 1 && !process.env.WRENN_SOAK;

export interface Envd extends AsyncDisposable {
  readonly baseUrl: string;
  readonly token: string;
  /** Of an envd of our own; null for another one. */
  readonly pid: number | null;
}

export type Encoding = "json" | "binary";

/** The envd under test, with a token set. */
export async function openEnvd(): Promise<Envd> {
  const { ENVD_URL, ENVD_TOKEN } = process.env;
  if (ENVD_URL) {
    return {
      baseUrl: ENVD_URL,
      token: ENVD_TOKEN ?? "",
      pid: null,
      [Symbol.asyncDispose]: async () => {},
    };
  }
  const token = crypto.randomUUID();
  const envd = await startEnvd();
  const response = await postInit(envd, { accessToken: token });
  if (response.status !== 204) throw new Error(`/init answered ${response.status}`);
  return { ...envd, token };
}

/** An envd of our own that nobody has told anything yet. */
export async function startEnvd(
  options: {
    controlPeer?: string;
    cgroupRoot?: string;
    address?: string;
    /** Stands for the limit of this machine's kernel, which envd would raise. */
    inotifyWatchesMax?: number;
  } = {},
): Promise<Envd> {
  const { controlPeer = "127.0.0.1", cgroupRoot = "/nowhere", address = "192.0.2.1" } = options;
  await buildPrograms();
  const dir = await mkdtemp(join(tmpdir(), "envd-"));
  const inotifyLimit = `${dir}/max_user_watches`;
  await Bun.write(inotifyLimit, "8192");
  const child = Bun.spawn(
    [
      ...[process.execPath, join(ROOT, "envd/main.ts"), "--hostname", "127.0.0.1", "--port", "0"],
      ...["--programs", PROGRAMS, "--run-dir", dir, "--etc-dir", dir],
      ...["--control-peer", controlPeer, "--cgroup-root", cgroupRoot],
      ...["--address", address, "--inotify-dir", dir],
    ],
    { stdio: ["ignore", "ignore", "pipe"], cwd: dir, env: { PATH: process.env.PATH } },
  );
  const baseUrl = `http://${await addressOf(child.stderr)}`;
  const { inotifyWatchesMax } = options;
  if (inotifyWatchesMax !== undefined) await Bun.write(inotifyLimit, String(inotifyWatchesMax));
  return {
    baseUrl,
    token: "",
    pid: child.pid,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await child.exited;
      await rm(dir, { recursive: true });
    },
  };
}

/** Makes the static programs that envd starts. */
export async function buildPrograms(): Promise<void> {
  await $`${process.execPath} scripts/build-envd.ts --programs ${PROGRAMS}`.cwd(ROOT).quiet();
}

/** The address in envd's first log line. */
async function addressOf(stderr: ReadableStream<Uint8Array>): Promise<string> {
  const signal = AbortSignal.timeout(START_MS_MAX);
  const decoder = new TextDecoder();
  let text = "";
  for await (const chunk of stderr) {
    signal.throwIfAborted();
    text += decoder.decode(chunk, { stream: true });
    const address = text.match(/"address":"([^"]+)"/)?.[1];
    if (address !== undefined) return address;
  }
  throw new Error(`envd ended: ${text}`);
}

export function postInit(envd: Envd, body: unknown): Promise<Response> {
  return fetch(`${envd.baseUrl}/init`, { method: "POST", body: JSON.stringify(body) });
}

export function processClient(envd: Envd, encoding: Encoding): Client<typeof Process> {
  return createClient(Process, transport(envd, encoding));
}

export function filesystemClient(envd: Envd, encoding: Encoding): Client<typeof Filesystem> {
  return createClient(Filesystem, transport(envd, encoding));
}

function transport(envd: Envd, encoding: Encoding) {
  return createConnectTransport({
    baseUrl: envd.baseUrl,
    useBinaryFormat: encoding === "binary",
    interceptors: [
      (next) => (request) => {
        request.header.set("x-access-token", envd.token);
        return next(request);
      },
    ],
  });
}

/** The header that asks for a user. */
export function asUser(name: string): { headers: Record<string, string> } {
  return { headers: { authorization: `Basic ${btoa(`${name}:`)}` } };
}
