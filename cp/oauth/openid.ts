// Any OpenID Connect provider: its issuer's URL tells the rest (OpenID Connect Discovery 1.0).

import { Type } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import {
  allowInsecureRequests,
  type Configuration,
  discovery,
  enableNonRepudiationChecks,
  fetchUserInfo,
} from "openid-client";
import type { OpenidSettings } from "../oauth-settings.ts";
import { type Identity, type OauthProvider, PROVIDER_TIMEOUT_SEC } from "./provider.ts";

const Claims = Type.Object({
  email: Type.Optional(Type.String()),
  email_verified: Type.Optional(Type.Unknown()),
  name: Type.Optional(Type.String()),
  preferred_username: Type.Optional(Type.String()),
});

export function openOpenid({
  name,
  issuer,
  clientId,
  clientSecret,
}: OpenidSettings): OauthProvider {
  let known: Promise<Configuration> | null = null;

  function configuration(): Promise<Configuration> {
    // The signature of an ID token is checked, though it comes over TLS.
    const isInsecure = issuer.startsWith("http:");
    const execute = [enableNonRepudiationChecks, ...(isInsecure ? [allowInsecureRequests] : [])];
    known ??= discovery(new URL(issuer), clientId, clientSecret, undefined, {
      ...{ execute, timeout: PROVIDER_TIMEOUT_SEC },
    }).catch((error) => {
      known = null;
      throw error;
    });
    return known;
  }

  return {
    ...{ name, scope: "openid email profile", isOpenId: true, configuration },
    async identity(accessToken, subject): Promise<Identity> {
      if (subject === null) throw new Error("unreachable: an ID token was asked for");
      const info = await fetchUserInfo(await configuration(), accessToken, subject);
      const claims = Value.Parse(Claims, info);
      const { email, email_verified: isVerified } = claims;
      return {
        providerId: subject,
        // A provider that says "true" in words has not said it (OpenID Connect Core 1.0, 5.1).
        verifiedEmail: isVerified === true && email !== undefined ? email : null,
        name: claims.name || claims.preferred_username || "",
      };
    },
  };
}
