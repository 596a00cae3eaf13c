// Templates that hold memory: a capsule as it was at one instant, for others to start from. They lie where
// images do, images/teams/<team>/<template>/: `memory` is the generation, memory.json what else a start
// needs. The file is written first, so that the directory, which appears at once, is never without it.

import { mkdir, readdir, readFile, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { encodeUuid } from "../../proto/ids.ts";
import { AgentError } from "../errors.ts";
import { SnapshotError } from "../memory/snapshot-error.ts";
import type { Generation, Snapshots } from "../memory/snapshots.ts";
import { hasCode } from "../native/syscall-error.ts";

const BLOCK_BYTES = 512;

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

export class MemoryTemplates {
  readonly #imagesDir: string;
  readonly #snapshots: Snapshots;

  constructor(options: { imagesDir: string; snapshots: Snapshots }) {
    this.#imagesDir = options.imagesDir;
    this.#snapshots = options.snapshots;
  }

  /**
   * Keeps the generation as that template; again with the same operation changes nothing. Answers the
   * bytes it takes. Throws AgentError already_exists, SnapshotError.
   */
  async save(ids: TemplateIds, { facts, generation }: MemoryTemplate): Promise<number> {
    const dir = this.#dir(ids);
    const directory = join(dir, "memory");
    const known = await this.#facts(dir);
    if (await exists(directory)) {
      if (known?.operationId === facts.operationId) return await sizeOf(directory);
      throw new AgentError("already_exists", "template_id is taken by another snapshot", {
        subject: "request",
      });
    }
    await mkdir(dir, { recursive: true, mode: 0o755 });
    const path = join(dir, "memory.json");
    // It holds a token.
    await writeFile(`${path}.new`, JSON.stringify(facts), { mode: 0o600, flush: true });
    await rename(`${path}.new`, path);
    await this.#snapshots.publish({ from: generation, directory });
    return await sizeOf(directory);
  }

  /** Null if that template holds no memory here. Throws SnapshotError: damaged, incompatible. */
  async find(ids: TemplateIds): Promise<MemoryTemplate | null> {
    const dir = this.#dir(ids);
    try {
      const generation = await this.#snapshots.load(join(dir, "memory"));
      const facts = await this.#facts(dir);
      if (facts !== null) return { generation, facts };
      throw new SnapshotError("damaged", `${dir} has no memory.json`);
    } catch (error) {
      if (error instanceof SnapshotError && error.code === "not_found") return null;
      throw error;
    }
  }

  /** Capsules that were started from it go on. Idempotent; an image beside it stays. */
  async remove(ids: TemplateIds): Promise<void> {
    const dir = this.#dir(ids);
    await this.#snapshots.remove(join(dir, "memory"));
    await rm(join(dir, "memory.json"), { force: true });
    await rmdir(dir).catch((error: unknown) => {
      if (!hasCode(error, "ENOENT", "ENOTEMPTY", "EEXIST")) throw error;
    });
  }

  async #facts(dir: string): Promise<TemplateFacts | null> {
    const text = await readFile(join(dir, "memory.json"), "utf8").catch((error: unknown) => {
      if (hasCode(error, "ENOENT")) return null;
      throw error;
    });
    return text === null ? null : Value.Parse(Facts, JSON.parse(text));
  }

  #dir({ teamId, templateId }: TemplateIds): string {
    return join(this.#imagesDir, "teams", encodeUuid(teamId), encodeUuid(templateId));
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}

async function sizeOf(directory: string): Promise<number> {
  const names = await readdir(directory);
  const sizes = names.map(async (name) => (await stat(join(directory, name))).blocks * BLOCK_BYTES);
  return (await Promise.all(sizes)).reduce((sum, bytes) => sum + bytes, 0);
}
