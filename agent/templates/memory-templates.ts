// Templates that hold memory: a capsule as it was at one instant, for others to start from. They lie where
// images do, images/teams/<team>/<template>/: `memory` is the generation, memory.json what else a start
// needs. The file is written first, so that the directory, which appears at once, is never without it.

import { mkdir, readdir, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { encodeUuid } from "../../proto/ids.ts";
import { AgentError } from "../errors.ts";
import type { Failpoints } from "../failpoints.ts";
import type { Journal } from "../journal/journal.ts";
import { hasCode } from "../native/syscall-error.ts";
import { readWhole, sweepUnfinished } from "../snapshots/durable-files.ts";
import { SnapshotError } from "../snapshots/snapshot-error.ts";
import type { Generation, Snapshots } from "../snapshots/snapshots.ts";

const BLOCK_BYTES = 512;
const FACTS = "memory.json";
/** Some 300 bytes. */
const FACTS_BYTES_MAX = 64 * 1024;

const Facts = Type.Object({
  /** The operation that made it. */
  operationId: Type.String(),
  /** The token that the capsule's envd had. */
  savedToken: Type.String(),
  vcpus: Type.Integer(),
  memoryMib: Type.Integer(),
  diskMib: Type.Integer(),
});
export type TemplateFacts = Static<typeof Facts>;

export interface TemplateIds {
  readonly teamId: string;
  readonly templateId: string;
}

export interface MemoryTemplate {
  readonly facts: TemplateFacts;
  readonly generation: Generation;
}

/** What there is to say of a template that was made. */
export interface MadeTemplate {
  readonly sizeBytes: number;
  readonly vcpus: number;
  readonly memoryMib: number;
}

/** Saves a template, once, by the function that it is given. */
type Fill = (save: (template: MemoryTemplate) => Promise<void>) => Promise<void>;

interface Making {
  readonly operationId: string;
  readonly removed: AbortController;
  saving: Promise<void> | null;
  done: Promise<MadeTemplate>;
}

type SavedMemory = Pick<Snapshots, "load" | "publish" | "remove">;
/** A delete that was answered holds for a create that comes later: nobody would ask for its files to be removed. */
type Deletions = Pick<Journal, "deletion" | "finishDelete">;

export class MemoryTemplates {
  readonly #imagesDir: string;
  readonly #snapshots: SavedMemory;
  readonly #failpoints: Failpoints;
  readonly #journal: Deletions;
  readonly #now: () => Date;
  /** By directory. */
  readonly #makings = new Map<string, Making>();
  /** How many removals of a directory are under way. */
  readonly #removals = new Map<string, number>();

  constructor(options: {
    imagesDir: string;
    snapshots: SavedMemory;
    failpoints: Failpoints;
    journal: Deletions;
    now: () => Date;
  }) {
    this.#journal = options.journal;
    this.#now = options.now;
    this.#imagesDir = options.imagesDir;
    this.#snapshots = options.snapshots;
    this.#failpoints = options.failpoints;
  }

  /**
   * Makes that template of what `fill` saves, once; the same operation again, or meanwhile, has the same
   * answer. Throws AgentError already_exists (another operation's), aborted (removed meanwhile or before), what
   * `fill` throws, SnapshotError; then the template is not there.
   */
  async make(ids: TemplateIds, operationId: string, fill: Fill): Promise<MadeTemplate> {
    const dir = this.#dir(ids);
    const deletion = this.#journal.deletion(ids);
    if (deletion !== null) throw deleted(deletion.message);
    if (this.#removals.has(dir)) throw deleted();
    const known = this.#makings.get(dir);
    if (known !== undefined) {
      if (known.operationId !== operationId) throw taken();
      return await known.done;
    }
    const making = { operationId, removed: new AbortController(), saving: null };
    const done = this.#make(dir, making, fill).finally(() => this.#makings.delete(dir));
    this.#makings.set(dir, Object.assign(making, { done }));
    return await done;
  }

  async #make(dir: string, making: Omit<Making, "done">, fill: Fill): Promise<MadeTemplate> {
    const directory = join(dir, "memory");
    const { operationId, removed } = making;
    if (await exists(directory)) {
      const facts = await this.#facts(dir);
      if (facts?.operationId !== operationId) throw taken();
      return await madeOf(directory, facts);
    }
    await fill(async (template) => {
      removed.signal.throwIfAborted();
      making.saving = this.#save(dir, template);
      await making.saving;
    });
    removed.signal.throwIfAborted();
    const facts = await this.#facts(dir);
    if (facts === null) throw new Error(`unreachable: nothing was saved in ${dir}`);
    return await madeOf(directory, facts);
  }

  async #save(dir: string, { facts, generation }: MemoryTemplate): Promise<void> {
    const path = join(dir, FACTS);
    await mkdir(dir, { recursive: true, mode: 0o755 });
    // It holds a token.
    await writeFile(`${path}.new`, JSON.stringify(facts), { mode: 0o600, flush: true });
    await rename(`${path}.new`, path);
    this.#failpoints.reach("snapshot.after-facts");
    await this.#snapshots.publish({ from: generation, directory: join(dir, "memory") });
    this.#failpoints.reach("snapshot.after-publish");
  }

  /** Removes what crashes left half made or half removed. MUST be called before anything else. */
  async sweep(): Promise<void> {
    const glob = new Bun.Glob("teams/*/*");
    const scan = glob.scan({ cwd: this.#imagesDir, onlyFiles: false });
    for (const name of await Array.fromAsync(scan).catch(noneIfMissing)) {
      const dir = join(this.#imagesDir, name);
      await sweepUnfinished(dir);
      await rm(join(dir, `${FACTS}.new`), { force: true });
      if (await exists(join(dir, "memory"))) continue;
      await rm(join(dir, FACTS), { force: true });
      await removeIfEmpty(dir);
    }
  }

  /** Null if that template holds no memory here. Throws SnapshotError: damaged, incompatible. */
  async find(ids: TemplateIds): Promise<MemoryTemplate | null> {
    const dir = this.#dir(ids);
    const directory = join(dir, "memory");
    try {
      const generation = await this.#snapshots.load(directory);
      const facts = await this.#facts(dir);
      if (facts !== null) return { generation, facts };
      throw new SnapshotError("damaged", `${dir} has no ${FACTS}`);
    } catch (error) {
      if (!(error instanceof SnapshotError)) throw error;
      // One that was removed while it was read misses whatever was to be read next.
      if (error.code === "not_found" || !(await exists(directory))) return null;
      throw error;
    }
  }

  /**
   * Removes the template, also one that is just being made or asked for later. Capsules that were started from it
   * go on. Idempotent; an image beside it stays. Throws AgentError if it cannot be written down; to be repeated.
   */
  async remove(ids: TemplateIds): Promise<void> {
    const dir = this.#dir(ids);
    this.#removals.set(dir, (this.#removals.get(dir) ?? 0) + 1);
    try {
      await this.#remove(dir);
      // Behind the files: on a full disk they make the room for it.
      this.#journal.finishDelete(ids, this.#now());
    } finally {
      const left = (this.#removals.get(dir) ?? 1) - 1;
      if (left === 0) this.#removals.delete(dir);
      else this.#removals.set(dir, left);
    }
  }

  async #remove(dir: string): Promise<void> {
    const making = this.#makings.get(dir);
    making?.removed.abort(deleted());
    await making?.saving?.catch(() => {});
    await this.#snapshots.remove(join(dir, "memory"));
    await rm(join(dir, FACTS), { force: true });
    await removeIfEmpty(dir);
  }

  async #facts(dir: string): Promise<TemplateFacts | null> {
    const text = await readWhole(join(dir, FACTS), FACTS_BYTES_MAX).catch((error: unknown) => {
      if (hasCode(error, "ENOENT")) return null;
      throw error;
    });
    return text === null ? null : Value.Parse(Facts, JSON.parse(text.toString("utf8")));
  }

  #dir({ teamId, templateId }: TemplateIds): string {
    return join(this.#imagesDir, "teams", encodeUuid(teamId), encodeUuid(templateId));
  }
}

function deleted(message = "The snapshot was deleted while it was made"): AgentError {
  return new AgentError("aborted", message, { subject: "request" });
}

function taken(): AgentError {
  const message = "template_id is taken by another snapshot";
  return new AgentError("already_exists", message, { subject: "request" });
}

async function madeOf(directory: string, facts: TemplateFacts): Promise<MadeTemplate> {
  const { vcpus, memoryMib } = facts;
  return { sizeBytes: await sizeOf(directory), vcpus, memoryMib };
}

async function removeIfEmpty(dir: string): Promise<void> {
  await rmdir(dir).catch((error: unknown) => {
    if (!hasCode(error, "ENOENT", "ENOTEMPTY", "EEXIST")) throw error;
  });
}

function noneIfMissing(error: unknown): string[] {
  if (hasCode(error, "ENOENT")) return [];
  throw error;
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}

async function sizeOf(directory: string): Promise<number> {
  const names = await readdir(directory);
  const sizes = names.map(async (name) => (await stat(join(directory, name))).blocks * BLOCK_BYTES);
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}
