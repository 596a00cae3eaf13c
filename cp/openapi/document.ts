// The OpenAPI document: written by @elysiajs/swagger from the routes' schemas, then mended.

import { swagger } from "@elysiajs/swagger";
import { type AnyElysia, Elysia } from "elysia";
import { describeCommon } from "./common-answers.ts";
import { mendDocument } from "./mend.ts";

const SPEC_PATH = "/openapi.json";

const DESCRIPTION = `Runs untrusted code in microVMs.

Programs send an API key in \`X-API-Key\`; if it has scopes, the route's \`x-scope\` must be among them. People log in
and send the token they get as bearer. Pages have the cookies that a login sets, and send the value of \`wrenn_csrf\`
in \`X-CSRF-Token\` with whatever is no \`GET\`; behind TLS the names of both begin with \`__Host-\`.
Errors are \`{"error": {"code", "reason", "message", "retryable", "request_id"}}\`.
A path may be prefixed with \`/api\`.`;

const SECURITY_SCHEMES = {
  apiKey: { type: "apiKey", in: "header", name: "X-API-Key" },
  session: { type: "apiKey", in: "cookie", name: "wrenn_sid" },
  bearer: { type: "http", scheme: "bearer", bearerFormat: "JWT" },
  hostToken: { type: "apiKey", in: "header", name: "X-Host-Token" },
} as const;

export type OpenApiDocument = ReturnType<typeof mendDocument>;

/** Describes every route that isn't hidden. */
export async function describeApi(
  routes: AnyElysia,
  { version }: { version: string },
): Promise<OpenApiDocument> {
  const generator = swagger({
    specPath: SPEC_PATH,
    excludeStaticFile: false,
    documentation: {
      info: { title: "Wrenn", version, description: DESCRIPTION },
      components: { securitySchemes: SECURITY_SCHEMES },
    },
  });
  const described = new Elysia().use(generator).use(routes);
  const response = await described.handle(new Request(`http://localhost${SPEC_PATH}`));
  return describeCommon(mendDocument(JSON.parse(await response.text())));
}
