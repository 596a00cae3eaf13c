// The HTTP application: what every route has in common, then the routes of each noun.

import type { Server } from "bun";
import { Elysia } from "elysia";
import { type MeRoutesDeps, meRoutes } from "./accounts/me-routes.ts";
import { type AuthRoutesDeps, authRoutes } from "./accounts/routes.ts";
import { type AdministrationRoutesDeps, administrationRoutes } from "./administration/routes.ts";
import { type ApiKeyRoutesDeps, apiKeyRoutes } from "./api-keys/routes.ts";
import { type AuditRoutesDeps, auditRoutes } from "./audit/routes.ts";
import { BodySchemas } from "./body-schemas.ts";
import { type CapsuleMetricRouteDeps, capsuleMetricRoutes } from "./capsule-metrics/routes.ts";
import { type CapsuleRouteDeps, capsuleRoutes } from "./capsules/routes.ts";
import { type ChannelRoutesDeps, channelRoutes } from "./channels/routes.ts";
import { type DeletionRoutesDeps, deletionRoutes } from "./deletion/routes.ts";
import { type DeliveryRoutesDeps, deliveryRoutes } from "./deliveries/routes.ts";
import { docsRoutes } from "./docs/routes.ts";
import { createErrorHandler } from "./error-response.ts";
import { type EventStreamRouteDeps, eventStreamRoutes } from "./event-streams/routes.ts";
import { type EventRoutesDeps, eventRoutes } from "./events/routes.ts";
import { execRoutes } from "./exec/routes.ts";
import { type FileRouteDeps, fileRoutes } from "./files/routes.ts";
import { fileStreamRoutes } from "./files/stream-routes.ts";
import { healthRoutes } from "./health/routes.ts";
import { type HostRoutesDeps, hostRoutes } from "./hosts/routes.ts";
import { type LimitRoutesDeps, limitRoutes } from "./limits/routes.ts";
import type { Log } from "./log.ts";
import { type MetricsRoutesDeps, metricsRoutes } from "./metrics/routes.ts";
import { type OauthRoutesDeps, oauthRoutes } from "./oauth/routes.ts";
import { observeRequests } from "./request-log.ts";
import { noteServer } from "./request-origin.ts";
import { type SessionRoutesDeps, sessionRoutes } from "./sessions/routes.ts";
import {
  platformSnapshotRoutes,
  type SnapshotRouteDeps,
  snapshotRoutes,
} from "./snapshots/routes.ts";
import { type StreamRouteDeps, streamRoutes } from "./streams/routes.ts";
import { type InvitationRoutesDeps, invitationRoutes } from "./teams/invitation-routes.ts";
import { type MemberRoutesDeps, memberRoutes } from "./teams/member-routes.ts";
import { type TeamRoutesDeps, teamRoutes } from "./teams/routes.ts";
import { type UsageRouteDeps, usageRoutes } from "./usage/routes.ts";
import { type UserRoutesDeps, userRoutes } from "./users/routes.ts";
import { volumeRoutes } from "./volumes/routes.ts";

/** Routes that answer without credentials, as `METHOD path`. A test holds the app against this. */
export const PUBLIC_ROUTES: ReadonlySet<string> = new Set([
  "GET /health",
  "GET /openapi.json",
  "GET /openapi.yaml",
  "GET /docs",
  "GET /docs/start.js",
  "GET /docs/swagger-ui-bundle.js",
  "GET /docs/swagger-ui.css",
  "GET /docs/favicon.png",
  "POST /v1/auth/signup",
  "POST /v1/auth/signup/invited",
  "POST /v1/auth/activate",
  "POST /v1/auth/login",
  "GET /auth/oauth/:provider",
  "GET /auth/oauth/:provider/callback",
  "POST /v1/me/password/reset",
  "POST /v1/me/password/reset/confirm",
  "POST /v1/hosts/register",
  "POST /v1/hosts/auth/refresh",
]);

export interface Services
  extends AdministrationRoutesDeps,
    ApiKeyRoutesDeps,
    AuditRoutesDeps,
    AuthRoutesDeps,
    CapsuleMetricRouteDeps,
    CapsuleRouteDeps,
    ChannelRoutesDeps,
    DeletionRoutesDeps,
    DeliveryRoutesDeps,
    EventRoutesDeps,
    EventStreamRouteDeps,
    FileRouteDeps,
    HostRoutesDeps,
    InvitationRoutesDeps,
    LimitRoutesDeps,
    MemberRoutesDeps,
    MeRoutesDeps,
    MetricsRoutesDeps,
    OauthRoutesDeps,
    SessionRoutesDeps,
    SnapshotRouteDeps,
    StreamRouteDeps,
    TeamRoutesDeps,
    UsageRouteDeps,
    UserRoutesDeps {
  readonly log: Log;
  readonly version: string;
}

interface RoutedRequest {
  readonly request: Request;
  readonly route?: string;
  readonly server: Server<unknown> | null;
}

/** The application with all its routes; it neither listens nor starts anything. */
export function createApp(services: Services) {
  const api = apiRoutes(services);
  const bodySchemas = new BodySchemas();
  bodySchemas.learn(api.routes);
  const { log, metrics } = services;
  const requestLog = { log, requestIds: new WeakMap<Request, string>() };
  const routes = new WeakMap<Request, string>();
  const noteRoute = ({ request, route, server }: RoutedRequest) => {
    noteServer(server);
    if (route !== undefined) routes.set(request, route);
  };
  // Every request goes through `fetch`, so that what wraps it sees them all: Bun's own router, which
  // Elysia would fill, bypasses that. `normalize` (Elysia's default) drops unknown body fields, as
  // our clients expect, and keeps columns that no response schema names out of answers. With Elysia's idea of
  // a standard host name, one of less than four characters, as services have within a cluster, finds no route.
  return (
    new Elysia({ systemRouter: false, normalize: true, handler: { standardHostname: false } })
      .wrap(observeRequests({ ...requestLog, routes, metrics }))
      .onTransform({ as: "global" }, noteRoute)
      .onTransform({ as: "global" }, bodySchemas.require)
      // A body that cannot be read fails before that.
      .onError({ as: "global" }, noteRoute)
      .onError({ as: "global" }, createErrorHandler(requestLog))
      .use(api)
      .use(docsRoutes(api, services))
      .use(metricsRoutes(services))
  );
}

function apiRoutes(services: Services) {
  return new Elysia()
    .use(healthRoutes(services))
    .use(authRoutes(services))
    .use(sessionRoutes(services))
    .use(userRoutes(services))
    .use(meRoutes(services))
    .use(oauthRoutes(services))
    .use(teamRoutes(services))
    .use(memberRoutes(services))
    .use(invitationRoutes(services))
    .use(deletionRoutes(services))
    .use(administrationRoutes(services))
    .use(apiKeyRoutes(services))
    .use(hostRoutes(services))
    .use(limitRoutes(services))
    .use(usageRoutes(services))
    .use(auditRoutes(services))
    .use(snapshotRoutes(services))
    .use(volumeRoutes(services))
    .use(channelRoutes(services))
    .use(deliveryRoutes(services))
    .use(eventRoutes(services))
    .use(eventStreamRoutes(services))
    .use(new Elysia({ prefix: "/v1" }).use(capsuleApiRoutes(services)))
    .use(platformRoutes({ ...services, ofPlatform: true }));
}

/** What there is of a team's capsules, for the platform's own, which administrators act for. */
function platformRoutes(services: Services & { readonly ofPlatform: true }) {
  return new Elysia({ prefix: "/v1/admin" })
    .use(capsuleApiRoutes(services))
    .use(platformSnapshotRoutes(services));
}

export interface CapsuleApiDeps
  extends CapsuleRouteDeps,
    FileRouteDeps,
    CapsuleMetricRouteDeps,
    StreamRouteDeps {}

/** Capsules, and all that is done in one, below whatever prefix. */
export function capsuleApiRoutes(deps: CapsuleApiDeps) {
  return new Elysia()
    .use(capsuleRoutes(deps))
    .use(execRoutes(deps))
    .use(fileRoutes(deps))
    .use(capsuleMetricRoutes(deps))
    .use(streamRoutes(deps))
    .use(fileStreamRoutes(deps));
}

export type App = ReturnType<typeof createApp>;
