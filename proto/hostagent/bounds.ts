// Bounds on what a client may ask of a capsule, one number each: the API's schema, the host agent and the guest
// agent all read it here, so that none of them takes what the next one refuses. What only one of them
// bounds is in its own limits.ts.

/** A microVM of more processors than this boots no faster and fits few hosts. */
export const VCPUS_MAX = 32;
/** A guest kernel, init and guest agent need about 90 MiB before user code runs. */
export const MEMORY_MB_MIN = 128;
/** One capsule must not be able to ask for a whole large host. */
export const MEMORY_MB_MAX = 65_536;
/** A year of inactivity; whoever wants more means 0, never. */
export const TIMEOUT_SEC_MAX = 31_536_000;
/** Forks of one request: what one host can start in the time that a client waits. */
export const FORKS_MAX = 100;

/** Shares of a host's disk and network: above what one disk or card does. */
export const DISK_MIBPS_MAX = 65_536;
export const DISK_IOPS_MAX = 10_000_000;
export const NETWORK_MBITPS_MAX = 100_000;

/** PATH_MAX (limits.h) is 4,096 bytes with the final NUL. Of a command's name and directory, too. */
export const PATH_BYTES_MAX = 4095;
/** Far above honest use; together with the body limit it keeps argv under a guest's ARG_MAX. */
export const ARGS_MAX = 4096;
/** Linux's MAX_ARG_STRLEN (binfmts.h) is 131,072 bytes with the final NUL. */
export const ARG_BYTES_MAX = 131_071;
/** Environment variables of one command, or of a template. */
export const ENVS_MAX = 1024;
export const ENV_NAME_BYTES_MAX = 256;
/** `NAME=value` is one string to execve(2), of which MAX_ARG_STRLEN holds. */
export const ENV_VALUE_BYTES_MAX = ARG_BYTES_MAX - ENV_NAME_BYTES_MAX - 1;
/** useradd(8) allows 32. */
export const USER_BYTES_MAX = 32;
/** Names of background processes and terminals. */
export const TAG_BYTES_MAX = 128;
/** What an omitted or zero `timeout_sec` of a command means. */
export const EXEC_TIMEOUT_SEC_DEFAULT = 30;
/** A day: a foreground command holds a connection; longer work belongs in the background. */
export const EXEC_TIMEOUT_SEC_MAX = 86_400;
/** tty_ioctl(4): 16 bits. */
export const TERMINAL_SIDE_MAX = 65_535;

/** Levels of a directory tree: its entries are answered in one message. */
export const LIST_DEPTH_MAX = 32;
/** A file in one message; larger ones are streamed. */
export const FILE_WRITE_BYTES_MAX = 100 * 1024 * 1024;
