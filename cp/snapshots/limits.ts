// Bounds of snapshots.

/** What one answer lists. A team with more templates than this needs pages first. */
export const TEMPLATES_LISTED_MAX = 1000;
/** Pages of templates, and how far one may leaf through them. */
export const PER_PAGE_DEFAULT = 50;
export const PER_PAGE_MAX = 200;
export const PAGE_MAX = 1_000_000;
/** A slug, a slash and a name have 105. */
export const SEARCH_LENGTH_MAX = 128;
