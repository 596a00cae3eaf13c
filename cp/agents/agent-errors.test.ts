import { expect, test } from "bun:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { type AgentCall, agentFailure } from "./agent-errors.ts";

/** What a user meets: what the agent says, about what, during which call. */
const TABLE: readonly (readonly [
  what: string,
  said: readonly [code: Code, about: string, call: AgentCall],
  met: readonly [status: number, reason: string, isRetryable: boolean],
])[] = [
  [
    "work in a capsule whose VMM was lost",
    [Code.FailedPrecondition, "capsule", "capsule"],
    [409, "sandbox_not_running", false],
  ],
  [
    "a pause, snapshot or fork of a capsule whose VMM was lost",
    [Code.FailedPrecondition, "capsule", "placement"],
    [409, "sandbox_not_running", false],
  ],
  [
    "a resume whose VMM was lost: it is paused as before",
    [Code.Unavailable, "guest", "placement"],
    [502, "sandbox_unresponsive", true],
  ],
  [
    "a create whose VMM was lost",
    [Code.Unavailable, "guest", "create"],
    [502, "sandbox_unresponsive", true],
  ],
  [
    "work in a capsule that stands still, since its host's disk is full",
    [Code.ResourceExhausted, "host", "capsule"],
    [503, "capacity_unavailable", true],
  ],
  [
    "what needs room on a host whose disk is full",
    [Code.ResourceExhausted, "host", "placement"],
    [503, "capacity_unavailable", true],
  ],
];

test.each(TABLE)("%s", (_what, [code, about, call], met) => {
  const error = new ConnectError("said", code, { "wrenn-reason": about });

  const failure = agentFailure(error, call);

  const { reason, retryable } = failure.toBody().error;
  expect([failure.status, reason, retryable]).toEqual([...met]);
});
