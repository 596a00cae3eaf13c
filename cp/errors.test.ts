import { expect, test } from "bun:test";
import { AppError, HTTP_STATUS, REASONS } from "./errors.ts";

test("an error tells code, reason, message, whether to try again, and its request", () => {
  const error = new AppError("no_hosts_available", "no host is online");

  expect(error.toBody("req_0123456789abcdef")).toEqual({
    error: {
      code: "no_hosts_available",
      reason: "capacity_unavailable",
      message: "no host is online",
      retryable: true,
      request_id: "req_0123456789abcdef",
    },
  });
});

test("the field that a message begins with is told to programs, too", () => {
  const { error } = new AppError("invalid_request", "envs.PATH: must be a string").toBody();

  expect(error).toMatchObject({ reason: "validation_failed", details: { field: "envs.PATH" } });
  const directory = new AppError("invalid_request", "path '/etc' is a directory").toBody();
  expect(directory.error.details).toEqual({ field: "path" });
  expect(new AppError("invalid_request", "invalid JSON body").toBody().error.details).toBe(
    undefined,
  );
});

test("details are where older clients look as well; what was achieved is there alone", () => {
  const details = { status: "paused" };
  const partial = { stdout: "half", code: "forged" };
  const options = { reason: "sandbox_not_running", details, partial } as const;

  expect(new AppError("invalid_state", "it is paused", options).toBody().error).toEqual({
    ...{ code: "invalid_state", reason: "sandbox_not_running", message: "it is paused" },
    ...{ retryable: false, stdout: "half", status: "paused", details },
  });
});

test("a command past its time is not to be tried again by itself", () => {
  expect(new AppError("exec_timeout", "killed").toBody().error.retryable).toBe(false);
});

test.each(Object.keys(HTTP_STATUS) as (keyof typeof HTTP_STATUS)[])(
  "the reason of %s is one of its own, or the code itself",
  (code) => {
    const { reason } = new AppError(code, "");
    const known: Readonly<Record<string, string | readonly string[]>> = REASONS;

    expect(reason === code ? code : [known[reason]].flat()).toContain(code);
  },
);
