// What answers have in common, which routes don't say each: the refusals of guards and of bodies, and headers.
// Each is described here once, and told of the answers that it concerns by what makes them so.

import { AppError, type ErrorCode, HTTP_STATUS } from "../errors.ts";
import { REQUEST_ID_HEADER } from "../request-id.ts";
import { describedError } from "./error-schema.ts";
import { isObject, type JsonObject, objectsIn } from "./json.ts";

const COMPONENTS = {
  RequestId: {
    description: "Names the request, in errors and in the log; the client's own if it sent one.",
    schema: { type: "string" },
  },
  RetryAfter: {
    description: "In how many seconds the same request may succeed, where that is known.",
    schema: { type: "integer", minimum: 1 },
  },
  Location: {
    description: "Where the capsule is, whose state says how far the work is.",
    schema: { type: "string" },
  },
  Page: {
    description: "Where the browser goes now.",
    schema: { type: "string" },
  },
  PreferenceApplied: {
    description: "What of the request's `Prefer` was followed (RFC 7240).",
    schema: { type: "string" },
  },
} as const;

/** Any route may fail with a status that it does not list. */
const ANY_FAILURE = "default";
const RETRY_STATUSES: ReadonlySet<string> = new Set([
  ANY_FAILURE,
  ...(Object.keys(HTTP_STATUS) as ErrorCode[])
    .filter((code) => new AppError(code, "").retryAfterSec !== undefined)
    .map((code) => String(HTTP_STATUS[code])),
]);

/** Adds that to a document that has paths. */
export function describeCommon(document: JsonObject): JsonObject {
  const described = structuredClone(document);
  for (const operations of objectsIn(described.paths)) {
    for (const [method, operation] of Object.entries(operations)) {
      if (isObject(operation)) describeOperation(method, operation);
    }
  }
  const components = isObject(described.components) ? described.components : {};
  return { ...described, components: { ...components, headers: structuredClone(COMPONENTS) } };
}

function describeOperation(method: string, operation: JsonObject): void {
  const { responses } = operation;
  if (!isObject(responses)) return;
  for (const status of refusalsOf(method, operation)) {
    const [, refusal] = describedError(status);
    responses[status] ??= structuredClone(refusal);
  }
  const isHeld = takesPrefer(operation);
  for (const [status, response] of Object.entries(responses)) {
    if (isObject(response)) response.headers = headersOf(status, isHeld);
  }
}

/** Before the route itself is asked. */
function refusalsOf(method: string, { security }: JsonObject): number[] {
  const guards = Array.isArray(security) ? security.filter(isObject) : [];
  const isForPeople = guards.some((guard) => "apiKey" in guard || "bearer" in guard);
  return [
    ...(guards.length > 0 ? [HTTP_STATUS.unauthorized] : []),
    ...(isForPeople ? [HTTP_STATUS.forbidden] : []),
    // Whoever may send a body may send too large a one, also where none is expected.
    ...(method === "get" ? [] : [HTTP_STATUS.too_large]),
  ];
}

/** Of a route whose work may go on behind its answer. */
function takesPrefer({ parameters }: JsonObject): boolean {
  if (!Array.isArray(parameters)) return false;
  return parameters.some((one) => isObject(one) && one.in === "header" && one.name === "prefer");
}

function headersOf(status: string, isHeld: boolean): JsonObject {
  const headers: JsonObject = { [REQUEST_ID_HEADER]: reference("RequestId") };
  if (RETRY_STATUSES.has(status)) headers["Retry-After"] = reference("RetryAfter");
  if (status === "302") headers.Location = reference("Page");
  if (!isHeld || !status.startsWith("2")) return headers;
  headers["Preference-Applied"] = reference("PreferenceApplied");
  if (status === "202") headers.Location = reference("Location");
  return headers;
}

function reference(name: keyof typeof COMPONENTS): JsonObject {
  return { $ref: `#/components/headers/${name}` };
}
