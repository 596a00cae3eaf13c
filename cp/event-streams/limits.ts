// Bounds of the streams of events.

/** Streams of one control plane, and of one team on it: a page of a dashboard has one. */
export const STREAMS_MAX = 5000;
export const STREAMS_PER_TEAM_MAX = 100;

/** Events that wait for a client; what comes meanwhile is read again for one that is further behind. */
export const EVENTS_QUEUED_MAX = 64;

/** How long a client may take nothing while something waits for it. */
export const STALL_MS_MAX = 60_000;

/** Clients in one pass for which alone something is read. */
export const CATCHING_UP_MAX = 50;

/** Said to a client in silence, before its proxies think that it is gone. */
export const KEEPALIVE_MS = 30_000;

/** Of one reading of the table; another follows at once where that was not all. */
export const EVENTS_READ_MAX = 1000;
