import { expect, test } from "bun:test";
import { Failpoints } from "./failpoints.ts";

test("without a setting nothing happens at any point", () => {
  new Failpoints(null).reach("create.after-disk");
});

test("only the point that is named fails", () => {
  const failpoints = new Failpoints("create.after-disk:fail");
  failpoints.reach("create.after-vmm");

  expect(() => failpoints.reach("create.after-disk")).toThrow("Failpoint create.after-disk");
});

test.each(["create.after-lunch:kill", "create.after-disk:panic", "create.after-disk"])(
  "%s is refused at the start",
  (setting) => {
    expect(() => new Failpoints(setting)).toThrow("no such point or action");
  },
);
