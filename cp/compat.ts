// Requests below `/compat/0.1`, where the first clients find the API as they know it: told apart at the edge,
// for the few routes whose answers they could not read.

import type { CapsuleState } from "./capsule-states.ts";

const BASE = /^(https?:\/\/[^/]+)\/compat\/0\.1(?=\/|\?|$)/;

/** What the first clients are told of states that they fail on: where those end or began. */
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
export function namedFor<Shown extends { status: CapsuleState }>(
  request: Request,
  capsule: Shown,
): Shown {
  const old = isCompat(request) ? OLD_NAMES[capsule.status] : undefined;
  return old === undefined ? capsule : { ...capsule, status: old };
}

/** Whether the request came below `/compat/0.1`. */
export function isCompat(request: Request): boolean {
  return requests.has(request);
}
