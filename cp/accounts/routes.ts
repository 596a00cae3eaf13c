// POST /v1/auth/…: sign up, activate, log in, switch team.

import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { clientAddress } from "../client-address.ts";
import { errors } from "../openapi/error-schema.ts";
import { readJsonBody } from "../request-body.ts";
import { parseId } from "../wire.ts";
import {
  Activate,
  Login,
  Session,
  Signup,
  SignupAccepted,
  SwitchTeam,
  toSession,
} from "./schema.ts";
import type { Accounts } from "./service.ts";

export interface AuthRoutesDeps extends AuthDeps {
  readonly accounts: Accounts;
}

export function authRoutes(deps: AuthRoutesDeps) {
  const { accounts } = deps;
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
    .post("/activate", async ({ body }) => toSession(await accounts.activate(body.token)), {
      parse: readJsonBody,
      body: Activate,
      response: {
        200: Session,
        ...errors("invalid_request", "invalid_token", "already_activated"),
      },
      detail: { summary: "Activate an account with the token that was mailed" },
    })
    .post(
      "/login",
      async ({ body, request, server }) => {
        const address = clientAddress(request, server);
        return toSession(await accounts.logIn({ ...body, address }));
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
      async ({ user, body }) => {
        const teamId = parseId("team", body.team_id, "team_id");
        return toSession(await accounts.switchTeam(user, teamId));
      },
      {
        user: true,
        body: SwitchTeam,
        response: {
          200: Session,
          ...errors("invalid_request", "unauthorized", "forbidden", "not_found"),
        },
        detail: { summary: "Get a token for another of your teams" },
      },
    );
}
