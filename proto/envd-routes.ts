// Which routes of envd the world may reach through the proxies.

/** The port of envd in every guest. */
export const ENVD_PORT = 49983;

/**
 * Header of an error that names it more closely than its status: full is one thing to Connect, a file
 * that is too large, a disk and a bound.
 */
export const ENVD_ERROR_HEADER = "x-envd-error";

/**
 * Header of a request that, with the value `user`, may do to files what its user may; without it the user
 * only says whose home paths start at and who owns what is made, as clients of E2B know it.
 */
export const ENVD_RIGHTS_HEADER = "x-envd-rights";

/** For the agent only: whoever has a capsule's token must still not renew, freeze or replace its envd. */
const CONTROL_ROUTES = new Set([
  "init",
  "freeze",
  "unfreeze",
  "collapse",
  "fsfreeze",
  "fsthaw",
  "upgrade",
]);

/** Plain segments only: what one side could decode or normalise differently is nobody's route. */
const PLAIN_PATH = /^(\/[A-Za-z0-9_.-]*)+$/;

/** Whether a request target (path and query) may reach envd from outside. */
export function isPublicEnvdRoute(target: string): boolean {
  const [path = ""] = target.split("?", 1);
  if (!PLAIN_PATH.test(path)) return false;
  const segments = path.split("/").filter((segment) => segment !== "");
  if (segments.some((segment) => segment === "." || segment === "..")) return false;
  return !CONTROL_ROUTES.has((segments[0] ?? "").toLowerCase());
}
