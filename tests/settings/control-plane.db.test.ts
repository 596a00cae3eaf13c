// Whoever sets something wrongly reads one sentence about it, and nobody reads a secret.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfig } from "../../cp/config.ts";
import { openDatabase } from "../../cp/db/client.ts";
import { pendingMigrations } from "../../cp/db/migrate.ts";
import { checkRedis, databaseFailure } from "../../cp/prerequisites.ts";
import { cloneDatabase, type TestDatabase } from "../harness/database.ts";
import { AUTHORITY_SETTINGS } from "../harness/test-certificates.ts";
import { filled, startWrong } from "./start-wrong.ts";
import { CONTROL_PLANE, CONTROL_PLANE_STARTS } from "./wrong-settings.ts";

const MAIN = join(import.meta.dirname, "../../cp/main.ts");
const SECRETS = {
  JWT_SECRET: "hidden-signing-secret-of-enough-length",
  WRENN_ENCRYPTION_KEY: "4ec7e7".repeat(11).slice(0, 64),
  ...AUTHORITY_SETTINGS,
};

let database: TestDatabase;
let dir: string;
let taken: Bun.TCPSocketListener;
let env: Record<string, string>;
let places: Record<string, string>;

beforeAll(async () => {
  database = await cloneDatabase();
  dir = await mkdtemp(join(tmpdir(), "wrenn-settings-"));
  taken = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const redis = process.env.REDIS_URL ?? "";
  const server = new URL(database.url);
  const { host } = server;
  server.pathname = "";
  places = {
    ...{ dir, postgres: host, redis: new URL(redis).host, taken: `127.0.0.1:${taken.port}` },
    server: server.toString().replace(/\/$/, ""),
  };
  const DATABASE_URL = database.url;
  env = { ...SECRETS, DATABASE_URL, REDIS_URL: redis, WRENN_CP_LISTEN_ADDR: "127.0.0.1:0" };
  await writeFile(join(dir, "text"), "no certificate");
  await Promise.all([certificate("cert", "key"), certificate("other-cert", "other-key")]);
});

afterAll(async () => {
  taken.stop();
  await rm(dir, { recursive: true });
  await database[Symbol.asyncDispose]();
});

async function certificate(cert: string, key: string): Promise<void> {
  const files = ["-keyout", join(dir, `${key}.pem`), "-out", join(dir, `${cert}.pem`)];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await Bun.$`openssl req -x509 ${kind} ${files} -subj /CN=test -days 2`.quiet();
}

test.each(CONTROL_PLANE)("$setting=$value: $says", (row) => {
  const wrong = { ...row.with, [row.setting]: row.value };

  expect(() => loadConfig({ ...env, ...wrong })).toThrow(new Error(row.says));
});

/** What looks at the setting when the program starts. */
const CHECKS: Readonly<Record<string, (value: string) => Promise<unknown>>> = {
  DATABASE_URL: async (url) => {
    const { sql, close } = openDatabase(url, { connectionsMax: 1 });
    await pendingMigrations(sql)
      .catch((error) => Promise.reject(databaseFailure(url, error)))
      .finally(close);
  },
  REDIS_URL: checkRedis,
};

// Programs take a second of processor time to start: the first row of each setting shows that it is looked at.
const firsts = CONTROL_PLANE_STARTS.filter(
  ({ setting }, i) => CONTROL_PLANE_STARTS.findIndex((row) => row.setting === setting) === i,
);
const checked = CONTROL_PLANE_STARTS.filter(({ setting }) => setting in CHECKS);

test.each(checked)("$setting=$value: $says", async (row) => {
  const check = CHECKS[row.setting];
  const failure = check?.(filled(row.value, places));

  await expect(failure).rejects.toThrow(new Error(filled(row.says, places)));
});

test.each(process.env.WRENN_SOAK ? CONTROL_PLANE_STARTS : firsts)(
  "a start with $setting=$value: $says",
  async (row) => {
    const ending = await startWrong([process.execPath, MAIN], row, { env, places });

    const sentence = `Cannot start: ${filled(row.says, places)}`;
    expect([ending.exitCode, ending.last]).toEqual([1, sentence]);
    // Ports of this machine are none.
    expect(ending.output.replace(sentence, "")).not.toMatch(/hidden|4ec7e7/);
    expect(sentence).not.toMatch(/hidden|4ec7e7/);
  },
);

test("migrating says the same about its database", async () => {
  const [row] = CONTROL_PLANE_STARTS;
  if (row === undefined) throw new Error("no row");
  const ending = await startWrong([process.execPath, MAIN, "migrate"], row, { env, places });

  expect([ending.exitCode, ending.last]).toEqual([1, `Cannot start: ${filled(row.says, places)}`]);
});
