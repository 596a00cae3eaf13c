// The rules of snapshots, as other parts of the control plane use them.

import type { Id } from "../../proto/ids.ts";
import { SNAPSHOT_TIMEOUT_MS } from "../agents/limits.ts";
import type { TeamCaller } from "../auth/authenticator.ts";
import { type Begun, mapEnd } from "../begun.ts";
import type { Capsules } from "../capsules/service.ts";
import { randomHex } from "../digest.ts";
import { toActor } from "../events/actor.ts";
import { answerOnce } from "../idempotency/answer-once.ts";
import type { KeyedRequest } from "../idempotency/service.ts";
import type { OperationStarter } from "../operations/deps.ts";
import { UnderWay } from "../operations/under-way.ts";
import type { TemplateRow, TemplateType } from "../templates/template.ts";
import { changeVisibility, renameTemplate } from "./change.ts";
import { createSnapshot, recordedTemplate, settledTemplate, templateSoFar } from "./create.ts";
import type { SnapshotDeps } from "./deps.ts";
import { TEMPLATES_LISTED_MAX } from "./limits.ts";
import {
  type ListedTemplate,
  type PageRequest,
  selectAnyTemplates,
  selectOwnTemplates,
  selectSlug,
  selectTemplatePage,
  type TemplatePage,
} from "./list.ts";
import { deleteSnapshot } from "./remove.ts";

export interface SnapshotOf {
  readonly capsuleId: Id<"capsule">;
  readonly name: string | undefined;
  readonly isOverwriting: boolean;
}

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
    request: SnapshotOf,
    key?: KeyedRequest,
  ): Promise<Begun<string, TemplateRow>> {
    const { capsuleId: id, isOverwriting } = request;
    const name = request.name ?? `template-${randomHex(4)}`;
    const states = ["running", "paused"] as const;
    const actor = toActor(caller);
    const creating = answerOnce(this.#deps.db, key, {
      kind: "template",
      run: async (claim) => {
        const source = await this.#capsules.onHost({ id, teamId: caller.teamId, states });
        const snapshot = { source, actor, name, isOverwriting, claim };
        return await createSnapshot(this.#deps, snapshot);
      },
      settled: async ([made]) => await settledTemplate(this.#deps, made, SNAPSHOT_TIMEOUT_MS),
      found: async ([made]) => await recordedTemplate(this.#deps, made),
      areFailuresKept: true,
    });
    const begun = await this.#underWay.track(creating);
    return mapEnd(begun, (done) => this.#underWay.track(done));
  }

  /** The template of a create that goes on, as far as it is known. Throws `conflict` when it was given up. */
  async soFar([id]: readonly string[]): Promise<TemplateRow> {
    if (id === undefined) throw new Error("unreachable: a create of nothing");
    return await templateSoFar(this.#deps, id);
  }

  /** The team's templates and the platform's, newest first. */
  async list(teamId: Id<"team">, type: TemplateType | undefined): Promise<ListedTemplate[]> {
    return await selectOwnTemplates(this.#deps.db, { teamId, type, limit: TEMPLATES_LISTED_MAX });
  }

  /** The same with those of other teams that are public, by pages. */
  async page(request: PageRequest): Promise<TemplatePage> {
    return await selectTemplatePage(this.#deps.db, request);
  }

  /** All that there are, newest first. */
  async listAny(which: { page: number; perPage: number }): Promise<TemplatePage> {
    return await selectAnyTemplates(this.#deps.db, which);
  }

  /** The template with its team's slug. */
  async listed(template: TemplateRow): Promise<ListedTemplate> {
    return { template, teamSlug: await selectSlug(this.#deps.db, template.teamId) };
  }

  /** See `renameTemplate`. */
  async rename(caller: TeamCaller, { name, newName }: { name: string; newName: string }) {
    const change = { teamId: caller.teamId, name, newName, actor: toActor(caller) };
    await this.#underWay.track(renameTemplate(this.#deps.db, change));
  }

  /** See `changeVisibility`. */
  async show(caller: TeamCaller, { name, isPublic }: { name: string; isPublic: boolean }) {
    const change = { teamId: caller.teamId, name, isPublic, actor: toActor(caller) };
    await this.#underWay.track(changeVisibility(this.#deps.db, change));
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
