import { expect, test } from "bun:test";
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
