// Requests below `/compat/0.1`, where the first clients find the API as they know it: told apart at the edge,
// for the few routes whose answers they could not read.

import { besidesSnapshots, type CapsuleState, type SnapshotSource } from "./capsule-states.ts";

const BASE = /^(https?:\/\/[^/]+)\/compat\/0\.1(?=\/|\?|$)/;

/** What the first clients are told of states that they fail on: where those end or began. `snapshotting` is besides. */
const OLD_NAMES: Readonly<Partial<Record<CapsuleState, CapsuleState>>> = {
  pausing: "running",
  resuming: "starting",
  stopping: "stopped",
};

const requests = new WeakSet<Request>();

/** The address without the base path; the request is remembered if it had one. */
export function stripCompatBase(request: Request, url: string): string {
  if (!BASE.test(url)) return url;
  requests.add(request);
  return url.replace(BASE, "$1");
}

/** Whose commands and files are meant where the request names nobody; empty: the capsule's default user. */
export function impliedUser(request: Request): string {
  return isCompat(request) ? "root" : "";
}

/** The capsule, its state named as whoever sent the request knows it. */
export function namedFor<
  Row extends { status: CapsuleState; snapshottedFrom: SnapshotSource | null },
>(request: Request, capsule: Row): Row {
  if (!isCompat(request)) return capsule;
  const status = besidesSnapshots(capsule);
  return { ...capsule, status: OLD_NAMES[status] ?? status };
}

/** Whether the request came below `/compat/0.1`. */
export function isCompat(request: Request): boolean {
  return requests.has(request);
}
