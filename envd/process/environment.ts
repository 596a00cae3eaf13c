// Which user, directory and variables a process starts with.
import { statSync } from "node:fs";
import { EnvdError, errnoOf } from "../errors.ts";
import { systemName } from "../file-names.ts";
import { resolvePath } from "../paths.ts";
import type { Settings } from "../settings.ts";
import type { User, Users } from "../users.ts";

/** The user that the caller asked for by Basic authorization, or else the default one. */
export function requestedUser(headers: Headers, users: Users, settings: Settings): User {
  const authorization = headers.get("authorization");
  const encoded = authorization?.match(/^Basic\s+([A-Za-z0-9+/=_-]+)$/i)?.[1];
  if (encoded === undefined) return users.byName(settings.defaultUser);
  const [name = ""] = Buffer.from(encoded, "base64").toString("utf8").split(":", 1);
  return users.byName(name === "" ? settings.defaultUser : name);
}

/**
 * The directory to start in: the requested one, else the default working directory, else the home.
 * invalid_argument when it is missing or no directory.
 */
export function startDirectory(
  requested: string | undefined,
  user: User,
  settings: Settings,
): string {
  const cwd = resolvePath(requested ?? "", user, settings.defaultWorkdir);
  if (!isDirectory(cwd)) {
    throw new EnvdError("invalid_argument", `cwd '${cwd}' does not exist`);
  }
  return cwd;
}

function isDirectory(path: string): boolean {
  try {
    return statSync(systemName(path), { throwIfNoEntry: false })?.isDirectory() ?? false;
  } catch (error) {
    if (errnoOf(error) !== null) return false;
    throw error;
  }
}

/** `NAME=value` for each variable; later sources win: user, /init, request. */
export function startVariables(options: {
  path: string;
  user: User;
  settings: Settings;
  requested: Readonly<Record<string, string>>;
}): string[] {
  const { path, user, settings, requested } = options;
  const variables: Record<string, string> = {
    PATH: path,
    HOME: user.home,
    USER: user.name,
    LOGNAME: user.name,
    // Without a locale an editor takes each byte of a character for one.
    LANG: "C.UTF-8",
    ...settings.envVars,
    ...requested,
  };
  return Object.entries(variables).map(([name, value]) => `${name}=${value}`);
}
