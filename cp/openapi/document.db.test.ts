import { beforeAll, expect, test } from "bun:test";
import { Validator } from "@seriousme/openapi-schema-validator";
import { parse } from "yaml";
import { AccountsPlatform } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";

interface Operation {
  readonly operationId: string;
  readonly summary?: string;
  readonly security?: readonly Record<string, unknown>[];
  readonly responses: Record<string, { readonly description: string }>;
}

const platform = await forThisFile(AccountsPlatform.start());
let text: string;
beforeAll(async () => {
  text = await get("/openapi.json").then((response) => response.text());
});

const get = (path: string) => platform.app.handle(new Request(`http://localhost${path}`));

function operations(): [string, Operation][] {
  const { paths } = JSON.parse(text) as { paths: Record<string, Record<string, Operation>> };
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, Operation] => [
      `${method.toUpperCase()} ${path}`,
      operation,
    ]),
  );
}

test("an independent validator accepts the document", async () => {
  const { valid, errors } = await new Validator().validate(JSON.parse(text));

  expect({ valid, errors }).toEqual({ valid: true, errors: undefined });
});

// What clients see changes only on purpose: `bun test -u` writes the new one, and review reads it.
test("the document is the one that was reviewed", () => {
  expect(JSON.parse(text)).toMatchSnapshot();
});

// Elysia changes schemas when it first serves a route; the description must not depend on that.
test("the document is the same after every route was served", async () => {
  await using other = await AccountsPlatform.start();
  const serve = (path: string, method = "GET") =>
    other.app.handle(new Request(`http://localhost${path}`, { method }));
  for (const { method, path } of other.app.routes) {
    if (!path.startsWith("/openapi")) await serve(path, method);
  }

  expect(await (await serve("/openapi.json")).json()).toEqual(JSON.parse(text));
});

test("the YAML says the same as the JSON", async () => {
  const response = await get("/openapi.yaml");

  expect(response.headers.get("content-type")).toBe("application/yaml");
  expect(parse(await response.text())).toEqual(JSON.parse(text));
});

test("every operation has a name of its own, a summary, a success and the form of its failures", () => {
  const all = operations();
  const incomplete = all.filter(
    ([name, { summary, responses }]) =>
      summary === undefined ||
      responses.default === undefined ||
      // Volumes are to come: until then they succeed in nothing.
      !Object.keys(responses).some((status) =>
        name.includes("/v1/volumes") ? status === "501" : /^2|^101$|^302$/.test(status),
      ),
  );

  expect(incomplete.map(([name]) => name)).toEqual([]);
  expect(new Set(all.map(([, { operationId }]) => operationId)).size).toBe(all.length);
});

test("every operation that needs credentials says which", () => {
  const open = operations().filter(([, { security }]) => security === undefined);

  expect(open.map(([name]) => name).sort()).toEqual([
    "GET /auth/oauth/{provider}",
    "GET /auth/oauth/{provider}/callback",
    "GET /health",
    "POST /v1/auth/activate",
    "POST /v1/auth/login",
    "POST /v1/auth/signup",
    "POST /v1/auth/signup/invited",
    "POST /v1/hosts/auth/refresh",
    "POST /v1/hosts/register",
    "POST /v1/me/password/reset",
    "POST /v1/me/password/reset/confirm",
  ]);
});

test("nothing of JSON Schema that OpenAPI 3.0 doesn't know is left", () => {
  expect(text).not.toMatch(/"(const|patternProperties|\$id|type":"null)"/);
});
