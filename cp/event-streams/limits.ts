// Bounds of the streams of events.

/** Streams of one control plane, and of one team on it: a page of a dashboard has one. */
export const STREAMS_MAX = 5000;
export const STREAMS_PER_TEAM_MAX = 100;

/** Events that wait for a client; one that is further behind loses what comes meanwhile. */
export const EVENTS_QUEUED_MAX = 32;

/** Said to a client in silence, before its proxies think that it is gone. */
export const KEEPALIVE_MS = 30_000;

/** Of one reading of the table; another follows at once where that was not all. */
export const EVENTS_READ_MAX = 1000;

/** How long an event may follow one of a higher number: the longest transaction that records one. */
export const LATE_MS_MAX = 30_000;
/** Numbers that may still come; they are of transactions under way, or of some that failed. */
export const LATE_MAX = 1000;
