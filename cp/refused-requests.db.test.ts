// Every route of the application refuses what its schema does not say, and says where.

import { beforeAll, describe, expect, test } from "bun:test";
import { KindGuard, type TSchema } from "@sinclair/typebox";
import { Value } from "@sinclair/typebox/value";
import { encodeId, newId } from "../proto/ids.ts";
import { AccountsPlatform } from "../tests/harness/accounts-platform.ts";
import { forThisFile } from "../tests/harness/for-this-file.ts";
import { RIGHT_BODIES } from "../tests/harness/right-bodies.ts";

/** One of each kind that JSON has. */
const KINDS: readonly unknown[] = [null, true, 7, "\u0000", [1], { a: 1 }];
const NO_OBJECTS = ["true", "7", '"text"', "[]", "[1]", '[{"cmd":"true"}]'];
const NO_JSON = ["{", "nonsense", "{'cmd':'true'}", "cmd=true", "\u0000", '{"a":01}'];

const platform = await forThisFile(AccountsPlatform.start());
let headers: Record<string, string>;
let routes: { name: string; path: string; body: TSchema | undefined }[];

beforeAll(async () => {
  const { token } = await platform.person();
  const hostToken = await platform.tokens.signHost({ hostId: newId("host"), certName: "" });
  headers = { authorization: `Bearer ${token}`, "x-host-token": hostToken };
  routes = platform.app.routes
    .filter(({ method }) => method !== "GET")
    .map(({ method, path, hooks }) => ({
      name: `${method} ${path}`,
      path: withIds(path),
      body: KindGuard.IsSchema(hooks.body) ? hooks.body : undefined,
    }));
});

function withIds(path: string): string {
  const kinds = {
    capsules: "capsule",
    hosts: "host",
    "api-keys": "apiKey",
    channels: "channel",
  } as const;
  const kind = kinds[(path.split("/")[2] ?? "") as keyof typeof kinds] ?? "capsule";
  return path.replace(":id", encodeId(kind, newId(kind))).replaceAll(/:[a-z]+/g, "name");
}

async function send(name: string, path: string, body: string, more: Record<string, string> = {}) {
  const method = name.split(" ")[0] ?? "";
  const init = { method, body, headers: { ...headers, ...more } };
  const response = await platform.app.handle(new Request(`http://localhost${path}`, init));
  const { error } = JSON.parse((await response.text()) || "{}");
  return { status: response.status, code: error?.code, message: String(error?.message) };
}

const taking = () => routes.filter(({ body }) => body !== undefined);
/** What reads its body itself takes no JSON. */
const isRaw = ({ name }: { name: string }) => /\/files\/(stream\/)?write$/.test(name);

test("each route that takes a body has one here that is right, and each field of it", () => {
  expect(
    taking()
      .map(({ name }) => name)
      .toSorted(),
  ).toEqual(Object.keys(RIGHT_BODIES).toSorted());
  for (const { name, body } of taking()) {
    expect([name, fieldsOf(body)]).toEqual([
      name,
      Object.keys(RIGHT_BODIES[name] ?? {}).toSorted(),
    ]);
  }
});

describe("a body", () => {
  test.each(NO_OBJECTS)("that is %s is refused by every route, body or not", async (body) => {
    for (const route of routes.filter((each) => !isRaw(each))) {
      const { status, code, message } = await send(route.name, route.path, body);
      expect([route.name, status, code, message]).toEqual([
        ...[route.name, 400, "invalid_request", "body: expected object"],
      ]);
    }
  });

  test.each(NO_JSON)("that is no JSON (%j) is refused by every route", async (body) => {
    for (const type of ["application/json", "text/plain", "multipart/form-data; boundary=a"]) {
      for (const route of routes.filter((each) => !isRaw(each))) {
        const { status, code } = await send(route.name, route.path, body, { "content-type": type });
        expect([route.name, status, code]).toEqual([route.name, 400, "invalid_request"]);
      }
    }
  });

  test("with a field of another kind is refused, naming it", async () => {
    for (const { name, path, body } of taking()) {
      for (const field of fieldsOf(body)) {
        for (const value of KINDS.filter((kind) => !isTaken(body, field, kind))) {
          const wrong = JSON.stringify({ ...RIGHT_BODIES[name], [field]: value });
          const { status, code, message } = await send(name, path, wrong);
          const told = [name, field, value, status, code, message.split(/[.:]/)[0]];
          expect(told).toEqual([name, field, value, 400, "invalid_request", field]);
          expect(message).not.toMatch(/expected (?:union|kind)/i);
        }
      }
    }
  });

  test("whose text is half a character is refused, naming the field", async () => {
    for (const { name, path, body } of taking()) {
      for (const field of fieldsOf(body).filter((each) => isTaken(body, each, "a"))) {
        const json = JSON.stringify({ ...RIGHT_BODIES[name], [field]: "\ud800" });
        const { status, message } = await send(name, path, json);
        expect([name, status, message]).toEqual([name, 400, `${field}: is not well-formed text`]);
      }
    }
  });

  test.each([
    ["a name", "a".repeat(500_000), /^metadata\.a+…: /],
    [
      "a name that is no text",
      `${"a".repeat(100_000)}\\ud800`,
      /^metadata\.?a*…?: is not well-formed/,
    ],
    ["emojis", "\u{1f600}".repeat(100_000), /^metadata\./],
  ])("of which most is %s is refused in few words", async (_, name, told) => {
    const path = "/v1/capsules";
    for (const body of [
      `{"metadata":{"${name}":"a"}}`,
      `{"metadata":{"${name}":{"b":"\\ud800"}}}`,
    ]) {
      const { status, message } = await send("POST", path, body);
      expect(status).toBe(400);
      expect(message).toMatch(told);
      expect(message.length).toBeLessThan(400);
    }
  });

  test("with a pair of surrogates in escapes, or a backslash before one, is text", async () => {
    for (const cmd of ["\\ud83d\\ude00", "\\\\ud800"]) {
      const path = withIds("/v1/capsules/:id/exec");
      expect((await send("POST", path, `{"cmd":"${cmd}"}`)).status).toBe(404);
    }
  });
});

/** As the description of the API has it. */
interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly schema: {
    readonly type?: string;
    readonly enum?: readonly string[];
    readonly pattern?: string;
    readonly maxLength?: number;
    readonly minimum?: number;
    readonly maximum?: number;
  };
}

const TEXTS = ["0", "-1", "1.5", "1y", "é", "1000001", "nonsense", "x".repeat(300)];

function isWrong({ schema }: Parameter, text: string): boolean {
  const { type, enum: values, pattern, maxLength, minimum = 0, maximum = 0 } = schema;
  if (values !== undefined) return !values.includes(text);
  if (type === "integer") return !/^\d+$/.test(text) || +text < minimum || +text > maximum;
  if (maxLength !== undefined && text.length > maxLength) return true;
  return pattern !== undefined && !new RegExp(pattern).test(text);
}

describe("a parameter", () => {
  test("of any route that is wrong is refused in plain words, naming it", async () => {
    const document = await platform.app.handle(new Request("http://localhost/openapi.json"));
    const { paths } = (await document.json()) as {
      paths: Record<string, Record<string, { parameters?: Parameter[] }>>;
    };
    const told: unknown[] = [];
    for (const [path, methods] of Object.entries(paths)) {
      for (const [method, { parameters = [] }] of Object.entries(methods)) {
        const name = `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ":$1")}`;
        for (const parameter of parameters.filter(({ schema }) => schema !== undefined)) {
          for (const text of TEXTS.filter((each) => isWrong(parameter, each))) {
            told.push([name, parameter.name, text, await refusal(name, parameter, text)]);
          }
        }
      }
    }

    expect(told.length).toBeGreaterThan(100);
    expect(told.filter((each) => !Bun.deepEquals((each as unknown[])[3], "refused"))).toEqual([]);
  });

  async function refusal(name: string, parameter: Parameter, text: string): Promise<string> {
    const [method = "", pattern = ""] = name.split(" ");
    const isIn = (place: string) => parameter.in === place;
    const filled = isIn("path") ? pattern.replace(`:${parameter.name}`, text) : pattern;
    const query = isIn("query") ? `?${parameter.name}=${text}` : "";
    const body = JSON.stringify(RIGHT_BODIES[name]);
    const init = {
      method,
      headers: { ...headers, ...(isIn("header") ? { [parameter.name]: text } : {}) },
      ...(body === undefined ? {} : { body }),
    };
    const url = `http://localhost${withIds(filled)}${query}`;
    const response = await platform.app.handle(new Request(url, init));
    const answer = await response.text();
    if (response.status !== 400) return `${response.status} ${answer}`;
    const { error } = JSON.parse(answer);
    const isNamed = error.details?.field === parameter.name;
    const isPlain = !/property|union|expected kind/i.test(error.message);
    return isNamed && isPlain ? "refused" : error.message;
  }
});

test.each([
  ["/v1/snapshots?page=0", "page: must be a whole number from 1 to 1000000"],
  ["/v1/snapshots?per_page=x", "per_page: must be a whole number from 1 to 200"],
  ["/v1/snapshots?type=x", "type: expected one of base, snapshot"],
  ["/v1/capsules/stats?range=1y", "range: expected one of 5m, 1h, 6h, 24h, 30d"],
])("%s is told what it may be", async (path, expected) => {
  const response = await platform.app.handle(new Request(`http://localhost${path}`, { headers }));
  const { error } = JSON.parse(await response.text());

  expect([response.status, error.message]).toEqual([400, expected]);
});

describe("text that cannot be what it names", () => {
  test.each([
    ["POST /v1/auth/signup", "email", ["", "a", "nobody", "a\nb@c.d", "a\u0000@b.c"]],
    ["POST /v1/auth/login", "email", ["", "a", "nobody", "a\nb@c.d"]],
    ["POST /v1/auth/signup", "name", ["", "a\nb", "\u0000", " "]],
    ["POST /v1/auth/switch-team", "team_id", ["", "team-", "cl-0", "\u0000"]],
    ["POST /v1/api-keys", "name", ["a\nb", "\u0000"]],
    ["POST /v1/hosts", "provider", ["a\nb", "\u0000"]],
    ["POST /v1/hosts/register", "address", ["", "host", "host:port", "a b:1", "a\u0000:1"]],
    ["POST /v1/capsules", "template", ["", ".", "../a", "a b", "a\u0000"]],
    ["POST /v1/capsules/:id/exec", "cmd", ["", "a\u0000"]],
    ["POST /v1/capsules/:id/exec", "cwd", ["a\u0000"]],
    ["POST /v1/capsules/:id/exec", "user", ["", "a b", "a:b", "a\u0000", "-a"]],
    ["POST /v1/capsules/:id/exec", "tag", ["", "12", "a b", "a\u0000", "ä"]],
    ["POST /v1/capsules/:id/files/read", "path", ["", "a\u0000"]],
    ["POST /v1/capsules/:id/files/list", "path", ["", "a\u0000"]],
    ["POST /v1/capsules/:id/files/mkdir", "path", ["", "a\u0000"]],
    ["POST /v1/capsules/:id/files/remove", "path", ["", "a\u0000"]],
    ["POST /v1/capsules/:id/files/stream/read", "path", ["", "a\u0000"]],
    ["POST /v1/snapshots", "sandbox_id", ["", "cl-", "key-0", "\u0000"]],
    ["POST /v1/snapshots", "name", ["", ".a", "a/b", "a\u0000"]],
  ])("%s refuses such a %s", async (name, field, texts) => {
    const path = withIds(name.split(" ")[1] ?? "");
    for (const text of texts) {
      const wrong = JSON.stringify({ ...RIGHT_BODIES[name], [field]: text });
      const { status, code, message } = await send(name, path, wrong);
      expect([text, status, code, message.split(":")[0]]).toEqual([
        ...[text, 400, "invalid_request", field],
      ]);
    }
  });

  test.each([["{}"], ['{"=":"a"}'], ['{"":"a"}'], ['{"A":"\\u0000"}'], ['{"A":1}']])(
    "an environment of %s is refused unless it is none",
    async (envs) => {
      const body = `{"cmd":"true","envs":${envs}}`;
      const { status, message } = await send("POST", withIds("/v1/capsules/:id/exec"), body);

      expect([status, /^envs\b/.test(message)]).toEqual(envs === "{}" ? [404, false] : [400, true]);
    },
  );

  test.each(["é", "\u007f", "k".repeat(256)])("the header idempotency-key of %j", async (key) => {
    const body = JSON.stringify(RIGHT_BODIES["POST /v1/capsules"]);
    const header = { "idempotency-key": key };
    const { status, message } = await send("POST", "/v1/capsules", body, header);

    expect([status, message.split(":")[0]]).toEqual([400, "idempotency-key"]);
  });

  test.each(["%00", "%ff", "%E0%A4%A", "a%0ab", "%F0%9F%98%80"])(
    "%s is no part of any path, and nobody's failure but the client's",
    async (part) => {
      for (const { method, path } of platform.app.routes.filter((each) =>
        each.path.includes(":"),
      )) {
        const place = path.replaceAll(/:[a-z]+/g, part);
        const url = `http://localhost${place}`;
        const response = await platform.app.handle(new Request(url, { method, headers }));
        // There is nothing yet that such a name could be of.
        const refusals = path.startsWith("/v1/volumes") ? [400, 501] : [400, 401, 403, 404];
        const isRefused = refusals.includes(response.status);
        expect([method, path, isRefused || response.status]).toEqual([method, path, true]);
      }
    },
  );
});

/** Of the object that the body is, when it is there. */
function objectOf(body: TSchema | undefined): Record<string, TSchema> {
  if (body === undefined) return {};
  const options: TSchema[] = KindGuard.IsUnion(body) ? body.anyOf : [body];
  return options.find((option) => KindGuard.IsObject(option))?.properties ?? {};
}

function fieldsOf(body: TSchema | undefined): string[] {
  return Object.keys(objectOf(body)).toSorted();
}

function isTaken(body: TSchema | undefined, field: string, value: unknown): boolean {
  const schema = objectOf(body)[field];
  return schema === undefined || Value.Check(schema, value);
}
