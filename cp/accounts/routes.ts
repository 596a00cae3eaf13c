// POST /v1/auth/…: sign up, activate, log in, switch team.

import type { Server } from "bun";
import { Elysia } from "elysia";
import { assertOwnPage } from "../auth/own-origin.ts";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { setSessionCookies } from "../auth/session-cookies.ts";
import { clientAddress } from "../client-address.ts";
import { errors } from "../openapi/error-schema.ts";
import { readJsonBody } from "../request-body.ts";
import type { SessionClient } from "../sessions/session.ts";
import { parseId } from "../wire.ts";
import type { SignedIn } from "./account.ts";
import {
  Activate,
  Login,
  Session,
  Signup,
  SignupAccepted,
  SignupInvited,
  SwitchTeam,
  toSession,
} from "./schema.ts";
import type { Accounts } from "./service.ts";

export interface AuthRoutesDeps extends AuthDeps {
  readonly accounts: Accounts;
}

export function authRoutes(deps: AuthRoutesDeps) {
  const { accounts } = deps;
  const { ownOrigins } = deps.authenticator;
  return new Elysia({ prefix: "/v1/auth", tags: ["auth"] })
    .use(authPlugin(deps))
    .post(
      "/signup",
      async ({ body, request, server, status }) => {
        await accounts.signUp({ ...body, address: clientAddress(request, server) });
        return status(201, { message: "account created: open the link in the activation mail" });
      },
      {
        parse: readJsonBody,
        body: Signup,
        response: {
          201: SignupAccepted,
          ...errors("invalid_request", "email_taken", "signup_cooldown", "rate_limited"),
        },
        detail: { summary: "Sign up with mail and password" },
      },
    )
    .post(
      "/signup/invited",
      async ({ body, request, server, set }) => {
        assertOwnPage(request, ownOrigins);
        const client = clientOf(request, server);
        return answer(await accounts.signUpInvited({ ...body, client }), request, set);
      },
      {
        parse: readJsonBody,
        body: SignupInvited,
        response: {
          200: Session,
          ...errors(
            ...(["invalid_request", "invalid_token", "forbidden"] as const),
            ...(["email_taken", "conflict", "rate_limited"] as const),
          ),
        },
        detail: { summary: "Sign up with the token of an invitation, and log in to that team" },
      },
    )
    .post(
      "/activate",
      async ({ body, request, server, set }) => {
        assertOwnPage(request, ownOrigins);
        const signedIn = await accounts.activate(body.token, clientOf(request, server));
        return answer(signedIn, request, set);
      },
      {
        parse: readJsonBody,
        body: Activate,
        response: {
          200: Session,
          ...errors(
            "invalid_request",
            "invalid_token",
            "already_activated",
            "forbidden",
            "rate_limited",
          ),
        },
        detail: { summary: "Activate an account with the token that was mailed, and log in" },
      },
    )
    .post(
      "/login",
      async ({ body, request, server, set }) => {
        assertOwnPage(request, ownOrigins);
        const client = clientOf(request, server);
        return answer(await accounts.logIn({ ...body, client }), request, set);
      },
      {
        parse: readJsonBody,
        body: Login,
        response: {
          200: Session,
          ...errors(
            "invalid_request",
            "unauthorized",
            "account_not_activated",
            "account_disabled",
            "rate_limited",
          ),
        },
        detail: { summary: "Log in with mail and password" },
      },
    )
    .post(
      "/switch-team",
      async ({ user, body, request, server, set }) => {
        const teamId = parseId("team", body.team_id, "team_id");
        const client = clientOf(request, server);
        return answer(await accounts.switchTeam(user, { teamId, client }), request, set);
      },
      {
        user: true,
        body: SwitchTeam,
        response: {
          200: Session,
          ...errors("invalid_request", "unauthorized", "forbidden", "not_found"),
        },
        detail: { summary: "Change your session into one of another of your teams" },
      },
    );
}

interface Headers {
  readonly headers: Record<string, unknown>;
}

/** For a browser the cookies, for a program the token. */
function answer(signedIn: SignedIn, request: Request, { headers }: Headers) {
  headers["set-cookie"] = setSessionCookies(request, signedIn.session);
  headers["cache-control"] = "no-store";
  return toSession(signedIn);
}

function clientOf(
  request: Request,
  server: Pick<Server<unknown>, "requestIP"> | null,
): SessionClient {
  const userAgent = request.headers.get("user-agent") ?? "";
  return { userAgent, address: clientAddress(request, server) };
}
