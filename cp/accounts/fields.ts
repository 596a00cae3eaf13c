// What people write of themselves.

import isEmail from "validator/es/lib/isEmail.js";
import { AppError } from "../errors.ts";

const NAME_BYTES_MAX = 100;

/** One mailbox (RFC 5321, 4.1.2): a list, or a name before an address, would write to others as well. */
export function parseEmail(text: string): string {
  const email = text.trim().toLowerCase();
  if (!isEmail(email, { require_tld: false })) {
    throw new AppError("invalid_request", "email: must be a mail address");
  }
  return email;
}

export function parseName(text: string): string {
  const name = text.trim();
  const sizeBytes = Buffer.byteLength(name);
  if (sizeBytes < 1 || sizeBytes > NAME_BYTES_MAX) {
    throw new AppError("invalid_request", `name: must have 1 to ${NAME_BYTES_MAX} bytes`);
  }
  return name;
}
