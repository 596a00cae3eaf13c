// Signed URLs of /files, and who may use the route.
import { EnvdError } from "../errors.ts";
import { equalText, type Settings } from "../settings.ts";

const SECONDS = /^[0-9]{1,15}$/;

export type Operation = "read" | "write";

/**
 * Lets a request pass that carries the access token or a signature made with it; everything passes
 * while no token is set. The messages are part of the contract.
 */
export function authorizeFiles(options: {
  headers: Headers;
  query: URLSearchParams;
  operation: Operation;
  settings: Settings;
}): void {
  const { headers, query, operation, settings } = options;
  if (settings.token === null) return;

  const presented = headers.get("x-access-token");
  if (presented !== null) {
    if (settings.isToken(presented)) return;
    throw new EnvdError("unauthenticated", "access token present in header but does not match");
  }

  const signature = query.get("signature");
  if (signature === null) {
    throw new EnvdError("unauthenticated", "missing signature query parameter");
  }
  const expiration = query.get("signature_expiration");
  if (expiration !== null && !SECONDS.test(expiration)) {
    throw new EnvdError("invalid_argument", "signature_expiration: must be seconds since 1970");
  }
  const expected = signatureOf({
    path: query.get("path") ?? "",
    operation,
    user: query.get("username") ?? "",
    token: settings.token,
    expiration,
  });
  if (!equalText(signature, expected)) {
    throw new EnvdError("unauthenticated", "invalid signature");
  }
  if (expiration !== null && Number(expiration) < Math.floor(Date.now() / 1000)) {
    throw new EnvdError("unauthenticated", "signature is already expired");
  }
}

/** `v1_` and the unpadded base64 of the SHA-256 over the parts joined by colons. */
export function signatureOf(parts: {
  path: string;
  operation: Operation;
  user: string;
  token: string;
  expiration: string | null;
}): string {
  const { path, operation, user, token, expiration } = parts;
  const text = [path, operation, user, token, ...(expiration === null ? [] : [expiration])];
  const digest = new Bun.CryptoHasher("sha256").update(text.join(":")).digest("base64");
  return `v1_${digest.replace(/=+$/, "")}`;
}
