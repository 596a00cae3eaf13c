// POST /init: the host tells the guest who it is.
import { EnvdError } from "../errors.ts";
import { writeIdentityFiles } from "../identity.ts";
import type { MessageProgram } from "../message-program.ts";
import { resolvePath } from "../paths.ts";
import type { Cgroups } from "../process/cgroups.ts";
import type { Settings } from "../settings.ts";
import type { Users } from "../users.ts";
import { clockAdvanceNs, renew } from "./renewal.ts";
import { type InitRequest, parseInitRequest } from "./request.ts";

export interface InitDeps {
  readonly settings: Settings;
  readonly users: Users;
  /** Null where the guest has no control groups. */
  readonly cgroups: Cgroups | null;
  /** native/guest/renew.c. */
  readonly renewProgram: MessageProgram;
  readonly runDir: string;
  readonly etcDir: string;
}

/**
 * Applies the body. Once a token is set, the current one is needed, as header or in the body. A body
 * whose time is not after that of the last one is accepted and changes nothing, so that a late or
 * repeated message does no harm: then the last one's time is answered, otherwise null. Nothing is
 * applied when a field is wrong.
 */
export async function init(
  body: unknown,
  headers: Headers,
  deps: InitDeps,
): Promise<bigint | null> {
  const { settings, users } = deps;
  const request = parseInitRequest(body);
  authorize(request, headers, settings);
  const { timestampNs } = request;
  // At once: what follows takes its time, above all where the processor is emulated.
  const advanceNs = clockAdvanceNs(request);
  const { updatedAtNs } = settings;
  if (timestampNs !== undefined && updatedAtNs !== null && timestampNs <= updatedAtNs) {
    // The same message again means that the host has this guest back. An older one may be of a host whose
    // clock was set back: it sends another that counts, before which nothing may run.
    if (timestampNs === updatedAtNs) deps.cgroups?.thaw();
    return updatedAtNs;
  }
  const user = users.byName(request.defaultUser || settings.defaultUser);

  if (request.accessToken !== undefined) settings.token = request.accessToken;
  settings.defaultUser = user.name;
  if (request.defaultWorkdir !== undefined) {
    settings.defaultWorkdir =
      request.defaultWorkdir === "" ? null : resolvePath(request.defaultWorkdir, user, null);
  }
  applyIdentity(request, settings);
  if (request.envVars !== undefined) settings.userVars = request.envVars;
  await renew(
    {
      advanceNs,
      hostname: request.hostname ?? null,
      entropy: request.entropy ?? null,
    },
    { program: deps.renewProgram, etcDir: deps.etcDir },
  );
  writeIdentityFiles(deps.runDir, settings.identity);
  // Last, so that a message which failed half way can come again.
  settings.updatedAtNs = timestampNs ?? settings.updatedAtNs;
  // After the renewal: no program of the user's sees the names, the time or the entropy of before.
  deps.cgroups?.thaw();
  return null;
}

function authorize(request: InitRequest, headers: Headers, settings: Settings): void {
  if (settings.token === null) return;
  const candidates = [headers.get("x-access-token"), request.accessToken ?? null];
  if (candidates.some((candidate) => settings.isToken(candidate))) return;
  throw new EnvdError("unauthenticated", "accessToken: does not match the current one");
}

function applyIdentity(request: InitRequest, settings: Settings): void {
  const { capsuleId, templateId } = request;
  if (capsuleId === undefined && templateId === undefined) return;
  settings.identity = {
    capsuleId: capsuleId ?? settings.identity?.capsuleId ?? "",
    templateId: templateId ?? settings.identity?.templateId ?? "",
  };
}
