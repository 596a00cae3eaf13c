// A whole platform on this machine: services, control plane, agent, first account. Starting it is healing
// it: what runs as it should is left alone, what does not is started again.

import { join } from "node:path";
import { type Account, createApiKey, createHost, isKeyGood, logIn, signUp } from "./account.ts";
import { findDevDir, openDevDir } from "./dev-dir.ts";
import { installGuestFiles } from "./guest-files.ts";
import { choosePorts, type Ports, savedPorts } from "./ports.ts";
import { Processes } from "./processes.ts";
import { isRegistered, startAgent, startControlPlane, startServices } from "./programs.ts";
import { messageOf } from "./run.ts";
import {
  type Choices,
  describeParts,
  loadSecrets,
  type Parts,
  type Platform,
  PROXY_DOMAIN,
  REPOSITORY,
  readJson,
  type Secrets,
  saveJson,
  writeEnvFile,
} from "./settings.ts";
import { makeCertificates } from "./tls.ts";

const ADMIN_EMAIL = "admin@wrenn.localhost";

export interface PlatformOptions {
  /** DEV_DIR. */
  readonly home: string;
  readonly choices: Choices;
  readonly progress: (line: string) => void;
  /** False: a new platform leaves the usual ports to others. */
  readonly hasUsualPorts?: boolean;
}

export interface StartedPlatform extends Platform {
  /** False: all of it ran already. */
  readonly hasStarted: boolean;
}

/**
 * Has everything run, and returns once a capsule could be created. On failure what was started runs on,
 * for `stopPlatform`.
 */
export async function startPlatform(options: PlatformOptions): Promise<StartedPlatform> {
  const { progress } = options;
  const parts = await prepare(options);

  progress("starting PostgreSQL and Redis");
  const [services] = await Promise.all([
    startServices(parts),
    installGuestFiles(REPOSITORY, parts.dir.agentDir),
    makeCertificates(parts.dir.path, PROXY_DOMAIN),
  ]);
  progress("starting the control plane");
  const controlPlane = await startControlPlane(parts);
  const { account, jwt } = await firstAccount(parts);

  progress("starting the agent");
  const agent = await startAgent(parts, async () => createHost(parts.baseUrl, await jwt()));
  const platform = { ...parts, account };
  await writeEnvFile(platform);
  return { ...platform, hasStarted: services || controlPlane || agent };
}

/** The directory, and in it what the platform is made of. */
async function prepare({ home, choices, hasUsualPorts }: PlatformOptions): Promise<Parts> {
  const dir = await openDevDir(home);
  const processes = new Processes(dir.path);
  await endStrays(processes);
  const secrets = await loadSecrets(dir.path);
  const ports = await choosePorts(dir.path, {
    processes,
    isRegistered: await isRegistered(dir.agentDir),
    hasUsual: hasUsualPorts ?? true,
  });
  await saveJson(join(dir.path, "choices.json"), choices);
  return describeParts({ dir, ports, choices, secrets });
}

/** A platform that was started before, by this process or another. Throws when there is none. */
export async function attachPlatform(home: string): Promise<Platform> {
  const dir = await findDevDir(home);
  const saved = <T>(file: string) => readJson<T>(join(dir?.path ?? "", file));
  const secrets = await saved<Secrets>("secrets.json");
  const choices = await saved<Choices>("choices.json");
  const account = await saved<Account>("account.json");
  const ports = dir === null ? null : ((await savedPorts(dir.path)) as Ports | null);
  if (dir === null || !secrets || !choices || !account || !ports) {
    throw new Error(`No platform runs in ${home}; start one with make dev-up`);
  }
  return { ...describeParts({ dir, ports, choices, secrets }), account };
}

/** Programs whose records are lost: what started them was killed, or somebody deleted the files. */
async function endStrays(processes: Processes): Promise<void> {
  for (const name of await processes.names()) {
    if ((await processes.running(name)) !== null) continue;
    await processes.stop(name, { signal: "SIGTERM", graceMs: 10_000 });
  }
}

/** The administrator, made with the first start. Throws when the database is another installation's. */
async function firstAccount(
  parts: Parts,
): Promise<{ account: Account; jwt: () => Promise<string> }> {
  const path = join(parts.dir.path, "account.json");
  const saved = await readJson<Account>(path);
  const base = parts.baseUrl;
  if (saved !== null) {
    if (await isKeyGood(base, saved.apiKey)) {
      return { account: saved, jwt: () => logIn(base, saved.email, saved.password) };
    }
    throw new Error(
      `the database does not know the API key of ${path}: give the DATABASE_URL of before, or another DEV_DIR`,
    );
  }
  const credentials = { email: ADMIN_EMAIL, password: parts.secrets.adminPassword };
  const mailDir = join(parts.dir.path, "mail");
  const jwt = await signUp(base, { ...credentials, name: "Admin", mailDir }).catch((cause) =>
    // An earlier start may have ended between activation and the lines below.
    logIn(base, credentials.email, credentials.password).catch(() => {
      const advice = "give an empty database, or the DEV_DIR that it belongs to";
      throw new Error(`the first account can't be made (${messageOf(cause)}): ${advice}`, {
        cause,
      });
    }),
  );
  const account = { ...credentials, apiKey: await createApiKey(base, jwt, "make dev") };
  await saveJson(path, account);
  return { account, jwt: async () => jwt };
}
