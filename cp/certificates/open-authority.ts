// The authority of the installation, as the settings name it.

import { readFile } from "node:fs/promises";
import type { Config } from "../config.ts";
import { Authority } from "./authority.ts";

/** The authority of the installation; throws unless certificate and key are one's. */
export async function openAuthority({ cert, key }: Config["authority"]): Promise<Authority> {
  const certPem = await pemOf("WRENN_CA_CERT", cert);
  const keyPem = await pemOf("WRENN_CA_KEY", key);
  return await Authority.open({ certPem, keyPem }).catch((cause: Error) => {
    throw new Error(`WRENN_CA_CERT, WRENN_CA_KEY: ${cause.message}`, { cause });
  });
}

/** What is PEM itself is no path. */
async function pemOf(setting: string, text: string): Promise<string> {
  if (!text.startsWith("/")) return text;
  return await readFile(text, "utf8").catch((cause: NodeJS.ErrnoException) => {
    throw new Error(`${setting}: ${text} can't be read (${cause.code})`, { cause });
  });
}
