import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  copyFile,
  link,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readlink,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { encodeUuid } from "../../proto/ids.ts";
import { Kernel } from "../native/kernel.ts";
import { Images } from "./images.ts";

const NATIVE_DIR = join(import.meta.dirname, "../../build/native");
const TEAM = "00000000-0000-0000-0000-000000000000";
const SHA256 = new Bun.CryptoHasher("sha256").update("a file system").digest("hex");

let kernel: Kernel;
let base: string;
let count = 0;

beforeAll(async () => {
  kernel = await Kernel.open(NATIVE_DIR);
  base = await mkdtemp(join(tmpdir(), "wrenn-images-"));
});

afterAll(async () => {
  await kernel.close();
  await rm(base, { recursive: true });
});

async function newStore() {
  const dir = join(base, String(count++));
  const ids = { teamId: TEAM, templateId: crypto.randomUUID() };
  const putImage = async (templateId = ids.templateId) => {
    const home = join(dir, "teams", encodeUuid(TEAM), encodeUuid(templateId));
    await mkdir(home, { recursive: true });
    return join(home, "rootfs.ext4");
  };
  return {
    dir,
    ids,
    putImage,
    images: new Images(dir, kernel),
    blob: join(dir, "blobs", `${SHA256}.ext4`),
  };
}

async function failureOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => "no failure",
    (error) => error.message,
  );
}

test("a template without an image resolves to null", async () => {
  const { images, ids } = await newStore();

  expect(await images.resolve(ids)).toBeNull();
});

test("a plain file becomes a read-only blob and a relative link to it", async () => {
  const { images, ids, putImage, blob } = await newStore();
  const path = await putImage();
  await writeFile(path, "a file system");

  const image = await images.resolve(ids);

  expect(image).toEqual({ sha256: SHA256, path: blob, sizeBytes: 13 });
  expect(await readlink(path)).toBe(`../../../blobs/${SHA256}.ext4`);
  expect((await stat(blob)).mode & 0o777).toBe(0o444);
  expect(await images.resolve(ids)).toEqual(image);
});

test("two templates of one content share a blob, however many ask", async () => {
  const { dir, images, ids, putImage } = await newStore();
  const other = { teamId: TEAM, templateId: crypto.randomUUID() };
  await writeFile(await putImage(), "a file system");
  await writeFile(await putImage(other.templateId), "a file system");

  const found = await Promise.all([ids, other, ids, other].map((each) => images.resolve(each)));

  expect(new Set(found.map((image) => image?.path)).size).toBe(1);
  expect(await readdir(join(dir, "blobs"))).toEqual([`${SHA256}.ext4`]);
});

/** What may happen to a file while it is read. */
const CHANGES: Readonly<Record<string, (path: string) => Promise<void>>> = {
  "of as many bytes": (path) => writeFile(path, "another image"),
  "of the same time": async (path) => {
    const { atime, mtime } = await stat(path);
    await writeFile(path, "a longer file system");
    await utimes(path, atime, mtime);
  },
};

test.each(Object.keys(CHANGES))("an image that becomes another %s is refused", async (name) => {
  const { dir, ids, putImage } = await newStore();
  const path = await putImage();
  await writeFile(path, "a file system");
  await utimes(path, 1, 1);
  const sha256 = async (file: string) => {
    const sum = await kernel.storage.sha256(file);
    await CHANGES[name]?.(file);
    return sum;
  };
  const images = new Images(dir, { storage: { sha256 } });

  expect(await failureOf(images.resolve(ids))).toContain("changed while it was imported");
  expect((await lstat(path)).isFile()).toBe(true);
  expect(await readdir(dir)).toEqual(["teams"]);
});

// The states that a kill leaves: the blob made but not linked, and the link made aside but not
// renamed.
test("an import that was killed is finished by the next one", async () => {
  const { images, ids, putImage, blob, dir } = await newStore();
  const path = await putImage();
  await writeFile(path, "a file system");
  await mkdir(join(dir, "blobs"));
  await link(path, blob);
  await symlink("nowhere", `${path}.link`);

  const image = await images.resolve(ids);

  expect(image?.path).toBe(blob);
  expect((await lstat(path)).isSymbolicLink()).toBe(true);
  expect(await readdir(join(path, ".."))).toEqual(["rootfs.ext4"]);
});

test("a link that leads elsewhere is refused, one to a missing blob is null", async () => {
  const { images, ids, putImage, dir } = await newStore();
  const path = await putImage();
  await copyFile("/etc/hostname", join(dir, "elsewhere.ext4"));
  await symlink(join(dir, "elsewhere.ext4"), path);
  expect(await failureOf(images.resolve(ids))).toContain("must be a file or a link to blobs/");

  await rm(path);
  await symlink(`../../../blobs/${SHA256}.ext4`, path);
  expect(await images.resolve(ids)).toBeNull();
});

test("a directory in the image's place is refused", async () => {
  const { images, ids, putImage } = await newStore();
  await mkdir(await putImage());

  expect(await failureOf(images.resolve(ids))).toContain("is neither a file nor a link");
});
