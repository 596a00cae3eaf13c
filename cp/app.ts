// The HTTP application: what every route has in common, then the routes of each noun.

import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "./auth/plugin.ts";
import { createErrorHandler } from "./error-response.ts";
import type { Log } from "./log.ts";
import { observeRequests } from "./request-log.ts";

/** Routes that answer without credentials, as `METHOD path`. A test holds the app against this. */
export const PUBLIC_ROUTES: ReadonlySet<string> = new Set(["GET /health"]);

export interface Services extends AuthDeps {
  readonly log: Log;
  readonly version: string;
}

/** The application with all its routes; it neither listens nor starts anything. */
export function createApp(services: Services) {
  // Every request goes through `fetch`, so that what wraps it sees them all: Bun's own router, which
  // Elysia would fill, bypasses that. `normalize` (Elysia's default) drops unknown body fields, as
  // our clients expect, and keeps columns that no response schema names out of answers.
  return new Elysia({ systemRouter: false, normalize: true })
    .wrap(observeRequests(services.log))
    .onError({ as: "global" }, createErrorHandler(services.log))
    .use(authPlugin(services));
}

export type App = ReturnType<typeof createApp>;
