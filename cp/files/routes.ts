// Routes of a capsule's files: HTTP only.

import { Elysia, t } from "elysia";
import type { OpenStreams } from "../auth/open-streams.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { beginRevocable, type Revocable, revocationOr } from "../auth/revocable.ts";
import { RUNNING_ERRORS, WRITING_ERRORS } from "../capsules/route-errors.ts";
import { CapsuleParams } from "../capsules/schema.ts";
import type { Capsules } from "../capsules/service.ts";
import { impliedUser } from "../compat.ts";
import { AppError } from "../errors.ts";
import { describedErrors, errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import { FileList, ListRequest, MadeDirectory, PathRequest, toFileEntry } from "./schema.ts";
import { type FilePath, listDirectory, makeDirectory, readFile, removePath } from "./service.ts";
import { writeUpload } from "./upload.ts";

/** Copied for each route, since Elysia writes into it who may ask. */
const UPLOAD_DETAIL = {
  summary: "Write a file of at most 100 MiB, with its parent directories",
  requestBody: {
    required: true,
    content: {
      "multipart/form-data": {
        schema: {
          type: "object" as const,
          required: ["path", "file"],
          properties: {
            path: { type: "string" as const, description: "Best sent first." },
            file: { type: "string" as const, format: "binary" },
          },
        },
      },
    },
  },
};

export interface FileRouteDeps extends AuthDeps {
  readonly capsules: Capsules;
  readonly openStreams: OpenStreams;
}

export function fileRoutes(deps: FileRouteDeps) {
  const { capsules, openStreams } = deps;
  return new Elysia({ prefix: "/capsules", tags: ["capsules"] })
    .use(authPlugin(deps))
    .post(
      "/:id/files/write",
      async ({ caller, params, request, server, set }) => {
        server?.timeout(request, 0);
        const ids = { id: parseId("capsule", params.id, "id"), teamId: caller.teamId };
        using transfer = beginRevocable(openStreams, caller, request);
        const upload = toUpload(request, transfer);
        const writing = capsules.use({ ...ids, isActivity: true }, (running) =>
          writeUpload(running, upload),
        );
        await writing.catch((error) => {
          throw revocationOr(transfer, error);
        });
        set.status = 204;
      },
      {
        team: "write",
        // The body is read as it arrives.
        parse: "none",
        params: CapsuleParams,
        response: { 204: t.Void(), ...errors(...WRITING_ERRORS, "too_large") },
        detail: { ...UPLOAD_DETAIL },
      },
    )
    .post(
      "/:id/files/read",
      async ({ caller, params, body, request, server }) => {
        server?.timeout(request, 0);
        const ids = { id: parseId("capsule", params.id, "id"), teamId: caller.teamId };
        const content = await capsules.use({ ...ids, isActivity: true }, (running) =>
          readFile(
            running,
            toFilePath(body, request),
            beginRevocable(openStreams, caller, request),
          ),
        );
        const headers = { "content-type": "application/octet-stream" };
        return new Response(content, { headers });
      },
      {
        team: "read",
        params: CapsuleParams,
        body: PathRequest,
        response: {
          200: t.Any({ description: "The file's bytes." }),
          ...errors(...RUNNING_ERRORS),
        },
        detail: {
          summary: "Read a file",
          responses: {
            200: {
              description: "The file's bytes.",
              content: {
                "application/octet-stream": { schema: { type: "string", format: "binary" } },
              },
            },
            ...describedErrors(...RUNNING_ERRORS),
          },
        },
      },
    )
    .post(
      "/:id/files/list",
      async ({ caller, params, body, request }) => {
        const ids = { id: parseId("capsule", params.id, "id"), teamId: caller.teamId };
        const entries = await capsules.use({ ...ids, isActivity: true }, (running) =>
          listDirectory(running, { ...toFilePath(body, request), depth: body.depth ?? 1 }),
        );
        return { entries: entries.map(toFileEntry) };
      },
      {
        team: "read",
        params: CapsuleParams,
        body: ListRequest,
        response: { 200: FileList, ...errors(...RUNNING_ERRORS) },
        detail: { summary: "List a directory" },
      },
    )
    .post(
      "/:id/files/mkdir",
      async ({ caller, params, body, request }) => {
        const ids = { id: parseId("capsule", params.id, "id"), teamId: caller.teamId };
        const entry = await capsules.use({ ...ids, isActivity: true }, (running) =>
          makeDirectory(running, toFilePath(body, request)),
        );
        return { entry: toFileEntry(entry) };
      },
      {
        team: "write",
        params: CapsuleParams,
        body: PathRequest,
        response: { 200: MadeDirectory, ...errors(...WRITING_ERRORS, "conflict") },
        detail: { summary: "Make a directory and its parents" },
      },
    )
    .post(
      "/:id/files/remove",
      async ({ caller, params, body, request, set }) => {
        const ids = { id: parseId("capsule", params.id, "id"), teamId: caller.teamId };
        await capsules.use({ ...ids, isActivity: true }, (running) =>
          removePath(running, toFilePath(body, request)),
        );
        set.status = 204;
      },
      {
        team: "write",
        params: CapsuleParams,
        body: PathRequest,
        response: { 204: t.Void(), ...errors(...RUNNING_ERRORS) },
        detail: { summary: "Remove a file or a directory with all in it" },
      },
    );
}

export function toUpload(request: Request, { signal }: Revocable) {
  const { body, headers } = request;
  if (body === null) throw new AppError("invalid_request", "a multipart body is required");
  const declared = headers.get("content-length");
  return {
    contentType: headers.get("content-type") ?? "",
    contentLengthBytes: declared === null ? null : Number(declared),
    body,
    user: impliedUser(request),
    signal,
  };
}

/** Its owner is whoever the request implies. */
export function toFilePath({ path }: { path: string }, request: Request): FilePath {
  return { path, user: impliedUser(request) };
}
