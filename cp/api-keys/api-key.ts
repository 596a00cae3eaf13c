// An API key as the control plane knows it.

import type { teamApiKeys } from "../db/tables.ts";

export type ApiKeyRow = typeof teamApiKeys.$inferSelect;
