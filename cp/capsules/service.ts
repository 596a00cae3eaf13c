// The rules of capsules, as other parts of the control plane use them.

import { encodeId, type Id } from "../../proto/ids.ts";
import { agentFailure } from "../agents/agent-errors.ts";
import { GUEST_CALL_TIMEOUT_MS } from "../agents/limits.ts";
import { type GrantedCaller, may, type TeamCaller } from "../auth/authenticator.ts";
import { type Begun, mapEnd } from "../begun.ts";
import type { CapsuleState } from "../capsule-states.ts";
import { AppError } from "../errors.ts";
import { toActor } from "../events/actor.ts";
import { answerOnce, type Claim } from "../idempotency/answer-once.ts";
import type { KeyedRequest } from "../idempotency/service.ts";
import { UnderWay } from "../operations/under-way.ts";
import { SharedLookups } from "../shared-lookups.ts";
import { ActivityMarks } from "./activity-marks.ts";
import type { CapsuleOfTeam, CapsuleRow, ForkResult, Labels, NewCapsule } from "./capsule.ts";
import { createCapsule } from "./create.ts";
import type { CapsuleDeps, CapsuleStarter } from "./deps.ts";
import { destroyCapsule } from "./destroy.ts";
import { capsuleNotFound, findOnHost, findRunning, type RunningCapsule } from "./find-on-host.ts";
import { forkCapsule, recordedForks, settledForks } from "./fork.ts";
import type { ResumeSource } from "./lifecycle.ts";
import { pauseCapsule } from "./pause.ts";
import {
  type CapsuleQueries,
  prepareCapsuleQueries,
  selectListed,
  touchCapsule,
} from "./queries.ts";
import { resumeCapsule } from "./resume.ts";
import { recordedCapsule, settledChange } from "./settled.ts";

export interface Creating<Result = CapsuleRow> extends Begun<Id<"capsule">, Result> {
  /** The first of what is created. */
  readonly id: Id<"capsule">;
}
export type Changing = Begun<Id<"capsule">, CapsuleRow>;

export class Capsules implements AsyncDisposable {
  readonly #deps: CapsuleDeps;
  readonly #queries: CapsuleQueries;
  /** Many clients that wait for capsules ask for them again and again. */
  readonly #rows: SharedLookups<CapsuleOfTeam, CapsuleRow>;
  readonly #underWay = new UnderWay();
  readonly #activity = new ActivityMarks(() => performance.now());

  constructor(deps: CapsuleStarter) {
    this.#deps = { ...deps, ending: this.#underWay.ending };
    this.#queries = prepareCapsuleQueries(deps.db);
    const ofTeam = ({ id, teamId }: CapsuleOfTeam) => `${id} ${teamId}`;
    this.#rows = new SharedLookups<CapsuleOfTeam, CapsuleRow>({
      look: async (asked) => await this.#queries.many(asked.map(({ id }) => id)),
      keyOf: ofTeam,
      keyOfValue: ofTeam,
    });
  }

  /** See `createCapsule`. A `key` makes a repeated request safe, here and below. */
  async create(caller: TeamCaller, asked: NewCapsule, key?: KeyedRequest): Promise<Creating> {
    const request = { teamId: caller.teamId, actor: toActor(caller), asked, key };
    return creating(await this.#goOn(createCapsule(this.#deps, request)));
  }

  /** The team's capsules with all these labels, newest first, without those that ended. */
  async list(teamId: Id<"team">, labels: Labels): Promise<CapsuleRow[]> {
    return await selectListed(this.#deps.db, { teamId, labels });
  }

  /** The capsule in whatever state. Throws `not_found`. */
  async get(ids: CapsuleOfTeam): Promise<CapsuleRow> {
    const row = await this.#rows.of(ids);
    if (row === undefined) throw capsuleNotFound(ids.id);
    return row;
  }

  /**
   * What private ports ask for; undefined when the capsule's are public, and for who may not use capsules: it opens
   * whatever servers in them do.
   */
  trafficToken(caller: GrantedCaller, { id, privatePorts }: CapsuleRow): string | undefined {
    return privatePorts && may(caller, "exec") ? this.#deps.envdTokens.trafficOf(id) : undefined;
  }

  /** See `destroyCapsule`. Throws `not_found`. */
  async destroy(caller: TeamCaller, id: Id<"capsule">): Promise<Begun<Id<"capsule">, boolean>> {
    const row = await this.get({ id, teamId: caller.teamId });
    return await this.#goOn(destroyCapsule(this.#deps, row, toActor(caller)));
  }

  /** See `pauseCapsule`. Throws `not_found`, `invalid_state`, `host_unavailable` too. */
  async pause(caller: TeamCaller, id: Id<"capsule">, key?: KeyedRequest): Promise<Changing> {
    return await this.#change(id, { key, to: "paused" }, async (claim) => {
      const running = await this.#running({ id, teamId: caller.teamId });
      return await pauseCapsule(this.#deps, running, { actor: toActor(caller), claim });
    });
  }

  /** See `resumeCapsule`. Throws `not_found`, `invalid_state`, `host_unavailable` too. */
  async resume(
    caller: TeamCaller,
    id: Id<"capsule">,
    from: ResumeSource | null,
    key?: KeyedRequest,
  ): Promise<Changing> {
    return await this.#change(id, { key, to: "running" }, async (claim) => {
      const paused = await this.onHost({ id, teamId: caller.teamId, states: ["paused"] });
      return await resumeCapsule(this.#deps, paused, { actor: toActor(caller), from, claim });
    });
  }

  /** See `forkCapsule`. Throws `not_found`, `invalid_state`, `host_unavailable` too. */
  async fork(
    caller: TeamCaller,
    id: Id<"capsule">,
    { count, timeoutSec }: { count: number; timeoutSec: number | undefined },
    key?: KeyedRequest,
  ): Promise<Creating<ForkResult[]>> {
    const { db } = this.#deps;
    const forking = answerOnce(db, key, {
      kind: "capsule",
      run: async (claim) => {
        const running = await this.#running({ id, teamId: caller.teamId });
        const asked = { actor: toActor(caller), count, timeoutSec, claim };
        return await forkCapsule(this.#deps, running, asked);
      },
      settled: async (forkIds) => await settledForks(db, { forkIds, count }),
      found: async (forkIds) => await recordedForks(db, { forkIds, count }),
      areFailuresKept: true,
    });
    return creating(await this.#noticingLoss(this.#goOn(forking)));
  }

  /** The forks as they are by now: see `recordedForks`. */
  async forksSoFar(forkIds: readonly Id<"capsule">[], count: number): Promise<ForkResult[]> {
    return await recordedForks(this.#deps.db, { forkIds, count });
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
    { key, to }: { key: KeyedRequest | undefined; to: "paused" | "running" },
    run: (claim: Claim<"capsule">) => Promise<Changing>,
  ): Promise<Changing> {
    const { db } = this.#deps;
    const changing = answerOnce(db, key, {
      kind: "capsule",
      run,
      settled: async () => await settledChange(db, id, to),
      found: async () => await recordedCapsule(db, id),
      areFailuresKept: false,
    });
    return await this.#noticingLoss(this.#goOn(changing));
  }

  /** Whatever becomes of the client: the beginning, and then the end. */
  async #goOn<Result>(
    beginning: Promise<Begun<Id<"capsule">, Result>>,
  ): Promise<Begun<Id<"capsule">, Result>> {
    const begun = await this.#underWay.track(beginning);
    return mapEnd(begun, (done) => this.#noticingLoss(this.#underWay.track(done)));
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

function creating<Result>(begun: Begun<Id<"capsule">, Result>): Creating<Result> {
  const [id] = begun.ids;
  if (id === undefined) throw new Error("unreachable: a create of nothing");
  return { ...begun, id };
}
