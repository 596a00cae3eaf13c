// Routes of volumes, which the platform does not have yet: clients learn that, instead of an address
// that seems to be wrong.

import { Elysia, t } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { AppError } from "../errors.ts";
import { errors } from "../openapi/error-schema.ts";

const NAME_LENGTH_MAX = 64;
const VolumeParams = t.Object({ name: t.String({ maxLength: NAME_LENGTH_MAX }) });
const response = errors("unauthorized", "forbidden", "not_implemented");
/** A body that is none of ours is refused before. */
const withBody = { ...response, ...errors("invalid_request") };

export function volumeRoutes(deps: AuthDeps) {
  return new Elysia({ prefix: "/v1/volumes", tags: ["volumes"] })
    .use(authPlugin(deps))
    .post("", refuse, {
      team: "write",
      response: withBody,
      detail: { summary: "Create a volume (to come)" },
    })
    .get("", refuse, {
      team: "read",
      response,
      detail: { summary: "List volumes (to come)" },
    })
    .get("/:name", refuse, {
      team: "read",
      params: VolumeParams,
      response,
      detail: { summary: "Get a volume (to come)" },
    })
    .delete("/:name", refuse, {
      team: "write",
      params: VolumeParams,
      response: withBody,
      detail: { summary: "Delete a volume (to come)" },
    });
}

function refuse(): never {
  throw new AppError("not_implemented", "there are no volumes yet");
}
