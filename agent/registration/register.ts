// How the agent gets its credentials at start.

import { reachFailure } from "../../proto/address-failure.ts";
import { type ControlPlane, Refused } from "./control-plane.ts";
import {
  type HostCredentials,
  isUsedToken,
  loadCredentials,
  noteUsedToken,
  saveCredentials,
} from "./host-credentials.ts";
import { type HostSpecs, readHostSpecs } from "./host-specs.ts";

/**
 * Registers if there is a token, and loads what an earlier registration saved otherwise: also if that was with this
 * token, which stays in a file of settings and is good once. Throws if neither works; a token that others used up
 * needs a fresh one from the control plane.
 */
export async function obtainCredentials(options: {
  controlPlane: ControlPlane;
  dir: string;
  address: string;
  token: string | null;
}): Promise<HostCredentials> {
  const { controlPlane, dir, address, token } = options;
  if (token === null || (await isUsedToken(dir, token))) {
    const saved = await loadCredentials(dir);
    if (saved) return saved;
  }
  if (token === null) {
    throw new Error(
      "The host is not registered; start the agent once with WRENN_REGISTRATION_TOKEN",
    );
  }
  const specs = await readHostSpecs(dir);
  const credentials = await register(controlPlane, { token, ...specs, address });
  await saveCredentials(dir, credentials);
  await noteUsedToken(dir, token);
  return credentials;
}

/** Throws a sentence that names the setting which may be wrong. */
async function register(
  controlPlane: ControlPlane,
  { token, ...host }: HostSpecs & { token: string; address: string },
): Promise<HostCredentials> {
  try {
    return await controlPlane.register(token, host);
  } catch (cause) {
    if (cause instanceof Refused && (cause.status === 400 || cause.status === 401)) {
      const advice = "POST /v1/hosts makes another";
      throw new Error(`WRENN_REGISTRATION_TOKEN: refused (${cause.reason}); ${advice}`, { cause });
    }
    const reason = reachFailure(cause) ?? "what answers there is no control plane";
    throw new Error(`WRENN_CP_URL: ${controlPlane.host}: ${reason}`, { cause });
  }
}
