// A session as the control plane knows it.

import type { sessions } from "../db/tables.ts";

export type SessionRow = typeof sessions.$inferSelect;

/** Where a session is begun from. */
export interface SessionClient {
  readonly userAgent: string;
  readonly address: string;
}

/** What its holder gets to know, once. */
export interface NewSession {
  readonly id: string;
  /** For the browser's cookie. */
  readonly secret: string;
  readonly csrfToken: string;
}
