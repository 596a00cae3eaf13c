// A control plane in this process with a database of its own, in front of simulated agents.

import { ne } from "drizzle-orm";
import { Elysia } from "elysia";
import { Redis } from "ioredis";
import { capsuleApiRoutes } from "../../cp/app.ts";
import { Authenticator } from "../../cp/auth/authenticator.ts";
import { CsrfTokens } from "../../cp/auth/csrf-tokens.ts";
import { LastUses } from "../../cp/auth/last-uses.ts";
import { OpenStreams } from "../../cp/auth/open-streams.ts";
import { TeamRequests } from "../../cp/auth/team-requests.ts";
import { createTokens } from "../../cp/auth/tokens.ts";
import { BodySchemas } from "../../cp/body-schemas.ts";
import { CapsuleMetricsService } from "../../cp/capsule-metrics/service.ts";
import type { CapsuleDeps } from "../../cp/capsules/deps.ts";
import { EnvdTokens } from "../../cp/capsules/envd-tokens.ts";
import { Capsules } from "../../cp/capsules/service.ts";
import { systemClock } from "../../cp/clock.ts";
import {
  capsules,
  events,
  hosts,
  teamApiKeys,
  teams,
  templateOperations,
  templates,
} from "../../cp/db/tables.ts";
import { queueDeliveries } from "../../cp/deliveries/queries.ts";
import { randomHex, sha256Hex } from "../../cp/digest.ts";
import { createErrorHandler } from "../../cp/error-response.ts";
import { eventStreamRoutes } from "../../cp/event-streams/routes.ts";
import { EventStreams } from "../../cp/event-streams/service.ts";
import { Events } from "../../cp/events/service.ts";
import { limitRoutes } from "../../cp/limits/routes.ts";
import { Limits } from "../../cp/limits/service.ts";
import { createLog } from "../../cp/log.ts";
import { Operations } from "../../cp/operations/operations.ts";
import { PLATFORM_TEAM } from "../../cp/platform-team.ts";
import { RateLimiter } from "../../cp/rate-limiter.ts";
import { observeRequests } from "../../cp/request-log.ts";
import { snapshotRoutes } from "../../cp/snapshots/routes.ts";
import { Snapshots } from "../../cp/snapshots/service.ts";
import { Streams } from "../../cp/streams/service.ts";
import { usageRoutes } from "../../cp/usage/routes.ts";
import { TeamUsage } from "../../cp/usage/service.ts";
import { type Id, newId } from "../../proto/ids.ts";
import { cloneDatabase, type TestDatabase } from "./database.ts";
import { NO_LIMITS } from "./no-limits.ts";
import { SimulatedAgent } from "./simulated-agent.ts";
import { AGENT_NAME, agentClients } from "./test-certificates.ts";

export const ENCRYPTION_KEY = "00112233445566778899aabbccddeeff".repeat(2);
/** Where pages that may open WebSockets with cookies come from. */
export const OWN_ORIGINS: ReadonlySet<string> = new Set(["https://app.wrenn.test"]);
export const JWT_SECRET = "a secret for tests of at least 32 characters";

export interface TestTeam {
  readonly id: Id<"team">;
  readonly apiKey: string;
}

/** One control plane of the database. */
export class TestControlPlane implements AsyncDisposable {
  readonly deps: CapsuleDeps;
  readonly capsules: Capsules;
  readonly snapshots: Snapshots;
  readonly eventStreams: EventStreams;
  readonly openStreams: OpenStreams;
  readonly lastUses: LastUses;
  readonly usage: TeamUsage;
  /** How much later it is to streams of events than it was at the start. */
  laterMs = 0;
  readonly logged: string[];
  readonly #app;
  readonly #redis: Redis;

  private constructor(deps: CapsuleDeps & { redis: Redis }, logged: string[]) {
    this.deps = deps;
    this.#redis = deps.redis;
    this.logged = logged;
    this.capsules = new Capsules(deps);
    this.snapshots = new Snapshots({ ...deps, capsules: this.capsules });
    this.usage = new TeamUsage({ ...deps, monotonicMs: () => performance.now() });
    this.lastUses = new LastUses({ db: deps.db });
    const authenticator = new Authenticator({
      ...{ db: deps.db, clock: systemClock, ownOrigins: OWN_ORIGINS },
      tokens: createTokens({ secret: JWT_SECRET, clock: systemClock }),
      csrfTokens: new CsrfTokens(JWT_SECRET),
      lastUses: this.lastUses,
      teamRequests: new TeamRequests({
        ...{ rateLimiter: new RateLimiter(deps), requestsPerMinute: 0 },
      }),
    });
    this.openStreams = new OpenStreams({ authenticator });
    const { openStreams } = this;
    this.eventStreams = new EventStreams({
      ...{ db: deps.db, openStreams },
      events: new Events({ ...deps, retentionDays: 30, placed: queueDeliveries }),
      monotonicMs: () => performance.now() + this.laterMs,
    });
    const capsuleMetrics = new CapsuleMetricsService({ db: deps.db, capsules: this.capsules });
    const streams = new Streams({ openStreams, capsules: this.capsules, log: deps.log });
    const requestLog = { log: deps.log, requestIds: new WeakMap<Request, string>() };
    const metrics = { observeRequest: () => {} };
    const bodySchemas = new BodySchemas();
    const held = { capsules: this.capsules, log: deps.log };
    const capsuleApiDeps = { ...held, authenticator, openStreams, streams, capsuleMetrics };
    this.#app = new Elysia({ systemRouter: false, normalize: true })
      .wrap(observeRequests({ ...requestLog, routes: new WeakMap(), metrics }))
      .onTransform({ as: "global" }, bodySchemas.require)
      .onError({ as: "global" }, createErrorHandler(requestLog))
      .use(limitRoutes({ authenticator, limits: new Limits(deps) }))
      .use(usageRoutes({ authenticator, usage: this.usage }))
      .use(snapshotRoutes({ ...held, authenticator, snapshots: this.snapshots }))
      .use(eventStreamRoutes({ authenticator, eventStreams: this.eventStreams }))
      .use(new Elysia({ prefix: "/v1" }).use(capsuleApiRoutes(capsuleApiDeps)));
    bodySchemas.learn(this.#app.routes);
  }

  static async start(database: TestDatabase): Promise<TestControlPlane> {
    const logged: string[] = [];
    const redis = new Redis(process.env.REDIS_URL ?? "");
    await redis.ping();
    const deps = {
      ...{ db: database.db, redis },
      agents: agentClients(),
      operations: await Operations.open(database.url),
      envdTokens: new EnvdTokens(Uint8Array.fromHex(ENCRYPTION_KEY)),
      defaults: { template: "minimal-debian", vcpus: 1, memoryMb: 512 },
      log: createLog("debug", (line) => logged.push(line)),
      teamLimits: NO_LIMITS,
      wakeMonitor: () => {},
      ending: new AbortController().signal,
    };
    return new TestControlPlane(deps, logged);
  }

  /** Through the real routing, validation and error mapping. */
  async handle(request: Request): Promise<Response> {
    return await this.#app.handle(request);
  }

  /** On a port of its own, for what only a real connection shows. */
  listen(): Bun.Server<unknown> {
    this.#app.listen({ port: 0, hostname: "127.0.0.1", idleTimeout: 0 });
    const { server } = this.#app;
    if (server === null) throw new Error("unreachable: listen makes a server");
    return server;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.capsules[Symbol.asyncDispose]();
    await this.snapshots[Symbol.asyncDispose]();
    await this.deps.operations[Symbol.asyncDispose]();
    this.#redis.disconnect();
  }
}

export interface Answer {
  readonly status: number;
  readonly body: AnswerBody;
}

/** What tests read by name; they compare the rest. */
export interface AnswerBody {
  readonly id: string;
  readonly error: { readonly code: string; readonly message: string };
  readonly [field: string]: unknown;
}

/** A database, a control plane, one agent on one host, and a team. */
export class TestPlatform implements AsyncDisposable {
  readonly database: TestDatabase;
  readonly controlPlane: TestControlPlane;
  readonly agent: SimulatedAgent;
  readonly team: TestTeam;
  readonly hostId: Id<"host">;

  private constructor(parts: {
    database: TestDatabase;
    controlPlane: TestControlPlane;
    agent: SimulatedAgent;
    team: TestTeam;
    hostId: Id<"host">;
  }) {
    this.database = parts.database;
    this.controlPlane = parts.controlPlane;
    this.agent = parts.agent;
    this.team = parts.team;
    this.hostId = parts.hostId;
  }

  static async start(): Promise<TestPlatform> {
    const database = await cloneDatabase();
    const agent = new SimulatedAgent();
    const controlPlane = await TestControlPlane.start(database);
    const hostId = await addHost(database, agent.address);
    const team = await addTeam(database);
    return new TestPlatform({ database, controlPlane, agent, team, hostId });
  }

  /** Between two tests: all capsules, what was made of them, and what was told of them. */
  async forgetCapsules(): Promise<void> {
    const { db } = this.database;
    await db.delete(capsules);
    await db.delete(events);
    await db.delete(templateOperations);
    await db.delete(templates).where(ne(templates.teamId, PLATFORM_TEAM));
    this.agent.capsules.clear();
    this.agent.pauses.templates.clear();
  }

  /** A call by the team, or by another one. */
  async call(
    method: string,
    path: string,
    options: { body?: unknown; team?: TestTeam; headers?: Record<string, string> } = {},
  ): Promise<Answer> {
    const team = options.team ?? this.team;
    const headers = { "x-api-key": team.apiKey, ...options.headers };
    const isForm = options.body instanceof FormData;
    const request = new Request(`http://localhost${path}`, {
      method,
      headers: isForm ? headers : { ...headers, "content-type": "application/json" },
      ...(options.body === undefined
        ? {}
        : { body: options.body instanceof FormData ? options.body : JSON.stringify(options.body) }),
    });
    return await toAnswer(await this.controlPlane.handle(request));
  }

  /** Creates a capsule and returns its external id. */
  async create(body: Record<string, unknown> = {}): Promise<string> {
    const answer = await this.call("POST", "/v1/capsules", { body });
    if (answer.status !== 201) throw new Error(`create: ${JSON.stringify(answer)}`);
    return answer.body.id;
  }

  /** States of all capsules in the database, by count. */
  async states(): Promise<Record<string, number>> {
    const rows = await this.database.db.select({ status: capsules.status }).from(capsules);
    const counts: Record<string, number> = {};
    for (const { status } of rows) counts[status] = (counts[status] ?? 0) + 1;
    return counts;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.controlPlane[Symbol.asyncDispose]();
    await this.agent[Symbol.asyncDispose]();
    await this.database[Symbol.asyncDispose]();
  }
}

export async function toAnswer(response: Response): Promise<Answer> {
  const text = await response.text();
  const isJson = response.headers.get("content-type")?.startsWith("application/json") === true;
  return { status: response.status, body: isJson ? JSON.parse(text) : text };
}

/** A host that is online, with that agent. */
export async function addHost(
  database: TestDatabase,
  address: string,
  columns: Partial<typeof hosts.$inferInsert> = {},
): Promise<Id<"host">> {
  const id = newId("host");
  await database.db.insert(hosts).values({
    id,
    address,
    certName: AGENT_NAME,
    status: "online",
    cpuCores: 64,
    memoryMb: 262_144,
    diskGb: 2000,
    lastHeartbeatAt: new Date(),
    ...columns,
  });
  return id;
}

export async function addTeam(database: TestDatabase, isByoc = false): Promise<TestTeam> {
  const id = newId("team");
  const apiKey = `wrn_${randomHex(16)}`;
  await database.db.insert(teams).values({ id, name: "Testers", slug: randomHex(6), isByoc });
  await database.db.insert(teamApiKeys).values({
    id: newId("apiKey"),
    teamId: id,
    name: "tests",
    keyHash: sha256Hex(apiKey),
    keyPrefix: apiKey.slice(0, 10),
  });
  return { id, apiKey };
}
