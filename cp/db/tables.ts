// Every table of the database. The migrations are generated from these definitions.

export * from "./account-tables.ts";
export * from "./capsule-tables.ts";
export * from "./channel-tables.ts";
export * from "./host-tables.ts";
