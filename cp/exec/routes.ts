// Routes of commands and processes: HTTP only.

import { Elysia, t } from "elysia";
import { encodeId } from "../../proto/ids.ts";
import type { OpenStreams } from "../auth/open-streams.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { beginRevocable, revocationOr } from "../auth/revocable.ts";
import { RUNNING_ERRORS } from "../capsules/route-errors.ts";
import { CapsuleParams } from "../capsules/schema.ts";
import type { Capsules } from "../capsules/service.ts";
import { impliedUser } from "../compat.ts";
import { errors } from "../openapi/error-schema.ts";
import { parseId } from "../wire.ts";
import {
  BackgroundAnswer,
  ExecAnswer,
  ExecRequest,
  KillQuery,
  ProcessList,
  ProcessParams,
  parseSelector,
  toCommand,
  toExecAnswer,
  toProcessList,
  toTimeoutSec,
} from "./schema.ts";
import { execBackground, execForeground, killProcess, listProcesses } from "./service.ts";

export interface ExecRouteDeps extends AuthDeps {
  readonly capsules: Capsules;
  readonly openStreams: OpenStreams;
}

export function execRoutes(deps: ExecRouteDeps) {
  const { capsules, openStreams } = deps;
  return new Elysia({ prefix: "/capsules", tags: ["capsules"] })
    .use(authPlugin(deps))
    .post(
      "/:id/exec",
      async ({ caller, params, body, request, server, status }) => {
        const id = parseId("capsule", params.id, "id");
        const ids = { id, teamId: caller.teamId, isActivity: true };
        const command = toCommand(body, impliedUser(request));
        const { cmd, tag } = body;
        if (body.background === true) {
          const started = await capsules.use(ids, (running) =>
            execBackground(running, { ...command, tag }),
          );
          const sandbox_id = encodeId("capsule", id);
          return status(202, { sandbox_id, cmd, pid: started.pid, tag: started.tag });
        }
        // A command may be silent for longer than a connection may be idle.
        server?.timeout(request, 0);
        using revocable = beginRevocable(openStreams, caller, request);
        const { signal } = revocable;
        const timed = { ...command, timeoutSec: toTimeoutSec(body) };
        const ending = capsules.use(ids, (running) => execForeground(running, timed, signal));
        const end = await ending.catch((error) => {
          throw revocationOr(revocable, error);
        });
        return toExecAnswer(id, cmd, end);
      },
      {
        teamCommand: "exec",
        params: CapsuleParams,
        body: ExecRequest,
        response: {
          200: ExecAnswer,
          202: BackgroundAnswer,
          ...errors(...RUNNING_ERRORS, "too_large", "exec_timeout"),
        },
        detail: { summary: "Run a command, to its end or in the background" },
      },
    )
    .get(
      "/:id/processes",
      async ({ caller, params }) => {
        const id = parseId("capsule", params.id, "id");
        const ids = { id, teamId: caller.teamId, isActivity: true };
        return toProcessList(await capsules.use(ids, listProcesses));
      },
      {
        team: "read",
        params: CapsuleParams,
        response: { 200: ProcessList, ...errors(...RUNNING_ERRORS, "too_large") },
        detail: { summary: "List processes that were started through the API" },
      },
    )
    .delete(
      "/:id/processes/:selector",
      async ({ caller, params, query, set }) => {
        const ids = { id: parseId("capsule", params.id, "id"), teamId: caller.teamId };
        const selector = parseSelector(params.selector);
        const target = { selector, signal: query.signal ?? "SIGKILL" };
        await capsules.use({ ...ids, isActivity: true }, (running) => killProcess(running, target));
        set.status = 204;
      },
      {
        team: "exec",
        params: ProcessParams,
        query: KillQuery,
        response: { 204: t.Void(), ...errors(...RUNNING_ERRORS) },
        detail: { summary: "Kill a process, with its process group, by pid or tag" },
      },
    );
}
