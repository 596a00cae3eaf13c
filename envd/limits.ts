// Every bound on what a client or a process of the guest can make envd hold, wait for or write.

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

/** One RPC request message. A command line and environment may be 2 MiB on Linux by default. */
export const RPC_MESSAGE_BYTES_MAX = 4 * MIB;

/** The JSON body of /init and /files/compose. */
export const JSON_BODY_BYTES_MAX = 1 * MIB;

/** One upload, all of its files together. The disk is the real bound. */
export const UPLOAD_BYTES_MAX = 1024 * GIB;

/** Files in one multipart upload, and sources of one compose. */
export const UPLOAD_FILES_MAX = 1000;

/** Parts of one multipart upload: its files, and what a form sends beside each. */
export const MULTIPART_PARTS_MAX = 2 * UPLOAD_FILES_MAX;

/** One read of a file on its way to a client: large enough that system calls do not count. */
export const FILE_CHUNK_BYTES = 256 * KIB;

/** A file that is read before it is sent: the connection of one that is larger is not used again. */
export const FILE_WHOLE_BYTES_MAX = 1 * MIB;

/** Changes of what has a file's name, each just before an upload takes it. */
export const PUBLISH_ATTEMPTS_MAX = 100;

/** For Bun to open a file that is handed to it; it takes no turn of the event loop. */
export const HANDLE_KEPT_MS = 1_000;

/** Extended attributes of one file (`user.e2b.<key>` must fit 255 bytes). */
export const METADATA_KEY_BYTES_MAX = 246;
export const METADATA_BYTES_MAX = 4096;

/** Processes that run at once under envd. */
export const PROCESSES_MAX = 4096;

/** How long, and how many, ended processes still answer Connect. */
export const ENDED_KEPT_MS = 30_000;
export const ENDED_KEPT_MAX = 1024;

/** Arguments and environment together: Linux refuses more than a quarter of the stack limit. */
export const COMMAND_BYTES_MAX = 2 * MIB;
/** What the fastest reader may be behind before the process has to wait. */
export const OUTPUT_WINDOW_BYTES = 1 * MIB;

/** What a reader may be behind another before it is cut off, so that it holds nobody up. */
export const OUTPUT_LAG_BYTES_MAX = 4 * MIB;

/** One data event: neighbouring pieces of output are joined up to this. */
export const OUTPUT_EVENT_BYTES_MAX = 64 * KIB;

/** What of a terminal's past is kept for a client that asks for it. */
export const SCROLLBACK_BYTES_MAX = 256 * KIB;

/** Input that waits for a process which does not read. */
export const INPUT_QUEUE_BYTES_MAX = 4 * MIB;

/** Readers of one process. */
export const SUBSCRIBERS_MAX = 64;

/**
 * Output of background children after the process itself ended: the stream ends when nothing came
 * for the first time span, or, when they never fall silent, after both the second span and as many
 * bytes as a pipe of the process can have held (/proc/sys/fs/pipe-max-size).
 */
export const AFTER_EXIT_QUIET_MS = 200;
export const AFTER_EXIT_MS_MAX = 2000;
export const AFTER_EXIT_BYTES_MIN = 1 * MIB;

/** Silence after which a stream says that it lives, unless the client asks otherwise. */
export const KEEPALIVE_MS = 90_000;
export const KEEPALIVE_MS_MIN = 1_000;

/** How long processes stay frozen when nobody thaws them. */
export const FREEZE_MS_MAX = 60_000;

/** How long /freeze may be told to wait for them to stand still, and does when it is not told. */
export const FREEZE_WAIT_MS_MAX = 10_000;
export const FREEZE_WAIT_MS = 2000;

/** From SIGTERM to SIGKILL when envd itself is asked to end. */
export const END_GRACE_MS = 2000;

/** How long a started launcher may take until it is ready; under emulation it takes 50 ms. */
export const LAUNCH_READY_MS_MAX = 10_000;

/** A list of a directory and all below it. */
export const LIST_ENTRIES_MAX = 100_000;
export const LIST_DEPTH_MAX = 1024;

/**
 * Memory of the guest for each directory that a user may watch. One that is watched takes a kernel with
 * ext4 1.2 KiB, so that all of a user's take a fourteenth of it.
 */
export const WATCH_MEMORY_BYTES = 16 * KIB;

/** What the kernel sets for guests of any size at most. */
export const WATCHED_DIRECTORIES_MAX = 1_048_576;

/** Watches of directories that are open at once; Linux allows 128 inotify instances by default. */
export const WATCHES_MAX = 100;

/** Changes that wait for a client which polls. */
export const WATCHER_CHANGES_MAX = 10_000;

/** One record of a watch: a letter and a path. */
export const WATCH_RECORD_BYTES_MAX = 8192;

/** Ports of the guest's loopback that are forwarded, and connections to all of them. */
export const FORWARDED_PORTS_MAX = 256;
export const FORWARDED_CONNECTIONS_MAX = 1024;

/** What is read of the kernel's table of sockets; a line has 150 bytes. */
export const LISTENER_TABLE_BYTES_MAX = 256 * KIB;

/** Of all variables that /init may set. */
export const ENV_BYTES_MAX = 256 * KIB;

/** A transfer of files during which nothing moves. */
export const TRANSFER_IDLE_SECONDS = 120;

/** Connections that say nothing; Bun's own maximum. */
export const IDLE_TIMEOUT_SECONDS = 255;
