// What @elysiajs/swagger 1.3.1 gets wrong, set right: each step says what and why.

import { STATUS_CODES } from "node:http";
import { isObject, type Json, type JsonObject, objectsIn } from "./json.ts";

const RESPONSE_FIELDS = new Set(["description", "headers", "content", "links"]);
/** Deep enough for every schema of ours; a document that nests deeper has a loop. */
const DEPTH_MAX = 64;

/**
 * A valid OpenAPI 3.0.3 document of the generated one. Schemas with an `$id` end up in
 * `components.schemas` under that name.
 */
export function mendDocument(generated: JsonObject): JsonObject {
  const document = structuredClone(generated);
  for (const operations of objectsIn(document.paths)) {
    for (const operation of objectsIn(operations)) mendOperation(operation);
  }
  const schemas: JsonObject = {};
  const paths = mendSchemas(document.paths ?? {}, schemas, 0);
  const components = isObject(document.components) ? document.components : {};
  return { ...document, paths, components: { ...components, schemas: sortKeys(schemas) } };
}

function mendOperation(operation: JsonObject): void {
  const { requestBody, responses, security } = operation;
  // Elysia adds what a guard says of itself once more when it compiles the route.
  if (Array.isArray(security)) operation.security = withoutRepeats(security);
  if (isObject(requestBody)) mendContent(requestBody);
  if (!isObject(responses)) return;
  for (const [status, response] of Object.entries(responses)) {
    if (isObject(response)) responses[status] = mendResponse(response, status);
  }
  // Any route can fail in ways it doesn't list, and always in the same form.
  const anyFailure = { "application/json": { schema: { $ref: "#/components/schemas/Error" } } };
  responses.default = { description: "Any other failure", content: anyFailure };
}

/**
 * The generator spreads keywords of the schema (`$id`, `items`, …) into the response object, where
 * OpenAPI knows four fields only, and leaves out the description, which is required. `$id` goes back
 * to the schema that it names.
 */
function mendResponse(response: JsonObject, status: string): JsonObject {
  mendContent(response);
  const mended: JsonObject = { description: STATUS_CODES[status] ?? status };
  for (const [key, value] of Object.entries(response)) {
    if (RESPONSE_FIELDS.has(key) && value !== undefined) mended[key] = value;
  }
  const id = response.$id;
  for (const media of objectsIn(mended.content)) {
    if (typeof id === "string" && isObject(media.schema)) media.schema.$id = id;
  }
  return mended;
}

/**
 * A route that names no content type is documented with three, and one that reads its body itself
 * with `none`. JSON is what we speak unless a route says otherwise.
 */
function mendContent(holder: JsonObject): void {
  const { content } = holder;
  if (!isObject(content)) return;
  const types = Object.keys(content);
  const named = types.filter((type) => type.includes("/"));
  if (named.length === 1) return;
  const schema = content["application/json"] ?? content[types[0] ?? ""];
  if (schema !== undefined) holder.content = { "application/json": schema };
}

/** Rewrites JSON Schema as OpenAPI 3.0's dialect of it, and moves named schemas to `named`. */
function mendSchemas(value: Json, named: JsonObject, depth: number): Json {
  if (depth > DEPTH_MAX) throw new Error("unreachable: a schema that contains itself");
  if (Array.isArray(value)) return value.map((item) => mendSchemas(item, named, depth + 1));
  if (!isObject(value)) return value;

  const mended: JsonObject = {};
  for (const [key, inner] of Object.entries(value)) {
    if (inner !== undefined) mended[key] = mendSchemas(inner, named, depth + 1);
  }
  mendDialect(mended);
  const { $id, ...schema } = mended;
  if (typeof $id !== "string") return mended;
  named[$id] = schema;
  return { $ref: `#/components/schemas/${$id}` };
}

function mendDialect(schema: JsonObject): void {
  // 3.0 has no `const`; an enumeration of one means the same.
  if ("const" in schema && schema.const !== undefined) {
    schema.enum = [schema.const];
    delete schema.const;
  }
  // 3.0 has no `patternProperties`; TypeBox writes a record of anything by name as one.
  const patterns = schema.patternProperties;
  if (isObject(patterns)) {
    schema.additionalProperties = Object.values(patterns)[0] ?? true;
    delete schema.patternProperties;
  }
  // Elysia writes this into a schema when it compiles the route; we do take unknown fields.
  if (schema.additionalProperties === false) delete schema.additionalProperties;
  // Elysia's UnionEnum claims its first value as default, which is nobody's intention.
  if (Array.isArray(schema.enum)) delete schema.default;
  mendUnion(schema);
}

/** A union of literals is one enumeration; in 3.0, "or null" is a mark and no type. */
function mendUnion(schema: JsonObject): void {
  const { anyOf } = schema;
  if (!Array.isArray(anyOf)) return;
  const options = anyOf.filter(isObject);
  const values = options.filter((option) => option.type !== "null");
  if (values.length < options.length) schema.nullable = true;

  const isEnumeration = values.every((option) => option.type === "string" && option.enum);
  if (isEnumeration) {
    delete schema.anyOf;
    schema.type = "string";
    schema.enum = values.flatMap((option) => (Array.isArray(option.enum) ? option.enum : []));
  } else if (values.length === 1 && values[0] !== undefined) {
    delete schema.anyOf;
    Object.assign(schema, values[0]);
  } else {
    schema.anyOf = values;
  }
}

function withoutRepeats(values: Json[]): Json[] {
  return [...new Set(values.map((value) => JSON.stringify(value)))].map((text) => JSON.parse(text));
}

function sortKeys(value: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}
