// Routes of files of any size: HTTP only. What is sent goes on as it comes, and no faster than the
// other side takes it.

import { Elysia, t } from "elysia";
import { authPlugin } from "../auth/plugin.ts";
import { beginRevocable, revocationOr } from "../auth/revocable.ts";
import { RUNNING_ERRORS, WRITING_ERRORS } from "../capsules/route-errors.ts";
import { describedErrors, errors } from "../openapi/error-schema.ts";
import { CapsuleParams } from "../streams/schema.ts";
import { parseId } from "../wire.ts";
import { type FileRouteDeps, toFilePath, toUpload } from "./routes.ts";
import { PathRequest } from "./schema.ts";
import { readFile } from "./service.ts";
import { writeStreamedUpload } from "./upload.ts";

const BYTES = { type: "string" as const, format: "binary" };

/** Copied for each route, since Elysia writes into it who may ask. */
const UPLOAD_DETAIL = {
  summary: "Write a file of any size, with its parent directories",
  requestBody: {
    required: true,
    content: {
      "multipart/form-data": {
        schema: {
          type: "object" as const,
          required: ["path", "file"],
          properties: {
            path: { type: "string" as const, description: "Must be sent before `file`." },
            file: BYTES,
          },
        },
      },
    },
  },
};

const DOWNLOAD_DETAIL = {
  summary: "Read a file of any size",
  description: "A download that fails halfway ends with a broken connection, never as if complete.",
  responses: {
    200: {
      description: "The file's bytes.",
      content: { "application/octet-stream": { schema: BYTES } },
    },
    ...describedErrors(...RUNNING_ERRORS),
  },
};

export function fileStreamRoutes(deps: FileRouteDeps) {
  const { capsules, openStreams } = deps;
  return new Elysia({ prefix: "/capsules", tags: ["streams"] })
    .use(authPlugin(deps))
    .post(
      "/:id/files/stream/write",
      async ({ caller, params, request, server, set }) => {
        server?.timeout(request, 0);
        const id = parseId("capsule", params.id, "id");
        using transfer = beginRevocable(openStreams, caller, request);
        const upload = toUpload(request, transfer);
        const ids = { id, teamId: caller.teamId, isActivity: true };
        const writing = capsules.use(ids, (running) => writeStreamedUpload(running, upload));
        await writing.catch((error) => {
          throw revocationOr(transfer, error);
        });
        set.status = 204;
      },
      {
        team: "write",
        parse: "none",
        params: CapsuleParams,
        response: { 204: t.Void(), ...errors(...WRITING_ERRORS, "too_large") },
        detail: { ...UPLOAD_DETAIL },
      },
    )
    .post(
      "/:id/files/stream/read",
      async ({ caller, params, body, request, server }) => {
        server?.timeout(request, 0);
        const id = parseId("capsule", params.id, "id");
        const ids = { id, teamId: caller.teamId, isActivity: true };
        const content = await capsules.use(ids, (running) =>
          readFile(
            running,
            toFilePath(body, request),
            beginRevocable(openStreams, caller, request),
          ),
        );
        return new Response(content, { headers: { "content-type": "application/octet-stream" } });
      },
      {
        team: "read",
        params: CapsuleParams,
        body: PathRequest,
        response: {
          200: t.Any({ description: "The file's bytes." }),
          ...errors(...RUNNING_ERRORS),
        },
        detail: { ...DOWNLOAD_DETAIL },
      },
    );
}
