import { expect, test } from "bun:test";
import { CAPSULE_STATES, SNAPSHOT_SOURCES } from "./capsule-states.ts";
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
  const all = CAPSULE_STATES.flatMap((status) =>
    (status === "snapshotting" ? SNAPSHOT_SOURCES : [null]).map((snapshottedFrom) => ({
      status,
      snapshottedFrom,
    })),
  );
  const old = requestTo("/compat/0.1/v1/capsules");
  const shown = all.map((row) => namedFor(old, row).status);

  expect(shown.filter((status) => !KNOWN_TO_FIRST_CLIENTS.includes(status))).toEqual([]);
  const changed = all.flatMap(({ status }, i) => (status === shown[i] ? [] : [[status, shown[i]]]));
  expect(changed).toEqual([
    ["pausing", "running"],
    ["snapshotting", "running"],
    ["snapshotting", "paused"],
    ["resuming", "starting"],
    ["stopping", "stopped"],
  ]);
  const now = requestTo("/v1/capsules");
  expect(all.map((row) => namedFor(now, row).status)).toEqual(all.map(({ status }) => status));
});
