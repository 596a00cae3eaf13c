// The whole application in this process on a database of its own, for tests of people and hosts.

import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Redis } from "ioredis";
import { Passwords } from "../../cp/accounts/passwords.ts";
import { Accounts } from "../../cp/accounts/service.ts";
import { AddressGuard } from "../../cp/address-guard.ts";
import { Administration } from "../../cp/administration/service.ts";
import { ApiKeys } from "../../cp/api-keys/service.ts";
import { type App, createApp } from "../../cp/app.ts";
import { Audit } from "../../cp/audit/service.ts";
import { Authenticator } from "../../cp/auth/authenticator.ts";
import { CsrfTokens } from "../../cp/auth/csrf-tokens.ts";
import { LastUses } from "../../cp/auth/last-uses.ts";
import { OpenStreams } from "../../cp/auth/open-streams.ts";
import { TeamRequests } from "../../cp/auth/team-requests.ts";
import { createTokens, type Tokens } from "../../cp/auth/tokens.ts";
import { CapsuleMetricsService } from "../../cp/capsule-metrics/service.ts";
import type { CapsuleDeps } from "../../cp/capsules/deps.ts";
import { EnvdTokens } from "../../cp/capsules/envd-tokens.ts";
import { Capsules } from "../../cp/capsules/service.ts";
import { ConfigSealing } from "../../cp/channels/config-sealing.ts";
import { Sender } from "../../cp/channels/sender.ts";
import { Channels } from "../../cp/channels/service.ts";
import type { Clock } from "../../cp/clock.ts";
import { openDatabase } from "../../cp/db/client.ts";
import { Deletions } from "../../cp/deletion/service.ts";
import { queueDeliveries } from "../../cp/deliveries/queries.ts";
import { Deliveries } from "../../cp/deliveries/service.ts";
import { EventStreams } from "../../cp/event-streams/service.ts";
import { Events } from "../../cp/events/service.ts";
import { Hosts } from "../../cp/hosts/service.ts";
import { Limits } from "../../cp/limits/service.ts";
import { createLog } from "../../cp/log.ts";
import { createFileMailer, type Mailer } from "../../cp/mail/mailer.ts";
import { ControlPlaneMetrics } from "../../cp/metrics/control-plane-metrics.ts";
import { openGithub } from "../../cp/oauth/github.ts";
import { openOpenid } from "../../cp/oauth/openid.ts";
import { Oauth } from "../../cp/oauth/service.ts";
import type { OauthSettings } from "../../cp/oauth-settings.ts";
import { OneTimeTokens } from "../../cp/one-time-tokens.ts";
import { Operations } from "../../cp/operations/operations.ts";
import { Outbound } from "../../cp/outbound/outbound.ts";
import { RateLimiter } from "../../cp/rate-limiter.ts";
import { Sessions } from "../../cp/sessions/service.ts";
import { Snapshots } from "../../cp/snapshots/service.ts";
import { Streams } from "../../cp/streams/service.ts";
import { Invitations } from "../../cp/teams/invitations.ts";
import { Members } from "../../cp/teams/members.ts";
import { Teams } from "../../cp/teams/service.ts";
import { Slugs } from "../../cp/teams/slugs.ts";
import { TeamUsage } from "../../cp/usage/service.ts";
import { Users } from "../../cp/users/service.ts";
import { cloneDatabase, type TestDatabase } from "./database.ts";
import { NO_LIMITS } from "./no-limits.ts";
import { AUTHORITY, agentClients } from "./test-certificates.ts";

export const JWT_SECRET = "a secret for tests of at least 32 characters";
export const METRICS_TOKEN = "a token of whoever runs Prometheus";
export const PASSWORD = "correct horse battery";

/** A clock that a test moves. */
class TestClock implements Clock {
  #aheadMs = 0;

  now(): Date {
    return new Date(Date.now() + this.#aheadMs);
  }

  advance(milliseconds: number): void {
    this.#aheadMs += milliseconds;
  }
}

export interface Answer {
  readonly status: number;
  readonly body: AnswerBody;
}

/** What tests read by name; they compare the rest. */
export interface AnswerBody {
  readonly id: string;
  readonly key: string;
  readonly token: string;
  readonly team_id: string;
  readonly refresh_token: string;
  readonly registration_token: string;
  readonly host: { readonly id: string; readonly status: string };
  readonly error: { readonly code: string; readonly message: string };
  readonly [field: string]: unknown;
}

export interface Person {
  readonly email: string;
  readonly token: string;
  readonly teamId: string;
}

export class AccountsPlatform implements AsyncDisposable {
  readonly app: App;
  readonly clock = new TestClock();
  readonly database: TestDatabase;
  readonly redis: Redis;
  readonly tokens: Tokens;
  readonly lastUses: LastUses;
  readonly audit: Audit;
  readonly events: Events;
  readonly channels: Channels;
  readonly sender: Sender;
  readonly rateLimiter: RateLimiter;
  readonly mailer: Mailer;
  /** What passes of loops need. */
  readonly capsuleDeps: CapsuleDeps;
  readonly sessions: Sessions;
  readonly passwords: Passwords;
  readonly accounts: Accounts;
  readonly invitations: Invitations;
  readonly openStreams: OpenStreams;
  readonly ownOrigins: ReadonlySet<string> = new Set(["https://app.wrenn.test"]);
  readonly logged: string[] = [];
  readonly mailDir: string;
  readonly #resources: AsyncDisposableStack;
  #people = 0;

  private constructor(parts: {
    database: TestDatabase;
    redis: Redis;
    mailDir: string;
    operations: Operations;
    oauth: Pick<OauthSettings, "github" | "openid">;
    firstAdministrator: string | null;
    resources: AsyncDisposableStack;
  }) {
    const { database, redis, mailDir, operations, resources } = parts;
    const { clock } = this;
    const { db } = database;
    const log = createLog("debug", (line) => this.logged.push(line));
    const mailer = createFileMailer({ dir: mailDir, clock });
    const tokens = createTokens({ secret: JWT_SECRET, clock });
    const oneTimeTokens = new OneTimeTokens({ redis });
    const teams = new Teams({ db, clock, mailer });
    const envdTokens = new EnvdTokens(new Uint8Array(32));
    const agents = agentClients();
    const defaults = { template: "minimal-debian", vcpus: 1, memoryMb: 512 };
    const wakeMonitor = () => {};
    const capsuleParts = { db, agents, operations, envdTokens, defaults };
    const teamLimits = NO_LIMITS;
    const capsuleDeps = { ...capsuleParts, log, teamLimits, wakeMonitor };
    const rateLimiter = new RateLimiter({ redis });
    this.rateLimiter = rateLimiter;
    this.capsuleDeps = { ...capsuleDeps, ending: new AbortController().signal };
    this.mailer = mailer;
    this.database = database;
    this.redis = redis;
    this.tokens = tokens;
    this.mailDir = mailDir;
    this.#resources = resources;
    const { ownOrigins } = this;
    const csrfTokens = new CsrfTokens(JWT_SECRET);
    this.sessions = new Sessions({ db, csrfTokens });
    const { sessions } = this;
    this.lastUses = new LastUses({ db });
    const authenticator = new Authenticator({
      ...{ db, clock, tokens, csrfTokens, ownOrigins },
      lastUses: this.lastUses,
      teamRequests: new TeamRequests({ rateLimiter, requestsPerMinute: 0 }),
    });
    this.audit = new Audit({ db, authenticator, retentionDays: 365 });
    this.openStreams = new OpenStreams({ authenticator });
    const { openStreams } = this;
    const capsules = resources.use(new Capsules(capsuleDeps));
    const version = "0.0.0-test";
    const loops = () => [];
    const metrics = new ControlPlaneMetrics({
      ...{ db, version, loops, connectionsMax: 4 },
      monotonicMs: () => performance.now(),
    });
    resources.use(metrics);
    const accountParts = {
      ...{ db, mailer, sessions, oneTimeTokens },
      rateLimiter,
      publicUrl: "http://wrenn.test",
    };
    this.invitations = new Invitations({ ...accountParts, clock });
    const accountDeps = { ...accountParts, teams, tokens, invitations: this.invitations };
    const { firstAdministrator } = parts;
    const accounts = new Accounts({ ...accountDeps, firstAdministrator });
    this.accounts = accounts;
    this.passwords = resources.use(new Passwords({ ...accountParts, log }));
    const deletions = new Deletions({ db, sessions, mailer, wakePurge: () => {} });
    this.events = new Events({ db, redis, retentionDays: 30, placed: queueDeliveries });
    const outbound = new Outbound({ guard: new AddressGuard(["127.0.0.0/8"]) });
    const telegramUrl = "http://telegram.invalid";
    this.sender = new Sender({ db, clock, mailer, outbound, telegramUrl });
    const sealing = new ConfigSealing([new Uint8Array(32)]);
    this.channels = new Channels({ db, sealing, sender: this.sender, rateLimiter });
    this.app = createApp({
      log,
      version,
      metrics,
      metricsToken: METRICS_TOKEN,
      authenticator,
      audit: this.audit,
      accounts,
      invitations: this.invitations,
      passwords: this.passwords,
      oauth: new Oauth({
        ...{ ...accountParts, accounts, log, providers: openProviders(parts.oauth) },
      }),
      pagesUrl: "https://app.wrenn.test",
      sessions,
      users: new Users({ db, rateLimiter: accountParts.rateLimiter }),
      teams,
      members: new Members({ db, clock, mailer, rateLimiter: accountParts.rateLimiter }),
      slugs: new Slugs({ db }),
      apiKeys: new ApiKeys({ db, clock }),
      hosts: new Hosts({ db, clock, tokens, oneTimeTokens, teams, authority: AUTHORITY }),
      limits: new Limits({ db, teamLimits }),
      capsules,
      capsuleMetrics: new CapsuleMetricsService({ db, capsules }),
      deletions,
      administration: new Administration({ db, sessions, deletions, operations }),
      events: this.events,
      ...{ channels: this.channels, deliveries: new Deliveries({ db, channels: this.channels }) },
      eventStreams: new EventStreams({
        ...{ db, openStreams, events: this.events, monotonicMs: () => performance.now() },
      }),
      openStreams,
      snapshots: resources.use(new Snapshots({ ...capsuleDeps, capsules })),
      streams: new Streams({ openStreams, capsules, log }),
      usage: new TeamUsage({ db, log, monotonicMs: () => performance.now() }),
    });
  }

  static async start(
    oauth: Pick<OauthSettings, "github" | "openid"> = { github: null, openid: [] },
    firstAdministrator: string | null = null,
  ): Promise<AccountsPlatform> {
    await using stack = new AsyncDisposableStack();
    const database = stack.use(await cloneDatabase());
    const redis = stack.adopt(openOwnRedis(), forgetKeys);
    const mailDir = await mkdtemp(join(tmpdir(), "wrenn-mail-"));
    stack.defer(() => rm(mailDir, { recursive: true }));
    const operations = stack.use(await Operations.open(database.url));
    const parts = { database, redis, mailDir, operations, oauth, firstAdministrator };
    return new AccountsPlatform({ ...parts, resources: stack.move() });
  }

  /** Another control plane of the same installation, to be ended before this one. */
  async replica(firstAdministrator: string | null = null): Promise<AccountsPlatform> {
    await using stack = new AsyncDisposableStack();
    const { redis, mailDir } = this;
    const { url } = this.database;
    const { db, sql, close } = openDatabase(url, { connectionsMax: 4 });
    stack.defer(close);
    const operations = stack.use(await Operations.open(url));
    const oauth = { github: null, openid: [] };
    const parts = { redis, mailDir, operations, oauth, firstAdministrator };
    const database = { ...this.database, db, sql };
    return new AccountsPlatform({ ...parts, database, resources: stack.move() });
  }

  /** A request through real routing, validation and error mapping. */
  async call(
    method: string,
    path: string,
    options: { body?: unknown; token?: string; headers?: Record<string, string> } = {},
  ): Promise<Answer> {
    const authorization = options.token ? { authorization: `Bearer ${options.token}` } : {};
    const response = await this.app.handle(
      new Request(`http://localhost${path}`, {
        method,
        headers: { ...authorization, ...options.headers },
        ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      }),
    );
    const text = await response.text();
    return { status: response.status, body: text === "" ? "" : JSON.parse(text) };
  }

  /** Signs up and returns the token that was mailed. */
  async signUp(email: string, name = "Ada"): Promise<string> {
    const body = { email, password: PASSWORD, name };
    const answer = await this.call("POST", "/v1/auth/signup", { body });
    if (answer.status !== 201) throw new Error(`signup: ${JSON.stringify(answer)}`);
    return await this.mailedToken(email);
  }

  /** An active account with its token; the first one is the platform's administrator. */
  async person(name = "Ada"): Promise<Person> {
    this.#people += 1;
    const email = `person${this.#people}@example.com`;
    const token = await this.signUp(email, name);
    const { body } = await this.call("POST", "/v1/auth/activate", { body: { token } });
    return { email, token: body.token, teamId: body.team_id };
  }

  /** The texts of the mails to that address, oldest first. */
  async mailsTo(email: string): Promise<string[]> {
    // A mail under way still has another suffix.
    const files = (await readdir(this.mailDir)).filter((name) => name.endsWith(".txt")).sort();
    const texts = await Promise.all(
      files.map((file) => readFile(join(this.mailDir, file), "utf8")),
    );
    return texts.filter((text) => text.startsWith(`To: ${email}\n`));
  }

  async mailedToken(email: string): Promise<string> {
    const newest = (await this.mailsTo(email)).at(-1);
    const token = /token=([0-9a-f]{32,64})/.exec(newest ?? "")?.[1];
    if (token === undefined) throw new Error(`no activation mail to ${email}`);
    return token;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

function openProviders({ github, openid }: Pick<OauthSettings, "github" | "openid">) {
  return [...(github === null ? [] : [openGithub(github)]), ...openid.map(openOpenid)];
}

function openOwnRedis(): Redis {
  const url = process.env.REDIS_URL;
  if (!url) throw new Error("REDIS_URL is not set: these tests need a Redis server");
  return new Redis(url, { keyPrefix: `test-${crypto.randomUUID()}:` });
}

async function forgetKeys(redis: Redis): Promise<void> {
  const prefix = redis.options.keyPrefix ?? "";
  for (const key of await redis.keys(`${prefix}*`)) await redis.del(key.slice(prefix.length));
  redis.disconnect();
}
