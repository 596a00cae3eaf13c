// Bounds on what clients may ask of capsules: each with its unit and its reason.

/** Size of a root disk. It is sparse: what is not written costs nothing. */
export const DISK_SIZE_MB = 5120;

/** Names of templates: safe as a file name, an argument and a path segment. */
export const TEMPLATE_NAME_PATTERN = "^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$";
/** The same, or the slug of a team, of at most 40 characters, before it. */
export const TEMPLATE_REFERENCE_PATTERN =
  "^(?:[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?/)?[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$";

/** A client that streams a file and sends nothing for so long is gone. */
export const UPLOAD_SILENCE_MS_MAX = 120_000;
/** Boundaries, part headers and the path beside the file in a multipart body. */
export const MULTIPART_OVERHEAD_BYTES_MAX = 64 * 1024;
/** A path and a file, and what a form sends besides. */
export const MULTIPART_PARTS_MAX = 64;
/** What one answer lists. A team with more capsules than this needs pages first. */
export const CAPSULES_LISTED_MAX = 10_000;

/** Volumes of one capsule, by name or id. */
export const VOLUMES_MAX = 4;
export const VOLUME_ID_LENGTH_MAX = 64;

/** What the owner of a capsule may say of it: enough to find it again, too little to keep data in. */
export const LABELS_MAX = 20;
export const LABEL_LENGTH_MAX = 64;
/** All of them with every character escaped. */
export const LABEL_FILTER_LENGTH_MAX = LABELS_MAX * (LABEL_LENGTH_MAX * 10 + 2);
