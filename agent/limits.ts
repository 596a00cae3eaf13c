// Every bound of the agent, with its unit and its reason.

import { FILE_WRITE_BYTES_MAX } from "../proto/hostagent/bounds.ts";
import type { FrontLimits } from "../proto/http1/listener.ts";

const MIB = 1024 * 1024;

export const DISK_MIB_MAX = 1024 * 1024;
/** Of the base images; a smaller wish is grown to it. */
export const DISK_MIB_DEFAULT = 5 * 1024;
export const TOKEN_BYTES_MAX = 512;

/**
 * A guest's kernel and userland came up well within 10 s on hardware with KVM; TCG needs more. So does a host that
 * is a guest itself: one whose console goes on gets more, up to BOOT_TIMEOUT_MAX.
 */
export const BOOT_TIMEOUT_MS = { kvm: 30_000, tcg: 180_000 } as const;
/** Less than the control plane waits for a start. A guest may print for ever. */
export const BOOT_TIMEOUT_MAX_MS = 180_000;
/** Between looks whether envd is up. A refused connection costs an emulated guest a millisecond of its boot. */
export const BOOT_POLL_MS = { kvm: 5, tcg: 40 } as const;
/**
 * How long a create or resume keeps others from booting: longer than a boot on a busy host. A guest that is not up
 * by then, as one of a broken template, waits on without a permit.
 */
export const BOOT_PERMIT_MS = { kvm: 5_000, tcg: 20_000 } as const;
/** Creates waiting for a boot slot; more than this is a host that should not have been chosen. */
export const BOOTS_QUEUED_MAX = 256;
/** Capsules removed at once: bounded by netlink and the disk. */
export const REMOVALS_AT_ONCE_MAX = 8;
/** What the agent has to remove by itself, and cannot: the journal may be writable again by then. */
export const REMOVAL_RETRY_MS = 5_000;
/** MemAvailable that a new capsule must leave, so that the host itself never swaps or kills. */
export const HOST_MEMORY_RESERVE_MIB = 512;

// What a hostile guest can make the agent hold or wait for.
// Memory for whole answers (output, lists, files in one message) and for input that waits, in sum. One
// command may fill its 32 MiB twice, and its answer is written beside them.
export const HELD_PER_CAPSULE_BYTES_MAX = 192 * MIB;
/** Two capsules of a team with all they may hold. */
export const HELD_PER_TEAM_BYTES_MAX = 384 * MIB;
export const HELD_BYTES_MAX = 768 * MIB;
/** A byte of output is there once more in the answer. */
export const OUTPUT_MEMORY_FACTOR = 2;
/** An entry of a list is there as it was read, as an object, and in the answer. */
export const LIST_MEMORY_FACTOR = 4;
/** Bytes kept of each of stdout and stderr; the command is killed when it prints more. */
export const OUTPUT_BYTES_MAX = 32 * MIB;
/** One message of a stream; envd sends at most 64 KiB of output in one. */
export const STREAM_MESSAGE_BYTES_MAX = 256 * 1024;
/** One message to a guest: a command line with its variables, or a piece of input. */
export const GUEST_REQUEST_BYTES_MAX = 16 * MIB;
/** One unary answer but a list: an entry, a process, or nothing. */
export const UNARY_ANSWER_BYTES_MAX = 64 * 1024;
/** One list of directory entries or processes, and in one go what both programs handle in 50 ms. */
export const LIST_ANSWER_BYTES_MAX = 16 * MIB;
export const LIST_ITEMS_MAX = 20_000;
/** A process with the longest command line that Linux takes. */
export const LIST_ITEM_BYTES_MAX = 3 * MIB;
/** Bodies of /init, /health and of errors. */
export const SMALL_ANSWER_BYTES_MAX = 64 * 1024;
/** A unary call to envd, and the time in which a stream must start. */
export const GUEST_CALL_TIMEOUT_MS = 30_000;
/** For a guest's processes to stand still; one that waits for a disk does not until it has it. */
export const FREEZE_WAIT_MS = 5_000;
/** As much as the kernel's generator takes in at once. */
export const ENTROPY_BYTES = 32;
/** How often a silent stream of a process tells that it lives; without it the call times out. */
export const GUEST_KEEPALIVE_SEC = 10;
/** One message of terminal input; the control plane joins what waits up to a quarter of it. */
export const INPUT_BYTES_MAX = MIB;
/** Inputs of one capsule that wait for processes which do not read. */
export const INPUTS_PER_CAPSULE_MAX = 64;
/** A transfer must move within this time. */
export const TRANSFER_IDLE_TIMEOUT_MS = 30_000;
/** A directory tree of any size takes its time to remove. */
export const REMOVE_TIMEOUT_MS = 120_000;
/** After a command's own deadline, for envd to kill it and say so. */
export const KILL_GRACE_MS = 5_000;
/** Characters of a guest's error text that are passed on. */
export const GUEST_TEXT_MAX = 300;
/** Foreground commands and transfers of one capsule, so that one cannot starve the others. */
export const STREAMS_PER_CAPSULE_MAX = 64;
/** Bun opens at most 256 connections unless BUN_CONFIG_MAX_HTTP_REQUESTS says otherwise at its start. */
export const HTTP_CONNECTIONS_DEFAULT = 256;
/** Long-lived calls to all guests: each takes two sockets and some tens of kilobytes. */
export const GUEST_STREAMS_MAX = 4096;
/** Of the connections, kept free of long-lived calls: health, init, kills, heartbeats. */
export const HTTP_CONNECTIONS_RESERVED = 56;

// RPC between control plane and agent.
/** A whole file in one message, and what it comes with. */
export const RPC_MESSAGE_BYTES_MAX = FILE_WRITE_BYTES_MAX + MIB;
export const FILE_CHUNK_BYTES = 256 * 1024;
/** Uploads that have four of these ready before their guests want them: 64 MiB in sum. */
export const UPLOADS_AHEAD_MAX = 64;
/** One file streamed in or out: the largest disk. */
export const FILE_BYTES_MAX = DISK_MIB_MAX * MIB;

// Pauses.
/** Sealing is bound by memory bandwidth and the disk. */
export const SEALS_AT_ONCE_MAX = 2;
/**
 * Sealing begins so long after a pause, whose answer it would delay: it takes processor and disk, and the
 * control plane has still to write down that the capsule is paused.
 */
export const SEAL_DELAY_MS = 25;
/** A seal that failed is tried again: space may have been made. */
export const SEAL_RETRY_MS = 5_000;
/** Between looks for capsules that nobody uses. */
export const EXPIRY_CHECK_MS = 2_000;
/** A pause at the end of a timeout that failed is not tried again for so long. */
export const EXPIRY_RETRY_MS = 30_000;
/** Of one capsule: pauses and resumes that are known when they come again, late. */
export const ENDED_OPERATIONS_KEPT = 32;

// A full disk.
/** Between looks at the disk's room. */
export const STALL_CHECK_MS = 2_000;
/** With less, a guest's write may have found none since the last look. */
export const STALL_SHORT_BYTES = 512 * MIB;
/** With less, a guest that is let run on would stop again at once. */
export const STALL_ROOM_BYTES_MIN = 16 * MIB;
// Disks by device-mapper, which are lost as a whole by a write that finds no room: what guests write is held before.
/** Between looks at the disk's room: what all guests write meanwhile has to fit what is held back. */
export const HOLD_CHECK_MS = 250;
/** With less, what guests write waits; with more than HOLD_END it goes on. */
export const HOLD_BYTES = 1024 * MIB;
export const HOLD_END_BYTES = 1280 * MIB;
/** With less, the log says so. */
export const ROOM_LOW_BYTES = 4096 * MIB;

// Warm snapshots: of 256 MiB of an idle guest some 100 MiB are stored, and its image once more where the
// disk cannot share extents.
export const WARM_SNAPSHOTS_MAX = 16;
export const WARM_BYTES_MAX = 16 * 1024 * MIB;
/** Kinds that wait to be made; callers choose shapes. */
export const WARM_QUEUED_MAX = 8;
/** One that could not be made is not tried again for so long. */
export const WARM_RETRY_MS = 600_000;

/** Outcomes of finished operations are remembered so that a late duplicate cannot run again. */
export const OUTCOMES_KEPT_MS = 24 * 3600 * 1000;
/** How often the activity clock reaches the disk: what a crash can make it forget. */
export const ACTIVITY_FLUSH_MS = 10_000;
/** Of the console in the agent's log when a boot failed. */
export const CONSOLE_TAIL_BYTES = 4096;
/** For calls under way when the agent stops; a long command is cut off. */
export const STOP_GRACE_MS = 5_000;

// Requests of the world to servers in guests.
/** Of one capsule at once, WebSockets included: one of them cannot take all of the agent. */
export const PROXY_REQUESTS_PER_CAPSULE_MAX = 512;
export const PROXY_CONNECTIONS_PER_PORT_MAX = PROXY_REQUESTS_PER_CAPSULE_MAX;
/** Ports of a guest with connections at once; tried ports without any are forgotten. */
export const PROXY_PORTS_PER_GUEST_MAX = 64;
/** Idle connections kept per port, for less time than servers in guests keep theirs (Node: 5 s). */
export const PROXY_IDLE_CONNECTIONS_MAX = 64;
export const PROXY_IDLE_MS = 4_000;
/** A server that a process has just started, or whose port is just being forwarded, gets three tries. */
export const PROXY_DIAL_RETRY_AFTER_MS = [100, 200] as const;
export const PROXY_DIAL_TIMEOUT_MS = 10_000;
/** When nothing moves in either direction; longer than at the control plane, so that it ends first. */
export const PROXY_SILENCE_MS = 620_000;
/** Connections to the agent, of control planes only. */
const CONNECTIONS_MAX = 20_000;
/** The control plane's, both ends of the one to the RPC service, and that to a guest. */
const OPEN_FILES_PER_CONNECTION = 4;
/** Of all connections: 64 KiB for each of 4,000 whose reader is behind. */
const CONNECTIONS_HELD_BYTES_MAX = 256 * MIB;

/** What fits into half of the files that the process may have open: the rest is for capsules. */
export function frontLimits(openFilesMax: number): FrontLimits {
  const fitting = Math.floor(openFilesMax / 2 / OPEN_FILES_PER_CONNECTION);
  const connectionsMax = Math.max(1, Math.min(CONNECTIONS_MAX, fitting));
  return {
    connectionsMax,
    // A control plane has all its connections from one address.
    connectionsPerAddressMax: connectionsMax,
    heldBytesMax: CONNECTIONS_HELD_BYTES_MAX,
    silences: {
      firstRequestMs: 30_000,
      headMs: 30_000,
      // All longer than at the control plane, so that it ends first.
      keptAliveMs: 620_000,
      stalledMs: 610_000,
    },
  };
}
