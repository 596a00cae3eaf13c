// GitHub, which is no OpenID provider: OAuth 2.0 with PKCE, then two questions to its REST API
// (docs.github.com: "Authorizing OAuth apps", "REST API endpoints for users" and "… for emails").

import { type Static, Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import {
  allowInsecureRequests,
  ClientSecretPost,
  Configuration,
  fetchProtectedResource,
} from "openid-client";
import type { GithubSettings } from "../oauth-settings.ts";
import { type Identity, type OauthProvider, PROVIDER_TIMEOUT_SEC } from "./provider.ts";

const HEADERS = {
  accept: "application/vnd.github+json",
  "user-agent": "wrenn",
  "x-github-api-version": "2022-11-28",
};

const User = Type.Object({
  id: Type.Integer(),
  login: Type.String(),
  name: Type.Optional(Type.Union([Type.String(), Type.Null()])),
});
const Emails = Type.Array(
  Type.Object({ email: Type.String(), primary: Type.Boolean(), verified: Type.Boolean() }),
);

export function openGithub({ url, clientId, clientSecret }: GithubSettings): OauthProvider {
  const endpoints = {
    issuer: url,
    authorization_endpoint: `${url}/login/oauth/authorize`,
    token_endpoint: `${url}/login/oauth/access_token`,
  };
  const api = url === "https://github.com" ? "https://api.github.com" : `${url}/api/v3`;
  const config = new Configuration(endpoints, clientId, {}, ClientSecretPost(clientSecret));
  config.timeout = PROVIDER_TIMEOUT_SEC;
  if (url.startsWith("http:")) allowInsecureRequests(config);

  async function ask<Schema extends typeof User | typeof Emails>(
    schema: Schema,
    path: string,
    accessToken: string,
  ): Promise<Static<Schema>> {
    const headers = new Headers(HEADERS);
    const at = new URL(`${api}${path}`);
    const response = await fetchProtectedResource(config, accessToken, at, "GET", null, headers);
    if (!response.ok) throw new Error(`GitHub answered ${response.status} to ${path}`);
    return Value.Parse(schema, await response.json());
  }

  return {
    ...{ name: "github", scope: "read:user user:email", isOpenId: false },
    configuration: async () => config,
    async identity(accessToken): Promise<Identity> {
      const user = await ask(User, "/user", accessToken);
      const emails = await ask(Emails, "/user/emails?per_page=100", accessToken);
      const own = emails.find(({ primary, verified }) => primary && verified);
      return {
        providerId: String(user.id),
        verifiedEmail: own?.email ?? null,
        name: user.name || user.login,
      };
    },
  };
}
