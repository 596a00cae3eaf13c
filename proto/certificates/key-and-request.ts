// A key pair that never leaves its program's machine, and the request to certify it (RFC 2986).

import { loadX509 } from "./x509.ts";

/** ECDSA with P-256: what TLS stacks agree on, and small. */
export const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

export interface KeyAndRequest {
  /** PKCS #8 in PEM; whoever keeps it lets nobody else read it. */
  readonly keyPem: string;
  /** PKCS #10 in PEM. It names nobody: the authority decides whose key it is. */
  readonly requestPem: string;
}

export async function makeKeyAndRequest(): Promise<KeyAndRequest> {
  const { Pkcs10CertificateRequestGenerator } = await loadX509();
  const keys = await crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
  const request = await Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: KEY_ALGORITHM,
  });
  return { keyPem: await keyToPem(keys.privateKey), requestPem: request.toString("pem") };
}

/** PKCS #8 in PEM. */
export async function keyToPem(key: CryptoKey): Promise<string> {
  const { PemConverter } = await loadX509();
  return PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}
