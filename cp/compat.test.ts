import { expect, test } from "bun:test";
import { CAPSULE_STATES } from "./capsule-states.ts";
import { namedFor, stripCompatBase } from "./compat.ts";

function requestTo(path: string): Request {
  const request = new Request(`http://wrenn.test${path}`);
  stripCompatBase(request, request.url);
  return request;
}

// They fail on the whole answer when they meet any other.
const KNOWN_TO_FIRST_CLIENTS = [
  ...["pending", "starting", "running", "paused", "hibernated", "stopped", "missing", "error"],
];

test("the first clients meet no state that they do not know, and the others every one", () => {
  const old = requestTo("/compat/0.1/v1/capsules");
  const shown = CAPSULE_STATES.map((status) => namedFor(old, { status }).status);

  expect(shown.filter((status) => !KNOWN_TO_FIRST_CLIENTS.includes(status))).toEqual([]);
  const changed = CAPSULE_STATES.filter((status, i) => status !== shown[i]);
  expect(changed).toEqual(["pausing", "resuming", "stopping"]);
  const now = requestTo("/v1/capsules");
  expect(CAPSULE_STATES.map((status) => namedFor(now, { status }).status)).toEqual([
    ...CAPSULE_STATES,
  ]);
});
