// The users of the image, as its passwd and group files name them.
import { readFileSync, statSync } from "node:fs";
import { EnvdError } from "./errors.ts";

/** What the permission bits of a file are held against. */
export interface Rights {
  readonly uid: number;
  /** Supplementary groups, the primary one among them. */
  readonly groups: readonly number[];
}

export interface User extends Rights {
  readonly name: string;
  readonly gid: number;
  readonly home: string;
}

interface Accounts {
  /** Changes whenever either file does. */
  readonly stamp: string;
  readonly users: ReadonlyMap<string, User>;
  readonly userNames: ReadonlyMap<number, string>;
  readonly groupNames: ReadonlyMap<number, string>;
}

/**
 * Looks users and groups up by name and number. The files are parsed again when they change, so an
 * `adduser` in the guest counts at once. (Name services beyond the two files are not asked.)
 */
export class Users {
  readonly #passwdPath: string;
  readonly #groupPath: string;
  #accounts: Accounts | null = null;

  constructor(paths: { passwd: string; group: string } = defaultPaths) {
    this.#passwdPath = paths.passwd;
    this.#groupPath = paths.group;
  }

  /** The user of that name; unauthenticated when the image has none. */
  byName(name: string): User {
    const user = this.#load().users.get(name);
    if (!user) throw new EnvdError("unauthenticated", `user '${name}' does not exist`);
    return user;
  }

  /** The rights of whoever has the number; no groups when the image names nobody. */
  rights(uid: number): Rights {
    const { users, userNames } = this.#load();
    return users.get(userNames.get(uid) ?? "") ?? { uid, groups: [] };
  }

  /** The owner's name, or the number as text when the file names nobody. */
  userName(uid: number): string {
    return this.#load().userNames.get(uid) ?? String(uid);
  }

  groupName(gid: number): string {
    return this.#load().groupNames.get(gid) ?? String(gid);
  }

  #load(): Accounts {
    const stamp = `${stampOf(this.#passwdPath)} ${stampOf(this.#groupPath)}`;
    if (this.#accounts?.stamp !== stamp) {
      this.#accounts = parseAccounts({
        stamp,
        passwd: readText(this.#passwdPath),
        group: readText(this.#groupPath),
      });
    }
    return this.#accounts;
  }
}

const defaultPaths = { passwd: "/etc/passwd", group: "/etc/group" };

function stampOf(path: string): string {
  const stat = statSync(path, { throwIfNoEntry: false, bigint: true });
  return stat ? `${stat.ino}:${stat.mtimeNs}:${stat.size}` : "none";
}

function readText(path: string): string {
  return statSync(path, { throwIfNoEntry: false }) ? readFileSync(path, "utf8") : "";
}

/** Parses the texts of passwd(5) and group(5). Lines that are none are passed over. */
export function parseAccounts(files: { stamp: string; passwd: string; group: string }): Accounts {
  const groupNames = new Map<number, string>();
  const memberships = new Map<string, number[]>();
  for (const [name, , gidText, members] of recordsOf(files.group)) {
    const gid = numberOf(gidText);
    if (name === undefined || gid === null) continue;
    if (!groupNames.has(gid)) groupNames.set(gid, name);
    for (const member of members?.split(",") ?? []) {
      if (member !== "") memberships.set(member, [...(memberships.get(member) ?? []), gid]);
    }
  }

  const users = new Map<string, User>();
  const userNames = new Map<number, string>();
  for (const [name, , uidText, gidText, , home] of recordsOf(files.passwd)) {
    const uid = numberOf(uidText);
    const gid = numberOf(gidText);
    if (!name || uid === null || gid === null || users.has(name)) continue;
    const groups = [...new Set([gid, ...(memberships.get(name) ?? [])])];
    users.set(name, { name, uid, gid, home: home?.startsWith("/") ? home : "/", groups });
    if (!userNames.has(uid)) userNames.set(uid, name);
  }
  return { stamp: files.stamp, users, userNames, groupNames };
}

function recordsOf(text: string): string[][] {
  return text
    .split("\n")
    .filter((line) => line.includes(":") && !line.startsWith("#"))
    .map((line) => line.split(":"));
}

function numberOf(text: string | undefined): number | null {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : null;
}
