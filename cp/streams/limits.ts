// Bounds of the WebSockets that carry commands and terminals.

/** How long a client may take to say who it is, and then what it wants. */
export const AUTH_TIMEOUT_MS = 5000;
export const START_TIMEOUT_MS = 30_000;

/** One message of a client: a command line of the size that the exec route takes. */
export const MESSAGE_BYTES_MAX = 1024 * 1024;
/** Messages that wait for the capsule; beyond it the client's connection is not read. */
export const INBOX_BYTES_MAX = 512 * 1024;
export const INBOX_MESSAGES_MAX = 1024;
/** Above what people and pastes produce; a client that sends more is read more slowly. */
export const MESSAGES_PER_SECOND_MAX = 5000;
/** Messages that make no sense, after which the client is sent away. */
export const BAD_MESSAGES_MAX = 16;

/** A kill overtakes input that a process has not read for this long. */
export const INPUT_STALL_MS = 5000;
/** Output of one message: below 64 KiB as base64 in JSON, which small clients read in one piece. */
export const OUTPUT_BYTES_MAX = 32 * 1024;

export const PING_MS = 30_000;
/** A peer that answers no ping and takes no output for so long is gone. */
export const PEER_SILENCE_MS_MAX = 100_000;
/** The same while it is known to be behind, for then it sees no ping either. */
export const PEER_STALL_MS_MAX = 600_000;

/**
 * WebSockets of clients that have not said yet who they are, in all and of one address: each may hold most of a
 * message for as long as it may take for that.
 */
export const STRANGERS_MAX = 512;
export const STRANGERS_PER_ADDRESS_MAX = 64;

/** WebSockets of one control plane. */
export const SOCKETS_MAX = 10_000;

/** Input that waits is joined up to this; an agent takes 1 MiB. */
export const INPUT_BYTES_MAX = 256 * 1024;
