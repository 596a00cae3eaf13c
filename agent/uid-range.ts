// The user ids that VMMs and pagers run as, one pair per slot. They must be nobody else's: whoever has one
// may signal the VMM and read the capsule's disk.
//
// The default lies above what useradd gives users for their containers (/etc/login.defs: up to 600,100,000),
// what systemd-nspawn takes (up to 1,879,048,191) and what SSSD maps directory users to (up to
// 2,000,200,000), and below 2^31, from which on some programs read ids as negative.

import { readFile } from "node:fs/promises";
import { join } from "node:path";

/** VMMs in the lower half, their pagers in the upper. */
export const UID_COUNT = 65_536;
export const UID_BASE_DEFAULT = 2_100_000_000;
export const UID_BASE_MIN = 65_536;
/** Behind it systemd has ids for foreign images. */
export const UID_BASE_MAX = 2_147_352_576 - UID_COUNT;

interface Claim {
  readonly first: number;
  readonly count: number;
  readonly owner: string;
}

/**
 * Throws a sentence when somebody of this machine has an id of the range, or when the machine has not all of
 * them, as within a container. `root` is `/` but for tests.
 */
export async function checkUidRange(base: number, root = "/"): Promise<void> {
  const last = base + UID_COUNT - 1;
  const range = `ids ${base} to ${last}, which microVMs would run as,`;
  for (const file of ["etc/passwd", "etc/group", "etc/subuid", "etc/subgid"]) {
    const claims = parseClaims(await readIfThere(join(root, file)), file.startsWith("etc/sub"));
    const other = claims.find(({ first, count }) => first <= last && first + count > base);
    if (other === undefined) continue;
    throw new Error(`WRENN_UID_BASE: ${range} overlap those of ${other.owner} in /${file}`);
  }
  for (const map of ["uid_map", "gid_map"]) {
    const lines = (await readIfThere(join(root, "proc/self", map))).trim().split("\n");
    const mapped = lines.map((line) => line.trim().split(/\s+/).map(Number));
    if (mapped.some(([first = 0, , count = 0]) => first <= base && first + count > last)) continue;
    throw new Error(`WRENN_UID_BASE: ${range} are not all there in this user namespace`);
  }
}

/** Of `name:x:id:…`, or of `name:first:count`. */
function parseClaims(text: string, isRange: boolean): Claim[] {
  return text.split("\n").flatMap((line) => {
    const [owner = "", second = "", third = ""] = line.split(":");
    const [first, count] = isRange ? [Number(second), Number(third)] : [Number(third), 1];
    return owner !== "" && first > 0 && count > 0 ? [{ first, count, owner }] : [];
  });
}

async function readIfThere(path: string): Promise<string> {
  return await readFile(path, "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return "";
    throw error;
  });
}
