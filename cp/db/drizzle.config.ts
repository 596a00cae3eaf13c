// `bunx drizzle-kit generate --config cp/db/drizzle.config.ts --name <what-changes>`

import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "postgresql",
  schema: ["cp/db/account-tables.ts", "cp/db/host-tables.ts", "cp/db/capsule-tables.ts"],
  out: "migrations",
});
