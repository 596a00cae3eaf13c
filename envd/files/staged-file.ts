// A file on its way into its place: until all of its content is there nobody finds any of it.
//
// What is written is a file without a name in the directory that the new one is to be in (O_TMPFILE of
// open(2)), which is gone with whoever holds it. At the end it takes the name, and with it what the file
// before had besides content: its owner, mode, access lists, attributes. Where that cannot be, because
// the old file has other names, is mounted, or has attributes that no other can be given, the finished
// content is written into it. Only where nothing can be made beside (as in /proc, or on what is mounted
// read-only) is the file written as its content comes.
//
// Nothing is synced: a file system that delays allocation writes the content out before the new name is
// durable (ext4's auto_da_alloc), so that a crash leaves the old file or the new one.
import { constants } from "node:fs";
import { type FileHandle, link, open, rename, rm, stat, unlink } from "node:fs/promises";
import { EnvdError, errnoOf } from "../errors.ts";
import { systemName } from "../file-names.ts";
import { FILE_CHUNK_BYTES, PUBLISH_ATTEMPTS_MAX } from "../limits.ts";
import type { User } from "../users.ts";
import { descriptorPath } from "./descriptors.ts";
import type { FileCalls } from "./file-calls.ts";
import { METADATA_PREFIX } from "./metadata.ts";
import type { PathHandle } from "./path-handle.ts";

/** Before the umask. */
const FILE_MODE = 0o666;
const MODE_BITS = 0o7777;
const SET_ID_BITS = 0o6000;

/** open(2); the runtime does not name it. */
const O_TMPFILE = 0o20000000 | constants.O_DIRECTORY;

/** For a moment, or for longer where a file system knows no files without a name. A watch tells none. */
const ASIDE_PREFIX = ".wrenn-upload-";

/** What open(2) says where there are no files without a name. */
const NO_UNNAMED = ["EOPNOTSUPP", "EISDIR", "ENOENT", "EINVAL"];
/** And where no file of any name can be made, or take another's. */
const NOTHING_BESIDE = [...NO_UNNAMED, "EACCES", "EPERM", "EROFS", "EBUSY"];

/** What was asked last for each file that content is written into, by device and inode. */
const pouring = new Map<string, Promise<void>>();

interface StageOptions {
  /** Whose the file becomes unless there was one before. */
  readonly user: User;
  readonly calls: FileCalls;
  /** Throws unless what has the name by now may be written. */
  readonly requireFile: () => void;
  /** Called with a path to the very file, for any process, when its content is there. */
  readonly finish: (path: string, isNew: boolean) => Promise<void>;
}

interface Stage {
  readonly file: FileHandle;
  /** Null for a file without a name. */
  readonly aside: string | null;
}

/** Dispose it in any case: what was not published is gone then. */
export class StagedFile implements AsyncDisposable {
  readonly #place: PathHandle;
  readonly #options: StageOptions;
  readonly #stage: Stage | null;
  /** The file itself, emptied, where nothing can be made beside it. */
  #direct: FileHandle | null = null;

  private constructor(handle: PathHandle, stage: Stage | null, options: StageOptions) {
    this.#place = handle;
    this.#stage = stage;
    this.#options = options;
  }

  /** Fails with an errno where no file can be made. */
  static async open(handle: PathHandle, options: StageOptions): Promise<StagedFile> {
    try {
      return new StagedFile(handle, await openStage(handle), options);
    } catch (error) {
      if (handle.entry === null || !isOneOf(error, NOTHING_BESIDE)) throw error;
      return new StagedFile(handle, null, options);
    }
  }

  /** Appends all of the chunk. */
  async write(chunk: Uint8Array): Promise<void> {
    await writeAll(this.#stage?.file ?? (await this.#openDirect()), chunk);
  }

  /**
   * Makes what was written the content of the file. When that fails, with an errno or an EnvdError, the
   * old file is as it was, unless it is written as its content comes.
   */
  async publish(): Promise<void> {
    const stage = this.#stage;
    if (stage === null) return this.#options.finish(pathOf(await this.#openDirect()), false);
    for (let attempt = 0; attempt < PUBLISH_ATTEMPTS_MAX; attempt++) {
      try {
        return await this.#takePlace(stage);
      } catch (error) {
        if (!isOneOf(error, ["EEXIST", "ESTALE"])) throw error;
      }
      // Another upload was faster, or a program put something there.
      this.#place.lookAgain();
      this.#options.requireFile();
    }
    throw new EnvdError("failed_precondition", "the file is replaced again and again");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#direct?.close();
    if (this.#stage === null) return;
    await this.#stage.file.close();
    if (this.#stage.aside !== null) await rm(this.#stage.aside, { force: true });
  }

  /** Fails with EEXIST or ESTALE when something else has the name than the place says. */
  async #takePlace(stage: Stage): Promise<void> {
    const { entry, isMountPoint, mayChange } = this.#place;
    const { user, finish } = this.#options;
    if (entry === null) {
      await stage.file.chown(user.uid, user.gid);
      await finish(pathOf(stage.file), true);
      return this.#nameNew(stage);
    }
    if (isMountPoint || !mayChange || !(await this.#takeAttributes(stage.file))) {
      return this.#pour(stage.file);
    }
    await finish(pathOf(stage.file), true);
    try {
      await this.#nameOver(stage);
    } catch (error) {
      if (!isOneOf(error, NOTHING_BESIDE)) throw error;
      await this.#pour(stage.file);
    }
  }

  async #nameNew({ file, aside }: Stage): Promise<void> {
    const { path } = this.#place;
    if (aside === null) return this.#options.calls.call("new", pathOf(file), path);
    await link(aside, systemName(path));
    await unlink(aside);
  }

  async #nameOver({ file, aside }: Stage): Promise<void> {
    const { path, entryPath } = this.#place;
    if (aside === null) {
      const passing = this.#place.sibling(asideName());
      return this.#options.calls.call("over", pathOf(file), passing, path, entryPath);
    }
    await rename(aside, systemName(path));
  }

  /** Whether the file now has all that the old one has besides content and metadata. */
  async #takeAttributes(file: FileHandle): Promise<boolean> {
    const { entryPath } = this.#place;
    const { calls, user } = this.#options;
    const { uid, gid, mode, nlink } = await stat(entryPath);
    // Another upload has taken its place since it was looked at.
    if (nlink === 0) throw Object.assign(new Error("the file is gone"), { code: "ESTALE" });
    if (nlink !== 1) return false;
    try {
      await file.chown(uid, gid);
      await calls.call("carry", METADATA_PREFIX, entryPath, pathOf(file));
      // As the kernel has it when somebody else than root writes into a program.
      await file.chmod(mode & (user.uid === 0 ? MODE_BITS : MODE_BITS & ~SET_ID_BITS));
      return true;
    } catch (error) {
      if (errnoOf(error) === null) throw error;
      return false;
    }
  }

  /** Writes the finished content into the old file, after whoever is at that, or the parts of both would mix. */
  async #pour(content: FileHandle): Promise<void> {
    await using file = await openEntry(this.#place);
    const { dev, ino } = await file.stat();
    const which = `${dev}:${ino}`;
    const before = pouring.get(which);
    const poured = (async () => {
      await before?.catch(() => {});
      await this.#pourInto(file, content);
    })();
    pouring.set(which, poured);
    try {
      await poured;
    } finally {
      if (pouring.get(which) === poured) pouring.delete(which);
    }
  }

  /** There must be room for it. */
  async #pourInto(file: FileHandle, content: FileHandle): Promise<void> {
    const { entryPath } = this.#place;
    const { size } = await content.stat();
    await this.#options.calls.call("reserve", entryPath, String(size));
    const room = new Uint8Array(FILE_CHUNK_BYTES);
    for (let at = 0; at < size; ) {
      const { bytesRead } = await content.read(room, 0, room.length, at);
      await writeAll(file, room.subarray(0, bytesRead));
      at += bytesRead;
    }
    await file.truncate(size);
    await this.#options.finish(entryPath, false);
  }

  /** Emptied when the first of the new content is there. */
  async #openDirect(): Promise<FileHandle> {
    if (this.#direct !== null) return this.#direct;
    this.#direct = await openEntry(this.#place);
    if ((await this.#direct.stat()).size > 0) await this.#direct.truncate(0);
    return this.#direct;
  }
}

async function openStage(handle: PathHandle): Promise<Stage> {
  const { O_RDWR, O_CREAT, O_EXCL } = constants;
  try {
    const file = await open(handle.directoryPath, O_RDWR | O_TMPFILE, FILE_MODE);
    return { file, aside: null };
  } catch (error) {
    if (!isOneOf(error, NO_UNNAMED)) throw error;
  }
  const aside = handle.sibling(asideName());
  return { file: await open(aside, O_RDWR | O_CREAT | O_EXCL, FILE_MODE), aside };
}

function asideName(): string {
  return `${ASIDE_PREFIX}${crypto.randomUUID()}`;
}

/** Opens what the place has held all along; a pipe that nobody reads would not hold it up. */
function openEntry(handle: PathHandle): Promise<FileHandle> {
  return open(handle.entryPath, constants.O_WRONLY | constants.O_NONBLOCK);
}

function pathOf({ fd }: FileHandle): string {
  return descriptorPath(fd);
}

function isOneOf(error: unknown, errnos: readonly string[]): boolean {
  return errnos.includes(errnoOf(error) ?? "");
}

/** Writes all of the chunk where the file is. */
async function writeAll(file: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let at = 0; at < chunk.length; ) {
    const { bytesWritten } = await file.write(chunk, at, chunk.length - at);
    at += bytesWritten;
  }
}
