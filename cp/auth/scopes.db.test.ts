// What keys with scopes may do: every route of a team's resources says which scope it asks for.

import { beforeAll, expect, test } from "bun:test";
import { AccountsPlatform } from "../../tests/harness/accounts-platform.ts";
import { forThisFile } from "../../tests/harness/for-this-file.ts";
import { RIGHT_BODIES } from "../../tests/harness/right-bodies.ts";
import { KEY_SCOPES } from "../db/tables.ts";
import type { Scope } from "./authenticator.ts";

const platform = await forThisFile(AccountsPlatform.start());

/** A route without a row here fails the first test. */
const SCOPES: Readonly<Record<string, Scope>> = {
  "POST /v1/capsules": "write",
  "GET /v1/capsules": "read",
  "GET /v1/capsules/:id": "read",
  "DELETE /v1/capsules/:id": "write",
  "POST /v1/capsules/:id/ping": "write",
  "POST /v1/capsules/:id/pause": "write",
  "POST /v1/capsules/:id/resume": "write",
  "POST /v1/capsules/:id/fork": "write",
  "POST /v1/capsules/:id/exec": "exec",
  "GET /v1/capsules/:id/processes": "read",
  "DELETE /v1/capsules/:id/processes/:selector": "exec",
  "GET /v1/capsules/:id/exec/stream": "exec",
  "GET /v1/capsules/:id/processes/:selector/stream": "exec",
  "GET /v1/capsules/:id/pty": "exec",
  "POST /v1/capsules/:id/files/write": "write",
  "POST /v1/capsules/:id/files/read": "read",
  "POST /v1/capsules/:id/files/list": "read",
  "POST /v1/capsules/:id/files/mkdir": "write",
  "POST /v1/capsules/:id/files/remove": "write",
  "POST /v1/capsules/:id/files/stream/write": "write",
  "POST /v1/capsules/:id/files/stream/read": "read",
  "GET /v1/capsules/:id/metrics": "read",
  "GET /v1/capsules/stats": "read",
  "GET /v1/capsules/usage": "read",
  "GET /v1/usage/capsules": "read",
  "GET /v1/limits": "read",
  "POST /v1/snapshots": "write",
  "GET /v1/snapshots": "read",
  "PATCH /v1/snapshots/:name": "write",
  "PATCH /v1/snapshots/:name/visibility": "admin",
  "DELETE /v1/snapshots/:name": "write",
  "POST /v1/volumes": "write",
  "GET /v1/volumes": "read",
  "GET /v1/volumes/:name": "read",
  "DELETE /v1/volumes/:name": "write",
  "GET /v1/events": "read",
  "GET /v1/events/stream": "read",
};

interface Detail {
  readonly security?: readonly Record<string, unknown>[];
  readonly "x-scope"?: string;
}

let token: string;
beforeAll(async () => {
  ({ token } = await platform.person());
});

/** Routes that take a key. */
const keyed = () =>
  platform.app.routes.flatMap(({ method, path, hooks }) => {
    const detail: Detail = hooks.detail ?? {};
    const takesKeys = detail.security?.some((scheme) => "apiKey" in scheme) === true;
    return takesKeys ? [{ name: `${method} ${path}`, method, path, scope: detail["x-scope"] }] : [];
  });

async function keyWith(scopes: readonly Scope[]): Promise<string> {
  const { body } = await platform.call("POST", "/v1/api-keys", { token, body: { scopes } });
  return body.key;
}

async function ask(
  { name, method, path }: { name: string; method: string; path: string },
  key: string,
) {
  const body = RIGHT_BODIES[name];
  const url = `http://localhost${path.replaceAll(/:\w+/g, "x")}`;
  const response = await platform.app.handle(
    new Request(url, {
      method,
      headers: { "x-api-key": key },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }),
  );
  const isEndless = response.headers.get("content-type") === "text/event-stream";
  if (isEndless) await response.body?.cancel();
  const { error } = isEndless ? {} : JSON.parse(await response.text());
  return { status: response.status, reason: error?.reason, scope: error?.details?.scope };
}

test("every route that takes a key says which scope it asks for", () => {
  expect(Object.fromEntries(keyed().map(({ name, scope }) => [name, scope]))).toEqual({
    ...SCOPES,
  });
});

test("a key without the scope is refused everywhere, telling which; one with nothing else is not", async () => {
  for (const scope of KEY_SCOPES) {
    const without = await keyWith(KEY_SCOPES.filter((each) => each !== scope));
    const alone = await keyWith([scope]);
    for (const route of keyed().filter(({ name }) => SCOPES[name] === scope)) {
      const refused = await ask(route, without);
      const passed = await ask(route, alone);
      expect([route.name, refused]).toEqual([
        ...[route.name, { status: 403, reason: "auth_scope_missing", scope }],
      ]);
      expect([route.name, passed.status]).not.toEqual([route.name, 401]);
      expect([route.name, passed.status]).not.toEqual([route.name, 403]);
    }
  }
});

// In its first message only a person could say something else.
test("a key without the scope opens no WebSocket to say more on", async () => {
  const headers = {
    "x-api-key": await keyWith(["read", "write"]),
    ...{ upgrade: "websocket", "sec-websocket-version": "13" },
  };
  const request = new Request("http://localhost/v1/capsules/x/pty", { headers });
  const response = await platform.app.handle(request);

  expect(response.status).toBe(403);
});
