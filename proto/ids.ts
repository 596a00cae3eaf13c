// Ids on the wire: a prefix that names the kind, then the UUID as 25 base-36 digits.

const DIGITS = 25;
const TEN_DIGITS = 36n ** 10n;
const UUID_MAX = (1n << 128n) - 1n;
const UUID_PATTERN = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

export const ID_PREFIXES = {
  capsule: "cl-",
  user: "usr-",
  team: "team-",
  apiKey: "key-",
  host: "host-",
  hostToken: "htok-",
  hostRefreshToken: "hrt-",
  auditLog: "log-",
  build: "bld-",
  permission: "perm-",
  channel: "ch-",
  invitation: "inv-",
  event: "evt-",
  delivery: "dlv-",
} as const;

export type IdKind = keyof typeof ID_PREFIXES;

/** A hyphenated lower-case UUID that is known to name one kind of thing. */
export type Id<K extends IdKind> = string & { readonly idKind: K };

/** A fresh random id of the kind. */
export function newId<K extends IdKind>(_kind: K): Id<K> {
  return crypto.randomUUID() as Id<K>;
}

/** The UUID as the id of that kind; throws when the text is no hyphenated lower-case UUID. */
export function idFromUuid<K extends IdKind>(_kind: K, uuid: string): Id<K> {
  if (!UUID_PATTERN.test(uuid)) throw new Error(`Cannot parse UUID: ${JSON.stringify(uuid)}`);
  return uuid as Id<K>;
}

/** The external form, `cl-0…`: prefix and 25 lower-case base-36 digits, padded with zeros. */
export function encodeId<K extends IdKind>(kind: K, id: Id<K>): string {
  return ID_PREFIXES[kind] + encodeUuid(id);
}

/** The UUID as 25 lower-case base-36 digits, padded with zeros: the form used in paths. */
export function encodeUuid(uuid: string): string {
  return BigInt(`0x${uuid.replaceAll("-", "")}`)
    .toString(36)
    .padStart(DIGITS, "0");
}

/**
 * The id that an external form names, or null when it is none: another prefix, another length, a
 * digit that is not base 36, or a value over 128 bits.
 */
export function decodeId<K extends IdKind>(kind: K, text: string): Id<K> | null {
  const prefix = ID_PREFIXES[kind];
  const digits = text.slice(prefix.length);
  if (!text.startsWith(prefix) || !/^[0-9a-z]{25}$/.test(digits)) return null;

  // Ten digits fit into a number.
  let value = BigInt(Number.parseInt(digits.slice(0, 5), 36));
  for (const start of [5, 15]) {
    value = value * TEN_DIGITS + BigInt(Number.parseInt(digits.slice(start, start + 10), 36));
  }
  if (value > UUID_MAX) return null;

  const hex = value.toString(16).padStart(32, "0");
  return [
    hex.slice(0, 8),
    hex.slice(8, 12),
    hex.slice(12, 16),
    hex.slice(16, 20),
    hex.slice(20),
  ].join("-") as Id<K>;
}
