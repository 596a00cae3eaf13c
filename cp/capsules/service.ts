// The rules of capsules, as other parts of the control plane use them.

import { decodeId, encodeId, type Id, idFromUuid } from "../../proto/ids.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { GUEST_CALL_TIMEOUT_MS } from "../agents/limits.ts";
import type { TeamCaller } from "../auth/authenticator.ts";
import type { CapsuleState } from "../capsule-states.ts";
import { AppError } from "../errors.ts";
import { toActor } from "../events/actor.ts";
import { answerOnce, type Claim } from "../idempotency/answer-once.ts";
import { type KeyedRequest, keyed } from "../idempotency/service.ts";
import { UnderWay } from "../operations/under-way.ts";
import { ActivityMarks } from "./activity-marks.ts";
import { createCapsule } from "./create.ts";
import type { CapsuleDeps, CapsuleStarter } from "./deps.ts";
import { destroyCapsule } from "./destroy.ts";
import { capsuleNotFound, findOnHost, findRunning, type RunningCapsule } from "./find-on-host.ts";
import { forkCapsule, settledForks, toFork } from "./fork.ts";
import { pauseCapsule } from "./pause.ts";
import {
  type CapsuleQueries,
  prepareCapsuleQueries,
  selectListed,
  touchCapsule,
} from "./queries.ts";
import { resumeCapsule } from "./resume.ts";
import {
  type Capsule,
  type CapsuleOfTeam,
  type CapsuleRow,
  type CreateCapsule,
  type Fork,
  type ForkCapsule,
  type ResumeCapsule,
  toCapsule,
} from "./schema.ts";
import { settledChange } from "./settled.ts";

export class Capsules implements AsyncDisposable {
  readonly #deps: CapsuleDeps;
  readonly #queries: CapsuleQueries;
  readonly #underWay = new UnderWay();
  readonly #activity = new ActivityMarks(() => performance.now());

  constructor(deps: CapsuleStarter) {
    this.#deps = { ...deps, ending: this.#underWay.ending };
    this.#queries = prepareCapsuleQueries(deps.db);
  }

  /** See `createCapsule`. A `key` makes a repeated request safe, here and below. */
  async create(caller: TeamCaller, body: CreateCapsule, key: string | undefined): Promise<Capsule> {
    const { teamId } = caller;
    const request = { teamId, actor: toActor(caller), body, key: keyed(caller, key, body) };
    return this.#withToken(await this.#underWay.track(createCapsule(this.#deps, request)));
  }

  /** The team's capsules, newest first, without those that ended. */
  async list(teamId: Id<"team">): Promise<Capsule[]> {
    return (await selectListed(this.#deps.db, teamId)).map(toCapsule);
  }

  /** The capsule in whatever state. Throws `not_found`. */
  async get(ids: CapsuleOfTeam): Promise<Capsule> {
    const row = await this.#queries.one(ids);
    if (row === undefined) throw capsuleNotFound(ids.id);
    return this.#withToken(toCapsule(row));
  }

  /** See `destroyCapsule`. Throws `not_found`. */
  async destroy(caller: TeamCaller, id: Id<"capsule">): Promise<void> {
    const row = await this.#queries.one({ id, teamId: caller.teamId });
    if (row === undefined) throw capsuleNotFound(id);
    await this.#underWay.track(destroyCapsule(this.#deps, row, toActor(caller)));
  }

  /** See `pauseCapsule`. Throws `not_found`, `invalid_state`, `host_unavailable` too. */
  async pause(caller: TeamCaller, id: Id<"capsule">, key?: string): Promise<Capsule> {
    const request = keyed(caller, key, { operation: "pause", id });
    return await this.#change(id, { request, to: "paused" }, async (claim) => {
      const running = await this.#running({ id, teamId: caller.teamId });
      return await pauseCapsule(this.#deps, running, { actor: toActor(caller), claim });
    });
  }

  /** See `resumeCapsule`. Throws `not_found`, `invalid_state`, `host_unavailable` too. */
  async resume(
    caller: TeamCaller,
    id: Id<"capsule">,
    { memory = true }: ResumeCapsule,
    key?: string,
  ): Promise<Capsule> {
    const request = keyed(caller, key, { operation: "resume", id, memory });
    return await this.#change(id, { request, to: "running" }, async (claim) => {
      const paused = await this.onHost({ id, teamId: caller.teamId, states: ["paused"] });
      return await resumeCapsule(this.#deps, paused, { actor: toActor(caller), memory, claim });
    });
  }

  /** See `forkCapsule`. Throws `not_found`, `invalid_state`, `host_unavailable` too. */
  async fork(
    caller: TeamCaller,
    id: Id<"capsule">,
    { count = 1, timeout_sec: timeoutSec }: ForkCapsule,
    key?: string,
  ): Promise<Fork[]> {
    const request = keyed(caller, key, { operation: "fork", id, count, timeoutSec });
    const forking = answerOnce(this.#deps.db, request, {
      status: 201,
      run: async (claim) => {
        const running = await this.#running({ id, teamId: caller.teamId });
        const asked = { actor: toActor(caller), count, timeoutSec, claim };
        return (await forkCapsule(this.#deps, running, asked)).map(toFork);
      },
      settled: async ({ response }) =>
        (await settledForks(this.#deps.db, { forkIds: toIds(response), count })).map(toFork),
      areFailuresKept: true,
    });
    const forks = await this.#noticingLoss(this.#underWay.track(forking));
    return forks.map((fork) => (fork.capsule ? { capsule: this.#withToken(fork.capsule) } : fork));
  }

  /**
   * The team's capsule, which is in one of the states, and the agent of its host. Throws
   * `not_found`, `invalid_state` and `host_unavailable`.
   */
  async onHost(
    ids: CapsuleOfTeam & { readonly states: readonly CapsuleState[] },
  ): Promise<RunningCapsule> {
    const { agents, log } = this.#deps;
    return await findOnHost({ queries: this.#queries, agents, log }, ids);
  }

  /** Counts as activity of the capsule. Throws `not_found` and `invalid_state`. */
  async ping(ids: CapsuleOfTeam): Promise<void> {
    const { agent } = await this.#running(ids);
    const sandboxId = encodeId("capsule", ids.id);
    const ping = agent.pingSandbox({ sandboxId }, { timeoutMs: GUEST_CALL_TIMEOUT_MS });
    await this.#noticingLoss(
      ping.catch((error) => {
        throw agentFailure(error, "capsule");
      }),
    );
    await touchCapsule(this.#deps.db, ids.id);
  }

  /**
   * Does something with the running capsule, which counts as activity when `isActivity`. Throws
   * `not_found`, `invalid_state`, `host_unavailable`, and what the work throws.
   */
  async use<T>(
    ids: CapsuleOfTeam & { isActivity: boolean },
    work: (running: RunningCapsule) => Promise<T>,
  ): Promise<T> {
    const running = await this.#running(ids);
    if (ids.isActivity && this.#activity.isDue(ids.id)) await touchCapsule(this.#deps.db, ids.id);
    return await this.#noticingLoss(work(running));
  }

  /** Gives what is under way a moment to end; what does not is left for others to settle. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#underWay[Symbol.asyncDispose]();
  }

  async #change(
    id: Id<"capsule">,
    { request, to }: { request: KeyedRequest | undefined; to: "paused" | "running" },
    run: (claim: Claim) => Promise<CapsuleRow>,
  ): Promise<Capsule> {
    const { db } = this.#deps;
    const changing = answerOnce(db, request, {
      status: 200,
      run: async (claim) => toCapsule(await run(claim)),
      settled: async () => await settledChange(db, id, to),
      areFailuresKept: false,
    });
    return this.#withToken(await this.#noticingLoss(this.#underWay.track(changing)));
  }

  /** Tells whoever may use the capsule what its private ports ask for. */
  #withToken(capsule: Capsule): Capsule {
    const id = capsule.private_ports === true ? decodeId("capsule", capsule.id) : null;
    return id === null
      ? capsule
      : { ...capsule, traffic_token: this.#deps.envdTokens.trafficOf(id) };
  }

  async #running({ id, teamId }: CapsuleOfTeam): Promise<RunningCapsule> {
    const { agents, log } = this.#deps;
    return await findRunning({ queries: this.#queries, agents, log }, { id, teamId });
  }

  /** The record said running: if the host says otherwise, the record is to be mended at once. */
  async #noticingLoss<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (error instanceof AppError && error.code === "invalid_state") this.#deps.wakeMonitor();
      throw error;
    }
  }
}

/** What the key of a fork is bound to; ours, written by this program or an older one. */
function toIds(begun: unknown): Id<"capsule">[] {
  return Array.isArray(begun) ? begun.map((id) => idFromUuid("capsule", String(id))) : [];
}
