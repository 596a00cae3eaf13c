// The API's description: GET /openapi.json, /openapi.yaml, and /docs for people.

import { Type } from "@sinclair/typebox";
import { file } from "bun";
import { type AnyElysia, Elysia } from "elysia";
import favicon from "swagger-ui-dist/favicon-32x32.png" with { type: "file" };
import styles from "swagger-ui-dist/swagger-ui.css" with { type: "file" };
import bundle from "swagger-ui-dist/swagger-ui-bundle.js" with { type: "file" };
import { stringify } from "yaml";
import { describeApi } from "../openapi/document.ts";
import { DOCS_CONTENT_SECURITY_POLICY, DOCS_PAGE, DOCS_START_SCRIPT } from "./page.ts";

/** The files change only with the program, whose next version a visitor should get within the hour. */
const CACHE_CONTROL = "public, max-age=3600";

const hidden = { detail: { hide: true }, response: { 200: Type.Any() } };

/** `api` is what is described. Each text is made when first asked for, then kept. */
export function docsRoutes(api: AnyElysia, { version }: { version: string }) {
  const document = once(() => describeApi(api, { version }));
  const json = once(async () => JSON.stringify(await document()));
  const yaml = once(async () => stringify(await document(), { aliasDuplicateObjects: false }));

  return new Elysia()
    .get("/openapi.json", async () => answer(await json(), "application/json"), hidden)
    .get("/openapi.yaml", async () => answer(await yaml(), "application/yaml"), hidden)
    .get(
      "/docs",
      () =>
        new Response(DOCS_PAGE, {
          headers: {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": DOCS_CONTENT_SECURITY_POLICY,
            "X-Content-Type-Options": "nosniff",
          },
        }),
      hidden,
    )
    .get("/docs/start.js", () => answer(DOCS_START_SCRIPT, "text/javascript"), hidden)
    .get("/docs/swagger-ui-bundle.js", () => answer(file(bundle), "text/javascript"), hidden)
    .get("/docs/swagger-ui.css", () => answer(file(styles), "text/css"), hidden)
    .get("/docs/favicon.png", () => answer(file(favicon), "image/png"), hidden);
}

function answer(body: string | Blob, contentType: string): Response {
  return new Response(body, {
    headers: { "Content-Type": contentType, "Cache-Control": CACHE_CONTROL },
  });
}

function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | null = null;
  return () => {
    made ??= make();
    return made;
  };
}
