import { expect, test } from "bun:test";
import { AgentError } from "../errors.ts";
import { NoSlotError } from "../network/claims.ts";
import { createFailure } from "./create-failure.ts";

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: /var/lib/wrenn/secret/path`), { code });
}

const NO_SPACE = systemError("ENOSPC");

test.each([
  ["no space", NO_SPACE, "resource_exhausted", "The host has no space left"],
  ["no space below", new Error("disk", { cause: NO_SPACE }), "resource_exhausted", "no space"],
  ["no memory", systemError("ENOMEM"), "resource_exhausted", "The host has no memory left"],
  [
    "no slot",
    new Error("make", { cause: new NoSlotError() }),
    "resource_exhausted",
    "no network slot",
  ],
  ["a broken disk", systemError("EIO"), "internal", "The host failed to make the capsule"],
  ["a thrown text", "text", "internal", "The host failed to make the capsule"],
] as const)("%s is told without paths of the host", (_, error, code, message) => {
  const failure = createFailure(error);

  expect(failure).toMatchObject({ code, subject: "host" });
  expect(failure.message).toContain(message);
  expect(failure.message).not.toContain("/");
});

test("an answer that is meant for the caller stays as it is", () => {
  const error = new AgentError("aborted", "gone", { subject: "capsule" });

  expect(createFailure(error)).toBe(error);
});
