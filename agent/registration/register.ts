// How the agent gets its credentials at start.

import type { ControlPlane } from "./control-plane.ts";
import { type HostCredentials, loadCredentials, saveCredentials } from "./host-credentials.ts";
import { readHostSpecs } from "./host-specs.ts";

/**
 * Registers if there is a token, and loads what an earlier registration saved otherwise. Throws if
 * neither works; a token that was used up needs a fresh one from the control plane.
 */
export async function obtainCredentials(options: {
  controlPlane: ControlPlane;
  dir: string;
  address: string;
  token: string | null;
}): Promise<HostCredentials> {
  const { controlPlane, dir, address, token } = options;
  if (token === null) {
    const saved = await loadCredentials(dir);
    if (saved) return saved;
    throw new Error(
      "The host is not registered; start the agent once with WRENN_REGISTRATION_TOKEN",
    );
  }
  const specs = await readHostSpecs(dir);
  const credentials = await controlPlane.register(token, { ...specs, address });
  await saveCredentials(dir, credentials);
  return credentials;
}
