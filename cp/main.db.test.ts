import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { cloneDatabase, type TestDatabase } from "../tests/harness/database.ts";
import { RawWebSocket } from "../tests/harness/raw-websocket.ts";
import { SeverableLink } from "../tests/harness/severable-link.ts";
import { addTeam } from "../tests/harness/simulated-agent-platform.ts";
import { AUTHORITY_SETTINGS } from "../tests/harness/test-certificates.ts";
import { waitFor } from "../tests/harness/wait-for.ts";
import { recordEvents, SYSTEM_ACTOR } from "./events/outbox.ts";

const MAIN = `${import.meta.dir}/main.ts`;
const SETTINGS = {
  JWT_SECRET: "a secret for tests of at least 32 characters",
  WRENN_ENCRYPTION_KEY: "0f".repeat(32),
  ...AUTHORITY_SETTINGS,
  WRENN_CP_LISTEN_ADDR: "127.0.0.1:0",
};

function start(environment: Record<string, string>, ...args: string[]) {
  const { PATH = "" } = process.env;
  return Bun.spawn([process.execPath, MAIN, ...args], {
    env: { PATH, ...SETTINGS, ...environment },
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
}

async function run(environment: Record<string, string>, ...args: string[]) {
  const program = start(environment, ...args);
  const [stdout, stderr, exitCode] = await Promise.all([
    program.stdout.text(),
    program.stderr.text(),
    program.exited,
  ]);
  return { stdout, stderr, exitCode };
}

function redisUrl(): string {
  const url = process.env.REDIS_URL;
  if (!url) throw new Error("REDIS_URL is not set: these tests need a Redis server");
  return url;
}

/** Reads the log of a program until it says where it listens, and then goes on reading it. */
async function listening(program: ReturnType<typeof start>) {
  const lines: string[] = [];
  const base = Promise.withResolvers<string>();
  const ended = (async () => {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of program.stderr) {
      rest += decoder.decode(chunk, { stream: true });
      const parts = rest.split("\n");
      rest = parts.pop() ?? "";
      for (const line of parts) {
        lines.push(line);
        if (line.includes('"listening"')) base.resolve(String(JSON.parse(line).url));
      }
    }
    base.reject(new Error(`the control plane ended: ${lines.join("\n")}${rest}`));
  })();
  return { base: await base.promise, lines, ended };
}

describe("the program", () => {
  test("makes an authority once, with a key that only its owner reads", async () => {
    const dir = await mkdtemp(join(tmpdir(), "wrenn-ca-"));
    const { stdout: before } = await run({}, "make-ca", join(dir, "authority"));
    const files = ["ca.pem", "ca-key.pem"].map((name) => join(dir, "authority", name));
    const made = await Promise.all(files.map((file) => readFile(file, "utf8")));
    const again = await run({}, "make-ca", join(dir, "authority"));
    const modes = await Promise.all(files.map(async (file) => (await stat(file)).mode & 0o777));
    const after = await Promise.all(files.map((file) => readFile(file, "utf8")));
    await rm(dir, { recursive: true });

    expect(before).toBe(`WRENN_CA_CERT=${files[0]}\nWRENN_CA_KEY=${files[1]}\n`);
    expect(made[0]).toStartWith("-----BEGIN CERTIFICATE-----");
    expect(modes).toEqual([0o644, 0o600]);
    expect(again).toMatchObject({ exitCode: 1, stdout: "" });
    expect(again.stderr).toContain("can't be made (EEXIST)");
    expect(after).toEqual(made);
  });

  test("migrates once, and says what it did", async () => {
    await using database = await cloneDatabase({ migrated: false });
    const environment = { DATABASE_URL: database.url };

    const first = await run(environment, "migrate");
    const second = await run(environment, "migrate");
    expect(first).toMatchObject({ exitCode: 0, stderr: "" });
    expect(first.stdout).toStartWith("applied 0000_initial\n");
    expect(second).toEqual({ exitCode: 0, stderr: "", stdout: "up to date\n" });
  });

  test("refuses a database that is not migrated, in one sentence", async () => {
    await using database = await cloneDatabase({ migrated: false });

    const { exitCode, stderr } = await run({ DATABASE_URL: database.url, REDIS_URL: redisUrl() });
    expect({ exitCode, stderr }).toEqual({
      exitCode: 1,
      stderr: expect.stringMatching(/^Cannot start: the database is not migrated .*\n$/),
    });
  });

  test.each([
    [{ DATABASE_URL: "" }, [], "Cannot start: DATABASE_URL is not set\n"],
    [
      {},
      ["serve"],
      'Cannot start: unknown argument "serve": "migrate" and "make-ca <directory>" are known\n',
    ],
  ])("with %j and %j says what is wrong", async (environment, args, stderr) => {
    expect(await run({ ...environment }, ...args)).toEqual({ exitCode: 1, stdout: "", stderr });
  });

  test("refuses to start without PostgreSQL, and without Redis", async () => {
    await using database = await cloneDatabase();
    const nowhere = "127.0.0.1:1";
    const withoutDatabase = await run({
      DATABASE_URL: `postgres://${nowhere}/x`,
      REDIS_URL: redisUrl(),
    });
    const withoutRedis = await run({
      DATABASE_URL: database.url,
      REDIS_URL: `redis://${nowhere}`,
    });

    expect(withoutDatabase.exitCode).toBe(1);
    expect(withoutDatabase.stderr).toMatch(/^Cannot start: .*\n$/);
    expect(withoutRedis.exitCode).toBe(1);
    expect(withoutRedis.stderr).toMatch(/^Cannot start: REDIS_URL: .*\n$/m);
  }, 30_000);
});

describe("a running control plane", () => {
  let database: TestDatabase;
  let toDatabase: SeverableLink;
  let toRedis: SeverableLink;
  let program: ReturnType<typeof start>;
  let base: string;
  let lines: string[];
  let ended: Promise<void>;

  beforeAll(async () => {
    database = await cloneDatabase();
    const databaseUrl = new URL(database.url);
    const cache = new URL(redisUrl());
    toDatabase = new SeverableLink(serverOf(databaseUrl, 5432));
    toRedis = new SeverableLink(serverOf(cache, 6379));
    databaseUrl.port = String(toDatabase.port);
    cache.port = String(toRedis.port);
    program = start({ DATABASE_URL: databaseUrl.href, REDIS_URL: cache.href });
    ({ base, lines, ended } = await listening(program));
  });

  afterAll(async () => {
    program.kill("SIGKILL");
    await program.exited;
    await toDatabase[Symbol.asyncDispose]();
    await toRedis[Symbol.asyncDispose]();
    await database[Symbol.asyncDispose]();
  });

  test("compresses what terminals print for clients that take it", async () => {
    const path = "/v1/capsules/cl-0000000000000000000000000/pty";
    const deflate = { "Sec-WebSocket-Extensions": "permessage-deflate" };
    await using plain = await RawWebSocket.open(new URL(base), path);
    await using deflated = await RawWebSocket.open(new URL(base), path, deflate);

    expect(plain.head).not.toMatch(/permessage-deflate/i);
    expect(deflated.head).toMatch(/^sec-websocket-extensions: permessage-deflate/im);
  });

  // Redis may be shared with earlier runs, whose attempts would count against this one's.
  const from = { "x-forwarded-for": crypto.randomUUID() };
  const logIn = async (): Promise<unknown[]> => {
    const email = `${crypto.randomUUID()}@example.com`;
    const body = JSON.stringify({ email, password: "whatever" });
    const response = await fetch(`${base}v1/auth/login`, { method: "POST", body, headers: from });
    const { error } = (await response.json()) as { error: { code: string } };
    return [response.status, error.code];
  };
  const activate = async (): Promise<unknown[]> => {
    const body = JSON.stringify({ token: "0".repeat(32) });
    const response = await fetch(`${base}v1/auth/activate`, {
      method: "POST",
      body,
      headers: from,
    });
    const { error } = (await response.json()) as { error: { code: string } };
    return [response.status, error.code];
  };
  const withKey = async (): Promise<unknown[]> => {
    const headers = { "x-api-key": `wrn_${"0".repeat(32)}` };
    const response = await fetch(`${base}v1/capsules`, { headers });
    const { error } = (await response.json()) as { error: { code: string } };
    return [response.status, error.code];
  };
  /** Whether look-ups of keys wait: those of requests, and of what is open. */
  const isWaiting = async (): Promise<unknown[]> => {
    const [row] = await database.sql`select count(*) > 0 as waiting from pg_stat_activity
      where datname = current_database() and wait_event_type = 'Lock' and query like '%key_hash%'`;
    return [row?.waiting];
  };
  const settles = (attempt: () => Promise<unknown[]>, wanted: unknown[]) =>
    waitFor(`the answer ${wanted}`, attempt, {
      holds: (answer) => Bun.deepEquals(answer, wanted),
      timeoutMs: 15_000,
    });

  test("answers 503 while PostgreSQL is away, quickly, and serves when it is back", async () => {
    expect(await withKey()).toEqual([401, "unauthorized"]);

    toDatabase.cut();
    const startedAt = performance.now();
    const away = await Promise.all(Array.from({ length: 40 }, withKey));
    const tookMs = performance.now() - startedAt;
    const health = await fetch(`${base}health`);
    toDatabase.mend();

    expect(away).toEqual(away.map(() => [503, "service_unavailable"]));
    expect(tookMs).toBeLessThan(8000);
    expect(health.status).toBe(200);
    expect(await settles(withKey, [401, "unauthorized"])).toEqual([401, "unauthorized"]);
  });

  const within = async (limitMs: number, attempts: (() => Promise<unknown[]>)[]) => {
    const startedAt = performance.now();
    const answers = await Promise.all(attempts.map((attempt) => attempt()));
    expect(performance.now() - startedAt).toBeLessThan(limitMs);
    expect(answers).toEqual(answers.map(() => [503, "service_unavailable"]));
  };

  test("answers 503 while PostgreSQL hangs, within seconds, and serves when it goes on", async () => {
    expect(await withKey()).toEqual([401, "unauthorized"]);

    toDatabase.hold();
    // More than there are connections.
    await within(10_000, Array(60).fill(withKey));
    await within(3000, Array(60).fill(withKey));
    toDatabase.release();

    expect(await settles(withKey, [401, "unauthorized"])).toEqual([401, "unauthorized"]);
    const all = await Promise.all(Array.from({ length: 60 }, withKey));
    expect(all).toEqual(all.map(() => [401, "unauthorized"]));
    const told = lines.map((line) => JSON.parse(line).message);
    expect(told).toContain("the database does not answer");
    expect(told).toContain("the database answers again");
  });

  test("while Redis is away looks at logins, and answers 503 where codes of mails are, quickly", async () => {
    expect(await activate()).toEqual([400, "invalid_token"]);

    toRedis.cut();
    const startedAt = performance.now();
    const away = await Promise.all(Array.from({ length: 10 }, activate));
    const tookMs = performance.now() - startedAt;
    const withoutRedis = [await logIn(), await withKey()];
    toRedis.mend();

    expect(away).toEqual(away.map(() => [503, "service_unavailable"]));
    expect(tookMs).toBeLessThan(8000);
    expect(withoutRedis).toEqual([
      [401, "unauthorized"],
      [401, "unauthorized"],
    ]);
    expect(await settles(activate, [400, "invalid_token"])).toEqual([400, "invalid_token"]);
  });

  test("after a lost server, statements that were prepared there are prepared again", async () => {
    await database.sql`select pg_terminate_backend(pid) from pg_stat_activity
      where application_name = 'wrenn-cp' and pid <> pg_backend_pid()
        and datname = current_database()`.catch(() => {});

    expect(await settles(withKey, [401, "unauthorized"])).toEqual([401, "unauthorized"]);
  });

  /** What a client hears that stays until the program ends. */
  let told = "";
  let toldAll: Promise<void> | undefined;

  test("tells events through its front as they happen", async () => {
    const { id: teamId, apiKey } = await addTeam(database);
    const headers = { "x-api-key": apiKey };
    const response = await fetch(`${base}v1/events/stream`, { headers });
    toldAll = (async () => {
      const decoder = new TextDecoder();
      for await (const chunk of response.body ?? []) told += decoder.decode(chunk);
    })();
    const hears = (words: string) => settles(async () => [told.includes(words)], [true]);
    await hears("event: connected\n");

    const subject = { type: "snapshot", id: "first" };
    const event = {
      type: "template.snapshot.create",
      outcome: "success",
      actor: SYSTEM_ACTOR,
    } as const;
    await recordEvents(database.db, [{ ...event, teamId, subject }]);

    expect(await hears('"id":"first"')).toEqual([true]);
  });

  test("stops at SIGTERM after answering what is under way, and says so", async () => {
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    const locked = Promise.withResolvers<void>();
    const lock = database.sql.begin(async (tx) => {
      await tx`lock table team_api_keys`;
      locked.resolve();
      await released;
    });
    await locked.promise;
    let underWay = withKey();
    const waiting = async () => {
      // One may come to a connection that the test before ended.
      if ((await Promise.race([underWay, Bun.sleep(50)])) !== undefined) underWay = withKey();
      return await isWaiting();
    };
    await settles(waiting, [true]);
    program.kill("SIGTERM");
    await settles(async () => [lines.some((line) => line.includes('"stopping"'))], [true]);
    release();
    await lock;

    expect(await underWay).toEqual([401, "unauthorized"]);
    const status = await program.exited;
    await ended;
    // Its stream was ended, not cut off.
    await toldAll;
    // A program that fails says why in the lines before its last.
    if (status !== 0) throw new Error(`it ended with ${status}:\n${lines.slice(-20).join("\n")}`);
    // A pass that waits for a connection that the test before ended may be told of after it.
    const stopped = lines.filter((line) => line.includes('"stopped"'));
    expect([status, stopped.length]).toEqual([0, 1]);
  }, 20_000);
});

function serverOf(url: URL, port: number) {
  return { hostname: url.hostname, port: Number(url.port || port) };
}
