// Bounds on what clients may ask of capsules: each with its unit and its reason.

/** A microVM of more processors than this boots no faster and fits few hosts. */
export const VCPUS_MAX = 32;
export const VCPUS_DEFAULT = 1;
/** A guest kernel, init and guest agent need about 90 MiB before user code runs. */
export const MEMORY_MB_MIN = 128;
/** One capsule must not be able to ask for a whole large host. */
export const MEMORY_MB_MAX = 65_536;
export const MEMORY_MB_DEFAULT = 512;
/** A year of inactivity; whoever wants more means 0, never. */
export const TIMEOUT_SEC_MAX = 31_536_000;
/** Size of a root disk. It is sparse: what is not written costs nothing. */
export const DISK_SIZE_MB = 5120;

/** Forks of one request: what one host can start in the time that a client waits. */
export const FORKS_MAX = 100;

/** Names of templates: safe as a file name, an argument and a path segment. */
export const TEMPLATE_NAME_PATTERN = "^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$";

/** Linux's MAX_ARG_STRLEN (binfmts.h) is 131,072 bytes with the final NUL. */
export const ARG_LENGTH_MAX = 131_071;
/** PATH_MAX (limits.h) is 4,096 bytes with the final NUL. */
export const PATH_LENGTH_MAX = 4095;
/** Far above honest use; together with the body limit it keeps argv under a guest's ARG_MAX. */
export const ARGS_COUNT_MAX = 4096;
export const ENVS_COUNT_MAX = 1024;
export const ENV_NAME_LENGTH_MAX = 256;
/** useradd(8) allows 32. */
export const USER_LENGTH_MAX = 32;
export const TAG_LENGTH_MAX = 128;
/** A day: a foreground command holds a connection; longer work belongs in the background. */
export const EXEC_TIMEOUT_SEC_MAX = 86_400;
/** What an omitted or zero `timeout_sec` of a command means. */
export const EXEC_TIMEOUT_SEC_DEFAULT = 30;

/** What `/files/write` takes; larger files go through the streaming route. */
export const FILE_WRITE_BYTES_MAX = 100 * 1024 * 1024;
/** A client that streams a file and sends nothing for so long is gone. */
export const UPLOAD_SILENCE_MS_MAX = 120_000;
/** Boundaries, part headers and the path beside the file in a multipart body. */
export const MULTIPART_OVERHEAD_BYTES_MAX = 64 * 1024;
/** A path and a file, and what a form sends besides. */
export const MULTIPART_PARTS_MAX = 64;
/** Entries of a deep tree are answered in one message. */
export const LIST_DEPTH_MAX = 32;
/** What one answer lists. A team with more capsules than this needs pages first. */
export const CAPSULES_LISTED_MAX = 10_000;
