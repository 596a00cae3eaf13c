// Files of a capsule on the wire.

import { Type } from "@sinclair/typebox";
import { type Static, t } from "elysia";
import type { FileEntry as AgentFileEntry } from "../../proto/gen/hostagent/hostagent_pb.js";
import { LIST_DEPTH_MAX, PATH_BYTES_MAX } from "../../proto/hostagent/bounds.ts";

const Path = t.String({
  minLength: 1,
  maxLength: PATH_BYTES_MAX,
  pattern: "^[^\\u0000]*$",
  description:
    "`~` and relative paths start at the home of the capsule's default user, who owns what is made.",
});

export const PathRequest = t.Object({ path: Path });

export const ListRequest = t.Object({
  path: Path,
  depth: t.Optional(
    Type.Integer({ minimum: 0, maximum: LIST_DEPTH_MAX, description: "Levels. 0 means 1." }),
  ),
});

const ENTRY_TYPES = ["file", "directory", "symlink", "unknown"] as const;

const FileEntry = t.Object({
  name: t.String({
    description: "Bytes that are no UTF-8, 0x80 to 0xFF, are U+EF80 to U+EFFF, in paths as well.",
  }),
  path: t.String(),
  type: t.UnionEnum(ENTRY_TYPES),
  size: Type.Integer({ description: "Bytes." }),
  mode: Type.Integer(),
  permissions: t.String({ description: "As ls(1) writes them." }),
  owner: t.String(),
  group: t.String(),
  modified_at: Type.Integer({ description: "Unix time, in seconds." }),
  symlink_target: t.Optional(t.String()),
});
type FileEntry = Static<typeof FileEntry>;

export const FileList = t.Object({ entries: t.Array(FileEntry) });
export const MadeDirectory = t.Object({ entry: FileEntry });

export function toFileEntry(entry: AgentFileEntry): FileEntry {
  return {
    name: entry.name,
    path: entry.path,
    type: ENTRY_TYPES.find((type) => type === entry.type) ?? "unknown",
    size: Number(entry.size),
    mode: entry.mode,
    permissions: entry.permissions,
    owner: entry.owner,
    group: entry.group,
    modified_at: Number(entry.modifiedAt),
    ...(entry.symlinkTarget === undefined ? {} : { symlink_target: entry.symlinkTarget }),
  };
}
