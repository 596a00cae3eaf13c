// The rules of snapshots, as other parts of the control plane use them.

import type { Id } from "../../proto/ids.ts";
import { SNAPSHOT_TIMEOUT_MS } from "../agents/limits.ts";
import type { TeamCaller } from "../auth/authenticator.ts";
import type { Capsules } from "../capsules/service.ts";
import { randomHex } from "../digest.ts";
import { toActor } from "../events/actor.ts";
import { answerOnce } from "../idempotency/answer-once.ts";
import { keyed } from "../idempotency/service.ts";
import type { OperationStarter } from "../operations/deps.ts";
import { UnderWay } from "../operations/under-way.ts";
import { PLATFORM_TEAM } from "../templates/service.ts";
import { createSnapshot, settledTemplate } from "./create.ts";
import type { SnapshotDeps } from "./deps.ts";
import { selectTemplates, type TemplateRow, type TemplateType } from "./queries.ts";
import { deleteSnapshot } from "./remove.ts";
import { TEMPLATES_LISTED_MAX, type Template, toTemplate } from "./schema.ts";

export class Snapshots implements AsyncDisposable {
  readonly #deps: SnapshotDeps;
  readonly #capsules: Capsules;
  readonly #underWay = new UnderWay();

  constructor(deps: OperationStarter & { readonly capsules: Capsules }) {
    const inBackground = (work: Promise<unknown>) => void this.#underWay.track(work);
    this.#deps = { ...deps, ending: this.#underWay.ending, inBackground };
    this.#capsules = deps.capsules;
  }

  /**
   * Makes a template of a running or paused capsule, which stays as it is; goes on when the client
   * goes away. See `createSnapshot`. Throws `not_found`, `invalid_state`, `host_unavailable` too.
   */
  async create(
    caller: TeamCaller,
    request: { capsuleId: Id<"capsule">; name: string | undefined; isOverwriting: boolean },
    key?: string,
  ): Promise<Template> {
    const { capsuleId: id, isOverwriting } = request;
    const name = request.name ?? `template-${randomHex(4)}`;
    const states = ["running", "paused"] as const;
    const actor = toActor(caller);
    const asked = { operation: "snapshot", id, name: request.name, isOverwriting };
    const creating = answerOnce(this.#deps.db, keyed(caller, key, asked), {
      status: 201,
      run: async (claim) => {
        const source = await this.#capsules.onHost({ id, teamId: caller.teamId, states });
        const snapshot = { source, actor, name, isOverwriting, claim };
        return toOwnTemplate(await createSnapshot(this.#deps, snapshot));
      },
      settled: async ({ response }) =>
        toOwnTemplate(await settledTemplate(this.#deps, String(response), SNAPSHOT_TIMEOUT_MS)),
      areFailuresKept: true,
    });
    return await this.#underWay.track(creating);
  }

  /** The team's templates and the platform's, newest first. */
  async list(teamId: Id<"team">, type: TemplateType | undefined): Promise<Template[]> {
    const which = { teamIds: [teamId, PLATFORM_TEAM], type, limit: TEMPLATES_LISTED_MAX };
    const found = await selectTemplates(this.#deps.db, which);
    return found.map((row) => toTemplate(row, { isPlatform: row.teamId === PLATFORM_TEAM }));
  }

  /** See `deleteSnapshot`. */
  async delete(caller: TeamCaller, name: string): Promise<void> {
    const request = { teamId: caller.teamId, name, actor: toActor(caller) };
    await this.#underWay.track(deleteSnapshot(this.#deps, request));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#underWay[Symbol.asyncDispose]();
  }
}

function toOwnTemplate(row: TemplateRow): Template {
  return toTemplate(row, { isPlatform: false });
}
