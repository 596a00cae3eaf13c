// GET /health.

import { type Static, Type } from "@sinclair/typebox";
import { Elysia } from "elysia";

const Health = Type.Object({ status: Type.Literal("ok"), version: Type.String() });
type Health = Static<typeof Health>;

/** Says that the process answers; it asks neither PostgreSQL nor Redis. */
export function healthRoutes({ version }: { version: string }) {
  const health: Health = { status: "ok", version };
  return new Elysia({ tags: ["system"] }).get("/health", () => health, {
    response: { 200: Health },
    detail: { summary: "Tell that the control plane is up" },
  });
}
