// Bounds of snapshots.

/** What one answer lists. A team with more templates than this needs pages first. */
export const TEMPLATES_LISTED_MAX = 1000;
