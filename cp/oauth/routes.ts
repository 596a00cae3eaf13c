// GET /auth/oauth/…: to a provider and back; /v1/me/providers/…: what is connected to one's account.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import {
  clearOauthCookie,
  newSignupCookie,
  oauthBinding,
  setOauthCookie,
  setSessionCookies,
} from "../auth/session-cookies.ts";
import { clientAddress } from "../client-address.ts";
import { errors } from "../openapi/error-schema.ts";
import { CallbackQuery, ConnectStarted, ProviderParams, StartQuery } from "./schema.ts";
import type { Oauth, OauthOutcome } from "./service.ts";

export interface OauthRoutesDeps extends AuthDeps {
  readonly oauth: Oauth;
  /** Where our pages are, without a trailing slash. */
  readonly pagesUrl: string;
}

/** Neither codes nor what leads to them belong into caches and other pages' logs. */
const PRIVATE = { "cache-control": "no-store", "referrer-policy": "no-referrer" };

export function oauthRoutes(deps: OauthRoutesDeps) {
  const { oauth, pagesUrl } = deps;
  return new Elysia({ tags: ["auth"] })
    .use(authPlugin(deps))
    .get(
      "/auth/oauth/:provider",
      async ({ params, query, request, server, set }) => {
        const { intent = "login" } = query;
        const address = clientAddress(request, server);
        const { url, binding } = await oauth.start(params.provider, { intent, address });
        Object.assign(set.headers, PRIVATE, { location: url });
        set.headers["set-cookie"] = [setOauthCookie(request, binding)];
        // Elysia gives a `status(302)` without a body one.
        set.status = 302;
      },
      {
        params: ProviderParams,
        query: StartQuery,
        response: {
          302: Type.Void(),
          ...errors(
            ...(["invalid_request", "provider_not_found"] as const),
            ...(["rate_limited", "service_unavailable"] as const),
          ),
        },
        detail: { summary: "Go to a provider, to sign in or up by it" },
      },
    )
    .get(
      "/auth/oauth/:provider/callback",
      async ({ params, request, server, set }) => {
        const userAgent = request.headers.get("user-agent") ?? "";
        const outcome = await oauth.finish({
          provider: params.provider,
          query: new URL(request.url).search,
          binding: oauthBinding(request),
          client: { userAgent, address: clientAddress(request, server) },
        });
        const location = pageOf(outcome, { pagesUrl, provider: params.provider });
        Object.assign(set.headers, PRIVATE, { location });
        set.headers["set-cookie"] = [
          clearOauthCookie(request),
          ...(outcome.kind === "signedIn" ? cookiesOf(outcome, request) : []),
        ];
        // Elysia gives a `status(302)` without a body one.
        set.status = 302;
      },
      {
        params: ProviderParams,
        query: CallbackQuery,
        response: { 302: Type.Void(), ...errors("invalid_request") },
        detail: { summary: "Come back from a provider" },
      },
    )
    .get(
      "/v1/me/providers/:provider/connect",
      async ({ user, params, request, set }) => {
        const { url, binding } = await oauth.connect(params.provider, user);
        set.headers["set-cookie"] = [setOauthCookie(request, binding)];
        set.headers["cache-control"] = "no-store";
        return { auth_url: url };
      },
      {
        user: true,
        params: ProviderParams,
        response: {
          200: ConnectStarted,
          ...errors(
            ...(["invalid_request", "unauthorized", "account_deactivated"] as const),
            ...(["provider_not_found", "rate_limited", "service_unavailable"] as const),
          ),
        },
        detail: { summary: "Begin to connect a provider to your account" },
      },
    )
    .delete(
      "/v1/me/providers/:provider",
      async ({ user, params, status }) => {
        await oauth.disconnect(params.provider, user.id);
        return status(204, undefined);
      },
      {
        user: true,
        params: ProviderParams,
        response: {
          204: Type.Void(),
          ...errors(
            ...(["invalid_request", "last_login_method", "unauthorized"] as const),
            ...(["account_deactivated", "not_found"] as const),
          ),
        },
        detail: { summary: "Disconnect a provider from your account" },
      },
    );
}

function cookiesOf(
  { signedIn, isNew }: Extract<OauthOutcome, { kind: "signedIn" }>,
  request: Request,
): string[] {
  const session = setSessionCookies(request, signedIn.session);
  return isNew ? [...session, newSignupCookie(request)] : session;
}

/** Of ours, whatever the browser or the provider said. */
function pageOf(outcome: OauthOutcome, at: { pagesUrl: string; provider: string }): string {
  const provider = encodeURIComponent(at.provider);
  const settings = `${at.pagesUrl}/dashboard/settings`;
  const signIn = `${at.pagesUrl}/auth/${provider}/callback`;
  switch (outcome.kind) {
    case "signedIn":
      return signIn;
    case "connected":
      return `${settings}?connected=${provider}`;
    case "failed":
      return outcome.isConnect
        ? `${settings}?connect_error=${outcome.failure}`
        : `${signIn}?error=${outcome.failure}`;
  }
}
