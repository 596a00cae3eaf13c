// The rules of snapshots, as other parts of the control plane use them.

import type { Id } from "../../proto/ids.ts";
import type { TeamCaller } from "../auth/authenticator.ts";
import { randomHex } from "../auth/digest.ts";
import type { CapsuleDeps } from "../capsules/deps.ts";
import { type Capsules, toActor } from "../capsules/service.ts";
import { UnderWay } from "../capsules/under-way.ts";
import { PLATFORM_TEAM } from "../templates/service.ts";
import { createSnapshot } from "./create.ts";
import type { SnapshotDeps } from "./deps.ts";
import { selectTemplates, type TemplateType } from "./queries.ts";
import { deleteSnapshot } from "./remove.ts";
import { TEMPLATES_LISTED_MAX, type Template, toTemplate } from "./schema.ts";

export class Snapshots implements AsyncDisposable {
  readonly #deps: SnapshotDeps;
  readonly #capsules: Capsules;
  readonly #underWay = new UnderWay();

  constructor(deps: CapsuleDeps & { readonly capsules: Capsules }) {
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
  ): Promise<Template> {
    const { capsuleId: id, name = `template-${randomHex(4)}`, isOverwriting } = request;
    const states = ["running", "paused"] as const;
    const source = await this.#capsules.onHost({ id, teamId: caller.teamId, states });
    const actor = toActor(caller);
    const creating = createSnapshot(this.#deps, { source, actor, name, isOverwriting });
    return toTemplate(await this.#underWay.track(creating), { isPlatform: false });
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
