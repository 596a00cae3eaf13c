// Mail addresses as people write them, each in the one form that accounts are found by.

import { domainToASCII } from "node:url";
import isEmail from "validator/es/lib/isEmail.js";
import { AppError } from "./errors.ts";

/**
 * One mailbox (RFC 5321, 4.1.2): a list, or a name before an address, would write to others as well. Case does not
 * tell accounts apart, nor does how letters are composed, and a domain is its name in the DNS (RFC 5891, 4.4).
 * Throws `invalid_request`.
 */
export function parseEmail(text: string): string {
  const email = text.trim().normalize("NFC").toLowerCase();
  const at = email.lastIndexOf("@");
  const domain = domainToASCII(email.slice(at + 1));
  const address = `${email.slice(0, at)}@${domain}`;
  if (!isEmail(email, { require_tld: false }) || !isEmail(address, { require_tld: false })) {
    throw new AppError("invalid_request", "email: must be a mail address");
  }
  return address;
}
