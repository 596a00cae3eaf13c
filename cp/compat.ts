// Requests below `/compat/0.1`, where the first clients find the API as they know it: told apart at the edge,
// for the few routes whose answers they could not read.

const BASE = /^(https?:\/\/[^/]+)\/compat\/0\.1(?=\/|\?|$)/;

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

/** Whether the request came below `/compat/0.1`. */
export function isCompat(request: Request): boolean {
  return requests.has(request);
}
