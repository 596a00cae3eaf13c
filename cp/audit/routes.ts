// GET /v1/audit-logs: HTTP only.

import { Elysia, t } from "elysia";
import type { MemberCaller } from "../auth/authenticator.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { describedErrors, errors } from "../openapi/error-schema.ts";
import type { AuditRow } from "./entry.ts";
import {
  AuditLogs,
  AuditQuery,
  ExportQuery,
  toAuditLog,
  toAuditLogs,
  toPageRequest,
  toWhich,
} from "./schema.ts";
import { type Audit, filterOf } from "./service.ts";

export interface AuditRoutesDeps extends AuthDeps {
  readonly audit: Audit;
}

const HEADERS = {
  "content-type": "application/x-ndjson",
  "content-disposition": 'attachment; filename="audit-logs.ndjson"',
  "cache-control": "no-store",
};

const EXPORT_DETAIL = {
  summary: "Export your team's audit log, one entry a line, oldest first",
  description:
    "It comes as fast as it is taken, up to what there was when it was asked for. One that fails halfway ends with " +
    "a broken connection, never as if complete.",
  responses: {
    200: {
      description: "One JSON object a line, as the items of the list.",
      content: { "application/x-ndjson": { schema: { type: "string" as const } } },
    },
    ...describedErrors("invalid_request", "rate_limited"),
  },
};

export function auditRoutes(deps: AuditRoutesDeps) {
  const { audit } = deps;
  return new Elysia({ prefix: "/v1/audit-logs", tags: ["audit"] })
    .use(authPlugin(deps))
    .get(
      "",
      async ({ member, query, request }) => {
        const question = filterOf(member, toWhich(request.url));
        const page = await audit.list(question, toPageRequest(query));
        return toAuditLogs(page, viewerOf(member));
      },
      {
        member: true,
        query: AuditQuery,
        response: { 200: AuditLogs, ...errors("invalid_request", "unauthorized", "forbidden") },
        detail: {
          summary: "List who changed what in your team, newest first",
          description:
            "The next page is asked for by `next_before` and `next_before_id` together: no entry is met twice or " +
            "left out, whatever is written meanwhile. Plain members see what is not of `scope` `admin`.",
        },
      },
    )
    .get(
      "/export",
      async ({ member, request, server }) => {
        server?.timeout(request, 0);
        const question = filterOf(member, toWhich(request.url));
        const batches = audit.export(question, member);
        // What it is refused with is answered as an error.
        const first = await batches.next();
        return new Response(inLines(first, batches, member), { headers: HEADERS });
      },
      {
        member: true,
        query: ExportQuery,
        response: {
          200: t.Any({ description: "One JSON object a line." }),
          ...errors("invalid_request", "unauthorized", "forbidden", "rate_limited"),
        },
        detail: EXPORT_DETAIL,
      },
    );
}

/** A batch is read when the client has taken the one before. */
function inLines(
  first: IteratorResult<AuditRow[], void>,
  batches: AsyncGenerator<AuditRow[], void>,
  member: MemberCaller,
): ReadableStream<Uint8Array> {
  const viewer = viewerOf(member);
  let next: IteratorResult<AuditRow[], void> | null = first;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const batch = next ?? (await batches.next());
        next = null;
        if (batch.done === true) {
          controller.close();
          return;
        }
        const lines = batch.value.map((row) => `${JSON.stringify(toAuditLog(row, viewer))}\n`);
        controller.enqueue(new TextEncoder().encode(lines.join("")));
      },
      async cancel() {
        await batches.return();
      },
    },
    { highWaterMark: 0 },
  );
}

function viewerOf({ role }: MemberCaller): { isManager: boolean } {
  return { isManager: role !== "member" };
}
