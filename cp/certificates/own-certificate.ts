// What a control plane shows to agents. Each makes its own, in memory only, and the next one in time.

import { isDue } from "../../proto/certificates/renewal.ts";
import type { TlsIdentity } from "../../proto/http1/tls.ts";
import type { Authority } from "./authority.ts";

interface Made {
  readonly identity: TlsIdentity;
  readonly expiresAt: Date;
}

export class OwnCertificate {
  readonly #authority: Authority;
  #made: Made;

  private constructor(authority: Authority, made: Made) {
    this.#authority = authority;
    this.#made = made;
  }

  static async make(authority: Authority): Promise<OwnCertificate> {
    return new OwnCertificate(authority, await makeFor(authority));
  }

  /** For the next connection. */
  readonly current = (): TlsIdentity => this.#made.identity;

  /** True: it was time for another one. Connections that are open stay. */
  async renew(now: Date = new Date()): Promise<boolean> {
    if (!isDue(this.#made.expiresAt, now)) return false;
    this.#made = await makeFor(this.#authority);
    return true;
  }
}

async function makeFor(authority: Authority): Promise<Made> {
  const { certPem, keyPem, expiresAt } = await authority.makeControlPlane();
  return { identity: { certPem, keyPem, trustedPem: authority.trustedPem }, expiresAt };
}
