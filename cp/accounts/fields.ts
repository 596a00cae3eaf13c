// What people write of themselves.

import { AppError } from "../errors.ts";

const NAME_BYTES_MAX = 100;

export function parseName(text: string): string {
  const name = text.trim();
  const sizeBytes = Buffer.byteLength(name);
  if (sizeBytes < 1 || sizeBytes > NAME_BYTES_MAX) {
    throw new AppError("invalid_request", `name: must have 1 to ${NAME_BYTES_MAX} bytes`);
  }
  return name;
}
