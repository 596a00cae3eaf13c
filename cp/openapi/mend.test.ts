import { expect, test } from "bun:test";
import { mendDocument } from "./mend.ts";

/** The mended schema of a body that the generator wrote as given. */
function mendedBody(schema: object): unknown {
  const content = { "application/json": { schema } };
  const paths = { "/a": { post: { requestBody: { content } } } };
  const document = mendDocument(JSON.parse(JSON.stringify({ paths })));
  return JSON.parse(JSON.stringify(document)).paths["/a"].post.requestBody.content[
    "application/json"
  ].schema;
}

test.each([
  ["a constant is an enumeration of one", { const: "a" }, { enum: ["a"] }],
  [
    "a union of constants is one enumeration",
    {
      anyOf: [
        { const: "a", type: "string" },
        { const: "b", type: "string" },
      ],
    },
    { type: "string", enum: ["a", "b"] },
  ],
  [
    "a value or null is nullable",
    { anyOf: [{ type: "integer" }, { type: "null" }] },
    { type: "integer", nullable: true },
  ],
  [
    "a union of other things stays one",
    { anyOf: [{ type: "integer" }, { type: "string" }] },
    { anyOf: [{ type: "integer" }, { type: "string" }] },
  ],
  [
    "a record says what its values are",
    { type: "object", patternProperties: { "^(.*)$": { const: 1 } } },
    { type: "object", additionalProperties: { enum: [1] } },
  ],
  [
    "unknown fields are not forbidden",
    { type: "object", additionalProperties: false },
    { type: "object" },
  ],
  ["an enumeration has no default", { enum: ["a"], default: "a" }, { enum: ["a"] }],
])("%s", (_name, generated, mended) => {
  expect(mendedBody(generated)).toEqual(mended);
});

test("a schema with a name is written once, under that name", () => {
  const team = { $id: "Team", type: "object", properties: { role: { const: "owner" } } };
  const paths = {
    "/a": {
      get: {
        responses: {
          200: { $id: "Team", content: { "application/json": { schema: { type: "object" } } } },
          201: { items: team, content: { "application/json": { schema: { items: team } } } },
        },
      },
    },
  };

  const document = JSON.parse(JSON.stringify(mendDocument(JSON.parse(JSON.stringify({ paths })))));
  const $ref = "#/components/schemas/Team";
  expect(document.paths["/a"].get.responses).toEqual({
    200: { description: "OK", content: { "application/json": { schema: { $ref } } } },
    201: {
      description: "Created",
      content: { "application/json": { schema: { items: { $ref } } } },
    },
    default: {
      description: "Any other failure",
      content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
    },
  });
  expect(document.components.schemas.Team.properties).toEqual({ role: { enum: ["owner"] } });
});

test("a guard is named once, and alternatives stay alternatives", () => {
  const guards = [{ apiKey: [] }, { bearer: [] }];
  const paths = { "/a": { get: { security: [...guards, ...guards], responses: {} } } };

  const document = JSON.parse(JSON.stringify(mendDocument({ paths })));
  expect(document.paths["/a"].get.security).toEqual(guards);
});

test("what the generator was given is left as it was", () => {
  const generated = { paths: { "/a": { get: { responses: { 200: {} } } } } };

  mendDocument(generated);
  expect(generated).toEqual({ paths: { "/a": { get: { responses: { 200: {} } } } } });
});
