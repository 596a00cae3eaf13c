// Bounds on what the control plane waits for and takes from an agent.

/**
 * A cold boot takes about a second on KVM and tens of seconds emulated, more when many start at
 * once; the agent itself gives up on an emulated guest after 3 minutes.
 */
export const CREATE_TIMEOUT_MS = 240_000;
/** A VMM gets 10 s to end by itself, then network and disk are taken down. */
export const DESTROY_TIMEOUT_MS = 60_000;
/** User processes are frozen and device state saved; clients of the first API wait 60 s. */
export const PAUSE_TIMEOUT_MS = 120_000;
/** A resume may have to boot the disk, which takes what a create takes. */
export const RESUME_TIMEOUT_MS = CREATE_TIMEOUT_MS;
/** Sealing reads and writes what the guest has changed: 64 GiB at 200 MiB/s. */
export const SNAPSHOT_TIMEOUT_MS = 300_000;
/** One that is being made ends first, at its next step. */
export const SNAPSHOT_DELETE_TIMEOUT_MS = 60_000;
/** One snapshot of the source, then as many restores. */
export const FORK_TIMEOUT_MS = CREATE_TIMEOUT_MS;
/** An agent that is replaced listens again within a second or two; a client waits no longer. */
export const RESTART_TIMEOUT_MS = 2000;
/** Answered from the agent's memory. */
export const LIST_TIMEOUT_MS = 10_000;
/** Answered from the agent's memory, too. */
export const METRICS_TIMEOUT_MS = 10_000;
/** One small request to the guest agent. */
export const GUEST_CALL_TIMEOUT_MS = 30_000;
/** What a command may take beyond its own timeout: its process group is killed and reaped. */
export const EXEC_GRACE_MS = 15_000;
/** 100 MiB at less than 200 KiB/s. */
export const FILE_WRITE_TIMEOUT_MS = 600_000;
/** An agent that has its turn in a stream moves it: it tells every 10 s that a silent command lives. */
export const STREAM_IDLE_TIMEOUT_MS = 60_000;

/** An agent bounds stdout and stderr to 32 MiB each; the rest is framing. */
export const ANSWER_BYTES_MAX = 66 * 1024 * 1024;
// Memory for capsules, in sum: answers of hosts until clients have taken them, and files that come before
// their paths.
/** One command that printed all it may, and some more. */
export const HELD_PER_CAPSULE_BYTES_MAX = 256 * 1024 * 1024;
export const HELD_PER_TEAM_BYTES_MAX = 512 * 1024 * 1024;
export const HELD_BYTES_MAX = 1024 * 1024 * 1024;
/** Output is there as it came, as text, and in the answer. */
export const OUTPUT_MEMORY_FACTOR = 3;
/** An entry of a list becomes an object of ten fields, twice, and JSON. */
export const LIST_MEMORY_FACTOR = 8;

/** What one message of an upload carries: small enough to stream, large enough to be cheap. */
export const STREAM_CHUNK_BYTES = 256 * 1024;
/** Clients kept, one per host; a client without calls holds nothing but its description. */
export const CLIENTS_MAX = 4096;
