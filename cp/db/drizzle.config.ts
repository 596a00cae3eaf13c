// `bunx drizzle-kit generate --config cp/db/drizzle.config.ts --name <what-changes>`

import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "postgresql",
  schema: ["account", "host", "capsule", "channel"].map((name) => `cp/db/${name}-tables.ts`),
  out: "migrations",
});
