// Secrets at rest: what was random to begin with is kept as its SHA-256.

/** Lower-case hexadecimal SHA-256 of the text. */
export function sha256Hex(text: string): string {
  return new Bun.CryptoHasher("sha256").update(text).digest("hex");
}

/** So many random bytes in lower-case hexadecimal. */
export function randomHex(bytes: number): string {
  return crypto.getRandomValues(new Uint8Array(bytes)).toHex();
}
