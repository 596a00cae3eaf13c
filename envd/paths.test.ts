import { expect, test } from "bun:test";
import { PATH_BYTES_MAX } from "../proto/hostagent/bounds.ts";
import { resolvePath } from "./paths.ts";

const user = { name: "ada", uid: 1, gid: 1, home: "/home/ada", groups: [1] };

test("paths mean what a shell in the user's home would take them for", () => {
  const resolve = (path: string) => resolvePath(path, user, "/work");

  expect(["", "~", "~/a", "a/../b", "/x//y/", "/../etc", "."].map(resolve)).toEqual([
    "/work",
    "/home/ada",
    "/home/ada/a",
    "/home/ada/b",
    "/x/y",
    "/etc",
    "/home/ada",
  ]);
  expect(resolvePath("", user, null)).toBe("/home/ada");
});

test("paths that no kernel takes are refused", () => {
  for (const path of ["~bob/x", "a\0b", `/${"a/".repeat(2100)}`]) {
    expect(() => resolvePath(path, user, null)).toThrow("path");
  }
});

test("a path has as many bytes as the kernel takes, and no more", () => {
  const path = (bytes: number) => `/${"ü/".repeat(1364)}${"a".repeat(bytes - 4093)}`;

  expect(Buffer.byteLength(resolvePath(path(PATH_BYTES_MAX), user, null))).toBe(PATH_BYTES_MAX);
  expect(() => resolvePath(path(PATH_BYTES_MAX + 1), user, null)).toThrow("is longer than");
});
