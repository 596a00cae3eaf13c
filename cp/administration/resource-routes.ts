// /v1/admin/hosts and /v1/admin/templates: everybody's, and the platform's templates to change. HTTP only.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import type { Hosts } from "../hosts/service.ts";
import { errors } from "../openapi/error-schema.ts";
import {
  AnyTemplateList,
  RenameTemplate,
  SnapshotParams,
  toAnyTemplate,
} from "../snapshots/schema.ts";
import type { Snapshots } from "../snapshots/service.ts";
import { AnyHostList, AnyTemplatePage, PageQuery, toAnyHost, toPage, toPages } from "./schema.ts";
import type { Administration } from "./service.ts";

export interface ResourceRoutesDeps extends AuthDeps {
  readonly administration: Administration;
  readonly hosts: Hosts;
  readonly snapshots: Snapshots;
}

const REFUSALS = ["unauthorized", "forbidden"] as const;
/** Of a list without pages: who has more asks for pages. */
const FIRST_TEMPLATES = { page: 1, perPage: 1000 };

export function anyHostRoutes(deps: ResourceRoutesDeps) {
  const { administration, hosts } = deps;
  return new Elysia({ prefix: "/hosts" }).use(authPlugin(deps)).get(
    "",
    async ({ admin }) => {
      const loads = await administration.hostLoads();
      return (await hosts.list(admin)).map((listed) => toAnyHost(listed, loads));
    },
    {
      admin: true,
      response: { 200: AnyHostList, ...errors(...REFUSALS) },
      detail: { summary: "List all hosts with what their capsules hold, newest first" },
    },
  );
}

export function anyTemplateRoutes(deps: ResourceRoutesDeps) {
  const { snapshots } = deps;
  // Administrators change them as a team does its own.
  const ofPlatform = authPlugin({ ...deps, ofPlatform: true });
  return new Elysia({ prefix: "/templates" })
    .use(ofPlatform)
    .get(
      "",
      async ({ query }) => {
        const page = toPage(query);
        const found = await snapshots.listAny(query.page === undefined ? FIRST_TEMPLATES : page);
        const templates = found.templates.map(toAnyTemplate);
        return query.page === undefined ? templates : { templates, ...toPages(page, found.total) };
      },
      {
        admin: true,
        query: PageQuery,
        response: {
          200: Type.Union([AnyTemplateList, AnyTemplatePage]),
          ...errors(...REFUSALS, "invalid_request"),
        },
        detail: {
          summary: "List the templates of all teams, newest first",
          description:
            "With `page` a page of a hundred, without it an array of the first thousand.",
        },
      },
    )
    .patch(
      "/:name",
      async ({ caller, params, body, set }) => {
        await snapshots.rename(caller, { name: params.name, newName: body.new_name });
        set.status = 204;
      },
      {
        team: "write",
        params: SnapshotParams,
        body: RenameTemplate,
        response: {
          204: Type.Void(),
          ...errors(...REFUSALS, "invalid_request", "not_found", "conflict"),
        },
        detail: {
          summary: "Rename a template of the platform",
          description:
            "Not one that comes with it. Capsules that were started from it go on. 409 has the code " +
            "`name_reserved` or `template_name_taken`.",
        },
      },
    )
    .delete(
      "/:name",
      async ({ caller, params, request, server, set }) => {
        server?.timeout(request, 0);
        await snapshots.delete(caller, params.name);
        set.status = 204;
      },
      {
        team: "write",
        params: SnapshotParams,
        response: { 204: Type.Void(), ...errors(...REFUSALS, "invalid_request", "not_found") },
        detail: {
          summary: "Delete a template of the platform",
          description: "Not one that comes with it. Capsules that were started from it go on.",
        },
      },
    );
}
