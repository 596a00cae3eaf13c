// How the agent gets its credentials at start.

import { reachFailure } from "../../proto/address-failure.ts";
import { type ControlPlane, Refused } from "./control-plane.ts";
import { type HostCredentials, makeKey, OwnCredentials } from "./host-credentials.ts";
import { type HostSpecs, readHostSpecs } from "./host-specs.ts";

/**
 * Registers if there is a token, and loads what an earlier registration saved otherwise: also if that was with this
 * token, which stays in a file of settings and is good once. With a certificate in any case. Throws if neither works;
 * a token that others used up needs a fresh one from the control plane.
 */
export async function obtainCredentials(options: {
  controlPlane: ControlPlane;
  dir: string;
  address: string;
  token: string | null;
}): Promise<OwnCredentials> {
  const { controlPlane, dir, address, token } = options;
  const saved = await OwnCredentials.load(dir).catch((error) => {
    if (token === null) throw error;
    return null;
  });
  if (saved !== null && (token === null || saved.cameFrom(token))) {
    if (!saved.hasCertificate) await renewNow(saved, controlPlane);
    return saved;
  }
  if (token === null) {
    throw new Error(
      "The host is not registered; start the agent once with WRENN_REGISTRATION_TOKEN",
    );
  }
  const specs = await readHostSpecs(dir);
  const credentials = await register(controlPlane, { token, ...specs, address });
  return await OwnCredentials.save(dir, credentials, token);
}

/** Of an agent of the time before certificates. Throws a sentence. */
async function renewNow(saved: OwnCredentials, controlPlane: ControlPlane): Promise<void> {
  await saved.renew(controlPlane).catch((cause) => {
    const reason = cause instanceof Refused ? cause.reason : reachFailure(cause);
    throw new Error(`WRENN_CP_URL: ${controlPlane.host}: no certificate was given (${reason})`, {
      cause,
    });
  });
}

/** Throws a sentence that names the setting which may be wrong. */
async function register(
  controlPlane: ControlPlane,
  { token, ...host }: HostSpecs & { token: string; address: string },
): Promise<HostCredentials> {
  const { keyPem, requestPem: csr } = await makeKey();
  try {
    return { ...(await controlPlane.register(token, { ...host, csr })), key_pem: keyPem };
  } catch (cause) {
    if (cause instanceof Refused && (cause.status === 400 || cause.status === 401)) {
      const advice = "POST /v1/hosts makes another";
      throw new Error(`WRENN_REGISTRATION_TOKEN: refused (${cause.reason}); ${advice}`, { cause });
    }
    const reason = reachFailure(cause) ?? "what answers there is no control plane";
    throw new Error(`WRENN_CP_URL: ${controlPlane.host}: ${reason}`, { cause });
  }
}
