import { expect, test } from "bun:test";
import { isOutage } from "./outage.ts";

const withCode = (code: string) => Object.assign(new Error("failed"), { code });

test.each([
  "ECONNREFUSED",
  "CONNECT_TIMEOUT",
  "CONNECTION_CLOSED",
  "57P01",
  "57P03",
  "53300",
  "08006",
])("%s is an outage, also as the cause of another error", (code) => {
  expect(isOutage(withCode(code))).toBe(true);
  expect(isOutage(new Error("query failed", { cause: withCode(code) }))).toBe(true);
});

// What becomes of each as an answer: cp/db/failures.db.test.ts.
test.each([
  "Connection is closed.",
  "Command timed out",
  "Reached the max retries per request limit",
])("Redis' %p is an outage", (message) => {
  expect(isOutage(new Error(message))).toBe(true);
});

test.each([
  ["a bug", new Error("bug")],
  ["a duplicate", withCode("23505")],
  ["a missing table", withCode("42P01")],
  ["text", "text"],
  ["nothing", undefined],
])("%s is none", (_name, error) => {
  expect(isOutage(error)).toBe(false);
});

test("a loop of causes ends", () => {
  const error = new Error("a");
  error.cause = error;

  expect(isOutage(error)).toBe(false);
});
