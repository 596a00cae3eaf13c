// /v1/hosts: for those who run hosts, and for the agents on them.

import { Type } from "@sinclair/typebox";
import { Elysia } from "elysia";
import { type AuthDeps, authPlugin } from "../auth/plugin.ts";
import { AppError } from "../errors.ts";
import { errors } from "../openapi/error-schema.ts";
import { readJsonBody } from "../request-body.ts";
import { parseId } from "../wire.ts";
import {
  CreateHost,
  Host,
  HostCredentials,
  HostList,
  HostParams,
  HostWithRegistrationToken,
  RefreshHost,
  RegisterHost,
  toHost,
  toHostFacts,
  toNewHost,
} from "./schema.ts";
import type { Hosts, HostCredentials as IssuedCredentials } from "./service.ts";

export interface HostRoutesDeps extends AuthDeps {
  readonly hosts: Hosts;
}

export function hostRoutes(deps: HostRoutesDeps) {
  return new Elysia({ prefix: "/v1/hosts", tags: ["hosts"] })
    .use(operatorRoutes(deps))
    .use(agentRoutes(deps));
}

function operatorRoutes(deps: HostRoutesDeps) {
  const { hosts } = deps;
  return new Elysia()
    .use(authPlugin(deps))
    .post(
      "",
      async ({ user, body, status }) => {
        const { host, teamName, registrationToken } = await hosts.create(toNewHost(body), user);
        const answer = { host: toHost(host, teamName), registration_token: registrationToken };
        return status(201, answer);
      },
      {
        user: true,
        body: CreateHost,
        response: {
          201: HostWithRegistrationToken,
          ...errors("invalid_request", "unauthorized", "forbidden"),
        },
        detail: { summary: "Announce a host and get its registration token" },
      },
    )
    .get(
      "",
      async ({ user }) => {
        const found = await hosts.list(user);
        return found.map(({ host, teamName }) => toHost(host, teamName));
      },
      {
        user: true,
        response: { 200: HostList, ...errors("unauthorized", "account_deactivated") },
        detail: { summary: "List the hosts you may see" },
      },
    )
    .get(
      "/:id",
      async ({ user, params }) => {
        const { host, teamName } = await hosts.find(parseId("host", params.id, "id"), user);
        return toHost(host, teamName);
      },
      {
        user: true,
        params: HostParams,
        response: {
          200: Host,
          ...errors("invalid_request", "unauthorized", "account_deactivated", "not_found"),
        },
        detail: { summary: "Show a host" },
      },
    )
    .post(
      "/:id/token",
      async ({ user, params, status }) => {
        const id = parseId("host", params.id, "id");
        const { host, teamName, registrationToken } = await hosts.regenerateToken(id, user);
        const answer = { host: toHost(host, teamName), registration_token: registrationToken };
        return status(201, answer);
      },
      {
        user: true,
        params: HostParams,
        response: {
          201: HostWithRegistrationToken,
          ...errors("invalid_request", "unauthorized", "forbidden", "not_found"),
        },
        detail: { summary: "Get another registration token for a host that has no credentials" },
      },
    );
}

function agentRoutes(deps: HostRoutesDeps) {
  const { hosts } = deps;
  return new Elysia()
    .use(authPlugin(deps))
    .post(
      "/register",
      async ({ body, status }) => {
        const { token, csr } = body;
        const registered = await hosts.register(token, { csr, facts: toHostFacts(body) });
        return status(201, toCredentials(registered));
      },
      {
        parse: readJsonBody,
        body: RegisterHost,
        response: { 201: HostCredentials, ...errors("invalid_request", "unauthorized") },
        detail: { summary: "Trade a registration token for an agent's credentials" },
      },
    )
    .post(
      "/auth/refresh",
      async ({ body }) => toCredentials(await hosts.refresh(body.refresh_token, body.csr)),
      {
        parse: readJsonBody,
        body: RefreshHost,
        response: { 200: HostCredentials, ...errors("invalid_request", "unauthorized") },
        detail: { summary: "Trade a refresh token for the next pair of credentials" },
      },
    )
    .post(
      "/:id/heartbeat",
      async ({ host, params, status }) => {
        if (parseId("host", params.id, "id") !== host.hostId) {
          throw new AppError("forbidden", "the token is another host's");
        }
        await hosts.heartbeat(host);
        return status(204, undefined);
      },
      {
        host: true,
        params: HostParams,
        response: {
          204: Type.Void(),
          ...errors("invalid_request", "unauthorized", "forbidden", "not_found"),
        },
        detail: { summary: "Tell that the agent is alive" },
      },
    );
}

function toCredentials({ host, teamName, token, refreshToken, ...pem }: IssuedCredentials) {
  return {
    host: toHost(host, teamName),
    token,
    refresh_token: refreshToken,
    cert_pem: pem.certPem,
    ca_cert_pem: pem.trustedPem,
  };
}
