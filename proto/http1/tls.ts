// TLS between our own programs: both sides show a certificate of one authority, and each looks whose it is.

import { constants } from "node:crypto";

/** All in PEM. */
export interface TlsIdentity {
  readonly certPem: string;
  readonly keyPem: string;
  /** Of the authorities whose certificates the other side may show. */
  readonly trustedPem: string;
}

/** What is asked of each client. */
export interface ServerTls {
  /** Of the next connection. */
  readonly identity: () => TlsIdentity;
  /** Whether the owner of the name may connect. */
  readonly admits: (name: string) => boolean;
}

/** What is asked of the server. */
export interface ClientTls {
  /** Of the next connection. */
  readonly identity: () => TlsIdentity;
  /** In its certificate, whatever the address. */
  readonly serverName: string;
}

/** Nothing before TLS 1.3; Bun's sockets do not take `minVersion` (1.4.5). */
const OLD_VERSIONS =
  constants.SSL_OP_NO_TLSv1 | constants.SSL_OP_NO_TLSv1_1 | constants.SSL_OP_NO_TLSv1_2;

/** As Bun takes it: for a server that asks for certificates, for a client, and for fetch. */
export function tlsOptions({ certPem, keyPem, trustedPem }: TlsIdentity) {
  const pem = { cert: certPem, key: keyPem, ca: trustedPem };
  return { ...pem, rejectUnauthorized: true, secureOptions: OLD_VERSIONS } as const;
}

/** The one DNS name that our certificates have; null for any other certificate. */
export function nameOf(
  certificate: { readonly subjectaltname?: string | undefined } | undefined,
): string | null {
  return /^DNS:([a-z0-9.-]{1,253})$/.exec(certificate?.subjectaltname ?? "")?.[1] ?? null;
}
