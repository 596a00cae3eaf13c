// What people change of their own account: its name and its password.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { clearSessionCookies } from "../auth/session-cookies.ts";
import { clientAddress } from "../client-address.ts";
import { errors } from "../openapi/error-schema.ts";
import { readJsonBody } from "../request-body.ts";
import type { Passwords } from "./passwords.ts";
import { ChangePassword, ConfirmReset, RequestReset, UpdateMe } from "./schema.ts";
import type { Accounts } from "./service.ts";

export interface MeRoutesDeps extends AuthDeps {
  readonly accounts: Accounts;
  readonly passwords: Passwords;
}

const DONE = Type.Void();

export function meRoutes(deps: MeRoutesDeps) {
  const { accounts, passwords } = deps;
  return new Elysia({ prefix: "/v1/me", tags: ["users"] })
    .use(authPlugin(deps))
    .patch(
      "",
      async ({ user, body, status }) => {
        await accounts.rename(user, body.name);
        return status(204, undefined);
      },
      {
        user: true,
        body: UpdateMe,
        response: {
          204: DONE,
          ...errors("invalid_request", "unauthorized", "account_deactivated"),
        },
        detail: { summary: "Change your name" },
      },
    )
    .post(
      "/password",
      async ({ user, body, request, set, status }) => {
        await passwords.change(user.id, {
          current: body.current_password,
          next: body.new_password,
          again: body.confirm_password,
        });
        set.headers["set-cookie"] = clearSessionCookies(request);
        return status(204, undefined);
      },
      {
        user: true,
        body: ChangePassword,
        response: {
          204: DONE,
          ...errors("invalid_request", "unauthorized", "account_deactivated", "rate_limited"),
        },
        detail: { summary: "Change your password, or add one; it ends all your sessions" },
      },
    )
    .post(
      "/password/reset",
      async ({ body, request, server, status }) => {
        const address = clientAddress(request, server);
        await passwords.requestReset({ email: body.email, address });
        return status(204, undefined);
      },
      {
        parse: readJsonBody,
        body: RequestReset,
        response: { 204: DONE, ...errors("invalid_request", "rate_limited") },
        detail: { summary: "Have a code mailed that resets the password of an account" },
      },
    )
    .post(
      "/password/reset/confirm",
      async ({ body, request, server, status }) => {
        const address = clientAddress(request, server);
        await passwords.reset({ token: body.token, next: body.new_password, address });
        return status(204, undefined);
      },
      {
        parse: readJsonBody,
        body: ConfirmReset,
        response: { 204: DONE, ...errors("invalid_request", "invalid_token", "rate_limited") },
        detail: { summary: "Reset a password with the code that was mailed; it ends all sessions" },
      },
    );
}
