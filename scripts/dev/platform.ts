// A whole platform on this machine: services, control plane, agent, first account, first capsule.

import { randomBytes } from "node:crypto";
import { access, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { HostAgentService } from "../../proto/gen/hostagent/hostagent_pb.js";
import { type Account, createApiKey, createHost, logIn, signUp } from "./account.ts";
import { closeDevDir, type DevDir, findDevDir, openDevDir } from "./dev-dir.ts";
import { installGuestFiles } from "./guest-files.ts";
import { choosePorts, type Ports } from "./ports.ts";
import { Processes, type StartOptions } from "./processes.ts";
import { GaveUp, run, startPostgres, startRedis, waitFor } from "./services.ts";
import { makeCertificates, tlsPaths } from "./tls.ts";

const ADMIN_EMAIL = "admin@wrenn.localhost";
/** Programs find every name below localhost on this machine (RFC 6761). */
const PROXY_DOMAIN = "wrenn.localhost";
const TERMINATE_TIMEOUT_MS = 120_000;
const REPOSITORY = resolve(import.meta.dirname, "../..");

export interface PlatformOptions {
  /** DEV_DIR. */
  readonly home: string;
  /** Given services are used as they are; otherwise private ones are started. */
  readonly databaseUrl: string | undefined;
  readonly redisUrl: string | undefined;
  /** False where the data is thrown away anyway: tests. */
  readonly durable: boolean;
  readonly progress: (line: string) => void;
}

export interface Platform {
  readonly dir: DevDir;
  readonly processes: Processes;
  readonly ports: Ports;
  readonly baseUrl: string;
  /** HTTP/2 and HTTP/1.1 over TLS: the API, and ports of capsules below `proxyDomain`. */
  readonly proxyUrl: string;
  readonly proxyDomain: string;
  readonly caCertFile: string;
  readonly account: Account;
  readonly databaseUrl: string;
  readonly redisUrl: string;
  readonly cpEnv: Readonly<Record<string, string>>;
  readonly agentEnv: Readonly<Record<string, string>>;
}

interface Secrets {
  readonly jwtSecret: string;
  readonly encryptionKey: string;
  readonly servicePassword: string;
  readonly adminPassword: string;
  readonly metricsToken: string;
}

/** The platform of that directory is up; it is left alone. */
export class AlreadyRunning extends Error {}

/** Starts everything that does not run yet and returns once a capsule could be created. */
export async function startPlatform(options: PlatformOptions): Promise<Platform> {
  const dir = await openDevDir(options.home);
  const processes = new Processes(dir.path);
  const secrets = await loadSecrets(dir.path);
  if (await processes.running("cp")) {
    throw new AlreadyRunning("It runs already (make dev-down stops it)");
  }
  const ports = await choosePorts(dir.path);
  await access(join(dir.path, "logs")).catch(() => mkdir(join(dir.path, "logs")));

  options.progress("starting PostgreSQL and Redis");
  const service = {
    dir: dir.path,
    password: secrets.servicePassword,
    processes,
    durable: options.durable,
  };
  const [databaseUrl, redisUrl] = await Promise.all([
    options.databaseUrl ?? startPostgres({ ...service, port: ports.postgres }),
    options.redisUrl ?? startRedis({ ...service, port: ports.redis }),
    installGuestFiles(REPOSITORY, dir.agentDir),
    makeCertificates(dir.path, PROXY_DOMAIN),
  ]);

  options.progress("starting the control plane");
  const urls = { databaseUrl, redisUrl };
  await saveJson(join(dir.path, "urls.json"), urls);
  const platform = describe(dir, ports, secrets, urls);
  await migrate(platform.cpEnv);
  await startControlPlane(platform);
  const { account, jwt } = await firstAccount(platform, secrets);

  options.progress("starting the agent");
  await startAgent(platform, async () => createHost(platform.baseUrl, await jwt()));
  await writeEnvFile(dir.path, { ...platform, account });
  return { ...platform, account };
}

/** A platform that was started before, by this process or another. */
export async function attachPlatform(home: string): Promise<Platform> {
  const dir = await findDevDir(home);
  if (!dir) throw new Error(`No platform runs in ${home}; start one with make dev-up`);
  const saved = async (file: string) => JSON.parse(await readFile(join(dir.path, file), "utf8"));
  const platform = describe(
    dir,
    await saved("ports.json"),
    await saved("secrets.json"),
    await saved("urls.json"),
  );
  return { ...platform, account: await saved("account.json") };
}

interface Urls {
  readonly databaseUrl: string;
  readonly redisUrl: string;
}

function describe(dir: DevDir, ports: Ports, secrets: Secrets, urls: Urls) {
  const baseUrl = `http://localhost:${ports.cp}`;
  return {
    dir,
    processes: new Processes(dir.path),
    ports,
    baseUrl,
    proxyUrl: `https://${PROXY_DOMAIN}:${ports.tls}`,
    proxyDomain: PROXY_DOMAIN,
    caCertFile: tlsPaths(dir.path).caCertFile,
    ...urls,
    cpEnv: controlPlaneEnv({ dir, ports, secrets, baseUrl, ...urls }),
    agentEnv: {
      ...agentEnv({ dir, ports, baseUrl }),
      WRENN_METRICS_TOKEN: secrets.metricsToken,
    },
  };
}

/**
 * Stops everything in order: the agent pauses its capsules, or destroys them, and removes every kernel
 * object, then the programs end, then the mounts go. Works on what an interrupted start or a crash left, too.
 */
export async function stopPlatform(
  home: string,
  capsules: "pause" | "destroy" = "destroy",
): Promise<void> {
  const dir = await findDevDir(home);
  if (!dir) return;
  const processes = new Processes(dir.path);
  const ports = await choosePortsOfRunning(dir.path);

  await processes.stop("cp", { signal: "SIGTERM", graceMs: 35_000 });
  await terminateAgent({ dir, processes, ports }, capsules);
  await Promise.all([
    processes.stop("postgres", { signal: "SIGINT", graceMs: 20_000 }),
    processes.stop("redis", { signal: "SIGTERM", graceMs: 10_000 }),
  ]);
  for (const name of await processes.names()) {
    await processes.stop(name, { signal: "SIGTERM", graceMs: 10_000 });
  }
  await closeDevDir(dir);
}

/** How a program of the platform is started. */
export function programOf(
  platform: Omit<Platform, "account">,
  name: "cp" | "agent",
): Required<StartOptions> {
  if (name === "agent") return agentProgram(platform);
  const command = [process.execPath, join(REPOSITORY, "cp/main.ts")];
  return { name, command, env: platform.cpEnv, cwd: REPOSITORY };
}

function agentProgram(platform: Pick<Platform, "ports" | "agentEnv">): Required<StartOptions> {
  const main = join(REPOSITORY, "agent/main.ts");
  const command = [process.execPath, main, "--address", `127.0.0.1:${platform.ports.agent}`];
  return { name: "agent", command, env: platform.agentEnv, cwd: REPOSITORY };
}

export async function startControlPlane(platform: Omit<Platform, "account">): Promise<void> {
  await platform.processes.start(programOf(platform, "cp"));
  await answers(platform.processes, "cp", `${platform.baseUrl}/health`);
}

/** Starts the agent; asks for a registration token only if it has no credentials yet. */
export async function startAgent(
  platform: Pick<Platform, "dir" | "processes" | "ports" | "agentEnv">,
  registrationToken: () => Promise<string>,
): Promise<void> {
  const program = agentProgram(platform);
  const known = await Bun.file(join(platform.dir.agentDir, "host-credentials.json")).exists();
  const register = known ? [] : ["--register", await registrationToken()];
  await platform.processes.start({ ...program, command: [...program.command, ...register] });
  await answers(platform.processes, "agent", `http://127.0.0.1:${platform.ports.agent}/health`);
}

/** Waits until the URL answers 200; says why at once when the program has ended instead. */
async function answers(processes: Processes, name: string, url: string): Promise<void> {
  await waitFor(`${name} (log: ${processes.logPath(name)})`, async () => {
    const response = await fetch(url, { signal: AbortSignal.timeout(2_000) }).catch(() => null);
    if (response?.ok) return;
    if (!(await processes.running(name))) throw new GaveUp(await processes.explainExit(name));
    throw new Error(`${url}: ${response?.status ?? "no answer"}`);
  });
}

async function terminateAgent(
  { dir, processes, ports }: Pick<Platform, "dir" | "processes" | "ports">,
  capsules: "pause" | "destroy",
): Promise<void> {
  const credentials = join(dir.agentDir, "host-credentials.json");
  let record = await processes.running("agent");
  if (!record && (await Bun.file(credentials).exists())) {
    // It crashed or was killed: only an agent knows what its journal names, so one starts to clean up.
    const baseUrl = `http://localhost:${ports.cp}`;
    const env = agentEnv({ dir, ports, baseUrl });
    const platform = { dir, processes, ports, agentEnv: env };
    await startAgent(platform, async () => "");
    record = await processes.running("agent");
  }
  if (!record) return;

  const transport = createConnectTransport({ baseUrl: `http://127.0.0.1:${ports.agent}` });
  const client = createClient(HostAgentService, transport);
  try {
    await client.terminate({ pause: capsules === "pause" }, { timeoutMs: 10_000 });
    if (await processes.ended(record, TERMINATE_TIMEOUT_MS)) return;
    throw new Error(`it still runs after ${TERMINATE_TIMEOUT_MS / 1000} s`);
  } catch (cause) {
    throw new Error(`The agent did not clean up (${processes.logPath("agent")}): ${cause}`, {
      cause,
    });
  } finally {
    await processes.stop("agent", { signal: "SIGTERM", graceMs: 10_000 });
  }
}

async function migrate(env: Readonly<Record<string, string>>): Promise<void> {
  const assignments = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  await run(["env", ...assignments, process.execPath, join(REPOSITORY, "cp/main.ts"), "migrate"]);
}

async function firstAccount(
  platform: Omit<Platform, "account">,
  secrets: Secrets,
): Promise<{ account: Account; jwt: () => Promise<string> }> {
  const path = join(platform.dir.path, "account.json");
  const saved = await readFile(path, "utf8").catch(() => null);
  const base = platform.baseUrl;
  if (saved !== null) {
    const account: Account = JSON.parse(saved);
    return { account, jwt: () => logIn(base, account.email, account.password) };
  }
  const credentials = { email: ADMIN_EMAIL, password: secrets.adminPassword };
  const mailDir = join(platform.dir.path, "mail");
  const jwt = await signUp(base, { ...credentials, name: "Admin", mailDir }).catch(() =>
    // An earlier start may have ended between activation and the lines below.
    logIn(base, credentials.email, credentials.password),
  );
  const account = { ...credentials, apiKey: await createApiKey(base, jwt, "make dev") };
  await saveJson(path, account);
  return { account, jwt: async () => jwt };
}

function controlPlaneEnv(o: {
  dir: DevDir;
  ports: Ports;
  secrets: Secrets;
  databaseUrl: string;
  redisUrl: string;
  baseUrl: string;
}): Record<string, string> {
  return {
    DATABASE_URL: o.databaseUrl,
    REDIS_URL: o.redisUrl,
    WRENN_CP_LISTEN_ADDR: `127.0.0.1:${o.ports.cp}`,
    CP_PUBLIC_URL: o.baseUrl,
    JWT_SECRET: o.secrets.jwtSecret,
    WRENN_ENCRYPTION_KEY: o.secrets.encryptionKey,
    WRENN_MAIL_DIR: join(o.dir.path, "mail"),
    WRENN_DEFAULT_TEMPLATE: "minimal-debian",
    WRENN_METRICS_TOKEN: o.secrets.metricsToken,
    WRENN_PROXY_DOMAIN: PROXY_DOMAIN,
    WRENN_TLS_LISTEN_ADDR: `127.0.0.1:${o.ports.tls}`,
    WRENN_TLS_CERT: tlsPaths(o.dir.path).certFile,
    WRENN_TLS_KEY: tlsPaths(o.dir.path).keyFile,
  };
}

function agentEnv(o: { dir: DevDir; ports: Ports; baseUrl: string }): Record<string, string> {
  return {
    WRENN_DIR: o.dir.agentDir,
    WRENN_HOST_LISTEN_ADDR: `127.0.0.1:${o.ports.agent}`,
    WRENN_CP_URL: o.baseUrl,
    WRENN_NATIVE_DIR: join(REPOSITORY, "build/native"),
    // The caller's choice; the agent knows the default.
    WRENN_WARM: process.env.WRENN_WARM ?? "",
  };
}

async function loadSecrets(dir: string): Promise<Secrets> {
  const path = join(dir, "secrets.json");
  const saved = await readFile(path, "utf8").catch(() => null);
  const secrets: Secrets = {
    jwtSecret: randomBytes(32).toString("hex"),
    encryptionKey: randomBytes(32).toString("hex"),
    servicePassword: randomBytes(16).toString("hex"),
    adminPassword: randomBytes(9).toString("base64url"),
    metricsToken: randomBytes(16).toString("hex"),
    // A directory of an earlier version keeps what it has.
    ...(saved === null ? {} : JSON.parse(saved)),
  };
  await saveJson(path, secrets);
  return secrets;
}

async function saveJson(path: string, value: unknown): Promise<void> {
  await writeFile(`${path}.new`, JSON.stringify(value), { mode: 0o600 });
  await rename(`${path}.new`, path);
}

async function choosePortsOfRunning(dir: string): Promise<Ports> {
  return JSON.parse(await readFile(join(dir, "ports.json"), "utf8"));
}

/** Writes `<dir>/env`, which a shell can source and tests read. */
async function writeEnvFile(dir: string, o: Platform): Promise<void> {
  const lines = {
    WRENN_BASE_URL: o.baseUrl,
    WRENN_API_KEY: o.account.apiKey,
    WRENN_PROXY_URL: o.proxyUrl,
    WRENN_PROXY_DOMAIN: o.proxyDomain,
    WRENN_CA_CERT_FILE: o.caCertFile,
    WRENN_METRICS_TOKEN: o.cpEnv.WRENN_METRICS_TOKEN ?? "",
    WRENN_AGENT_URL: `http://127.0.0.1:${o.ports.agent}`,
    WRENN_ADMIN_EMAIL: o.account.email,
    WRENN_ADMIN_PASSWORD: o.account.password,
    DATABASE_URL: o.databaseUrl,
    REDIS_URL: o.redisUrl,
  };
  const text = Object.entries(lines).map(([name, value]) => `export ${name}='${value}'\n`);
  await writeFile(join(dir, "env.new"), text.join(""), { mode: 0o600 });
  await rename(join(dir, "env.new"), join(dir, "env"));
}

/** Deletes all data of a stopped platform. */
export async function deletePlatform(home: string): Promise<void> {
  await rm(home, { recursive: true, force: true });
}
