import { expect, test } from "bun:test";
import { createLog } from "./log.ts";

function capture(level: "debug" | "info" | "warn" | "error") {
  const lines: string[] = [];
  return { log: createLog(level, (line) => lines.push(line)), lines };
}

test("a line is one JSON object whatever a peer put into its fields", () => {
  const { log, lines } = capture("info");

  log.info("request", { path: '/a"b\n{"level":"error"}' });
  expect(lines).toHaveLength(1);
  expect(lines[0]).not.toContain("\n");
  expect<unknown>(JSON.parse(lines[0] ?? "")).toEqual({
    time: expect.stringMatching(/^\d{4}-.*Z$/),
    level: "info",
    message: "request",
    path: '/a"b\n{"level":"error"}',
  });
});

test("lines below the level are not written", () => {
  const { log, lines } = capture("warn");

  log.debug("a");
  log.info("b");
  log.warn("c");
  log.error("d");
  expect(lines.map((line) => JSON.parse(line).message)).toEqual(["c", "d"]);
});

test("an error is written with its causes, within a bound", () => {
  const { log, lines } = capture("info");
  const looped = new Error("outer", { cause: new Error("inner") });
  if (looped.cause instanceof Error) looped.cause.cause = looped;

  log.error("failed", { error: looped });
  log.error("failed", { error: new Error("x".repeat(100_000)) });
  log.error("failed", { error: "text" });

  const [first, second, third] = lines.map((line) => String(JSON.parse(line).error));
  expect(first).toContain("Error: outer");
  expect(first).toContain("caused by: Error: inner");
  expect(second?.length).toBe(4096);
  expect(third).toBe("text");
});

test("the parameters of a failed query are not written", () => {
  const { log, lines } = capture("info");
  const error = Object.assign(new Error("Failed query: select $1\nparams: secret,\nmore"), {
    query: "select $1",
    params: ["secret"],
  });

  log.error("failed", { error: new Error("outer", { cause: error }) });
  expect(lines[0]).toContain("Failed query: select $1");
  expect(lines[0]).not.toContain("secret");
});
