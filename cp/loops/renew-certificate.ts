// Loop: has this control plane's own certificate renewed long before it is over.

import type { OwnCertificate } from "../certificates/own-certificate.ts";
import type { Loop } from "./driver.ts";

/** Much less than what is left of a certificate that is to be renewed. */
const EVERY_MS = 600_000;

export function renewCertificateLoop(certificate: OwnCertificate): Loop {
  return {
    name: "renew-certificate",
    everyMs: EVERY_MS,
    run: async () => ({ renewed: (await certificate.renew()) ? 1 : 0 }),
  };
}
