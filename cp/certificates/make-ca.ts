// `make-ca`: the files of a new certificate authority for an installation.

import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { Authority } from "./authority.ts";

/**
 * Makes `<dir>/ca.pem` and `<dir>/ca-key.pem`, which only their owner reads, and returns what to set. Throws where
 * one of them is there: whoever lost the key of an authority has to register every host anew.
 */
export async function makeCa(dir: string): Promise<string> {
  const { certPem, keyPem } = await Authority.make();
  await mkdir(dir, { recursive: true, mode: 0o700 });
  const certFile = join(dir, "ca.pem");
  const keyFile = join(dir, "ca-key.pem");
  await writeNew(keyFile, keyPem, 0o600);
  await writeNew(certFile, certPem, 0o644);
  return `WRENN_CA_CERT=${certFile}\nWRENN_CA_KEY=${keyFile}\n`;
}

async function writeNew(path: string, text: string, mode: number): Promise<void> {
  try {
    await using file = await open(path, "wx", mode);
    await file.writeFile(`${text}\n`);
    await file.sync();
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : cause;
    throw new Error(`${path} can't be made (${code})`, { cause });
  }
}
