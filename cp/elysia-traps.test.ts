// What Elysia does that one would not expect. The application is built around each of these: when a
// new version behaves otherwise, the test that fails says what may be simplified, or is now broken.

import { expect, test } from "bun:test";
import { Type } from "@sinclair/typebox";
import { Elysia, t } from "elysia";

const url = (path: string) => `http://localhost${path}`;
const get = (app: { handle(request: Request): Promise<Response> }, path = "/") =>
  app.handle(new Request(url(path)));
const post = (app: { handle(request: Request): Promise<Response> }, body: unknown) =>
  app.handle(
    new Request(url("/"), {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    }),
  );
const failing = () =>
  new Elysia().get("/", (): string => {
    throw new Error("failed");
  });
const handled = () => new Response("handled", { status: 418 });

test("an error handler that is registered after the features is not applied to them", async () => {
  const late = new Elysia().use(failing()).onError({ as: "global" }, handled);
  const early = new Elysia().onError({ as: "global" }, handled).use(failing());

  expect([(await get(late)).status, (await get(early)).status]).toEqual([500, 418]);
});

test("a thrown status loses its number in the error handler, a returned one never gets there", async () => {
  const seen: string[] = [];
  const app = new Elysia()
    .onError(({ code }) => {
      seen.push(String(code));
      return new Response("handled", { status: 500 });
    })
    .get("/thrown", ({ status }): string => {
      throw status(403, "no");
    })
    .get("/returned", ({ status }) => status(403, "no"));

  const statuses = [(await get(app, "/thrown")).status, (await get(app, "/returned")).status];
  expect({ statuses, seen }).toEqual({ statuses: [500, 403], seen: ["403"] });
});

test("a response that fails its schema is a validation error like a client's, told by its type", async () => {
  const types: unknown[] = [];
  const app = new Elysia()
    .onError(({ error, code }) => {
      types.push(code, "type" in error ? error.type : null);
    })
    .get("/", (): { a: number } => JSON.parse('{"a":"text"}'), {
      response: { 200: Type.Object({ a: Type.Integer() }) },
    });

  expect((await get(app)).status).toBe(422);
  expect(types).toEqual(["VALIDATION", "response"]);
});

test("the message of a validation error repeats what the client sent, secrets too", async () => {
  const messages: string[] = [];
  const app = new Elysia()
    .onError(({ error }) => {
      if (error instanceof Error) messages.push(error.message);
    })
    .post("/", () => "", { body: Type.Object({ password: Type.String({ maxLength: 3 }) }) });

  await post(app, { password: "hunter22" });
  expect(messages[0]).toContain("hunter22");
});

test("unknown fields are dropped, even from a body that forbids them", async () => {
  const schema = Type.Object({ a: Type.Integer() }, { additionalProperties: false });
  const app = new Elysia().post("/", ({ body }) => body, { body: schema });
  const strict = new Elysia({ normalize: false }).post("/", ({ body }) => body, { body: schema });

  const answer = await post(app, { a: 1, b: 2 });
  expect(await answer.json()).toEqual({ a: 1 });
  expect((await post(strict, { a: 1, b: 2 })).status).toBe(422);
});

test("a column that no response schema names is kept from clients", async () => {
  const app = new Elysia().get("/", () => ({ a: 1, passwordHash: "x" }), {
    response: { 200: Type.Object({ a: Type.Integer() }) },
  });

  expect(await (await get(app)).json()).toEqual({ a: 1 });
});

test("a plugin's hooks guard nothing in its parent, a macro guards where it is named", async () => {
  const refuse = (): void => {
    throw new Error("refused");
  };
  const hook = new Elysia().onBeforeHandle(refuse);
  const macro = new Elysia().macro({ guarded: { beforeHandle: refuse } });
  const app = new Elysia()
    .use(hook)
    .use(macro)
    .get("/hook", () => "open")
    .get("/macro", () => "open", { guarded: true });

  expect([(await get(app, "/hook")).status, (await get(app, "/macro")).status]).toEqual([200, 500]);
});

test("a request to a host without a dot that isn't localhost finds no route", async () => {
  const app = new Elysia().get("/a", () => "found");

  const short = await app.handle(new Request("http://cp/a"));
  expect([(await get(app, "/a")).status, short.status]).toEqual([200, 404]);
});

test("Elysia's integer takes text in a body, TypeBox's doesn't", async () => {
  const lax = new Elysia().post("/", ({ body }) => body, { body: t.Object({ a: t.Integer() }) });
  const strict = new Elysia().post("/", ({ body }) => body, {
    body: Type.Object({ a: Type.Integer() }),
  });

  expect([(await post(lax, { a: "3" })).status, (await post(strict, { a: "3" })).status]).toEqual([
    200, 422,
  ]);
});

test("a route's own parse takes the place of its macro's", async () => {
  const ran: string[] = [];
  const macro = new Elysia().macro({
    guarded: {
      parse: () => {
        ran.push("macro's parse");
      },
      transform: () => {
        ran.push("macro's transform");
      },
    },
  });
  const app = new Elysia().use(macro).post("/", () => "", { guarded: true, parse: () => ({}) });

  await post(app, {});
  expect(ran).toEqual(["macro's transform"]);
});

test("what is no object counts as one without fields, for unknown ones are dropped first", async () => {
  const body = Type.Object({ a: Type.Optional(Type.Integer()) });
  const app = new Elysia({ normalize: true }).post("/", ({ body }) => body, { body });

  const answers = [];
  for (const sent of [[1], "text", 7, { a: "text" }]) {
    answers.push((await post(app, sent)).status);
  }

  expect(answers).toEqual([200, 200, 200, 422]);
});
