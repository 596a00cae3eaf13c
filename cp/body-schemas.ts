// Bodies are held against their schemas as they were sent. Elysia first drops unknown fields and looks at
// what that leaves: of an array, of text and of a number it leaves an empty object, which most fields of
// ours are optional in.

import { KindGuard, type TSchema } from "@sinclair/typebox";
import { type TypeCheck, TypeCompiler } from "@sinclair/typebox/compiler";
import { AppError } from "./errors.ts";
import { fieldError } from "./field-error.ts";

interface Route {
  readonly method: string;
  readonly path: string;
  readonly hooks: { readonly body?: unknown };
}

interface ParsedRequest {
  readonly request: Request;
  readonly route?: string;
  readonly body?: unknown;
}

/**
 * Of schemas as they were before Elysia changed them. They are constants, so that a second application of
 * one process meets what the first one's requests have changed.
 */
const COMPILED = new WeakMap<TSchema, TypeCheck<TSchema>>();

export class BodySchemas {
  readonly #checks = new Map<string, { check: TypeCheck<TSchema>; isOptional: boolean }>();

  /** To be called before the first request: Elysia forbids unknown fields in a schema that it serves. */
  learn(routes: readonly Route[]): void {
    for (const { method, path, hooks } of routes) {
      if (!KindGuard.IsSchema(hooks.body)) continue;
      const { schema, isOptional } = withoutNull(hooks.body);
      const check = COMPILED.get(schema) ?? TypeCompiler.Compile(schema);
      COMPILED.set(schema, check);
      this.#checks.set(`${method} ${path}`, { check, isOptional });
    }
  }

  /**
   * A hook between parsing and validation. Throws `invalid_request` naming the field. A route without
   * a schema takes an object of whatever fields, as some clients send one with every request.
   */
  readonly require = ({ request, route, body }: ParsedRequest): void => {
    if (body === undefined) return;
    const known = this.#checks.get(`${request.method} ${route}`);
    if (body === null && (known?.isOptional ?? true)) return;
    if (body === null || typeof body !== "object" || Array.isArray(body)) {
      throw new AppError("invalid_request", "body: expected object");
    }
    if (known === undefined || known.check.Check(body)) return;
    throw fieldError(known.check.Errors(body).First(), "body");
  };
}

/** The schema of what is there, and whether nothing need be. */
function withoutNull(schema: TSchema): { schema: TSchema; isOptional: boolean } {
  if (!KindGuard.IsUnion(schema)) return { schema, isOptional: KindGuard.IsOptional(schema) };
  const [some, ...others] = schema.anyOf.filter((option) => !KindGuard.IsNull(option));
  if (some === undefined || others.length > 0) throw new Error("unreachable: a body of many forms");
  return { schema: some, isOptional: true };
}
