import { expect, test } from "bun:test";
import { Glob } from "bun";
import { getTableConfig, PgTable } from "drizzle-orm/pg-core";
import { cloneDatabase } from "../../tests/harness/database.ts";
import { openDatabase } from "./client.ts";
import { migrate, pendingMigrations } from "./migrate.ts";
import { MIGRATIONS } from "./migrations.ts";
import * as tables from "./tables.ts";

test("twenty migrations at once apply each file exactly once", async () => {
  await using database = await cloneDatabase({ migrated: false });
  const programs = Array.from({ length: 20 }, () =>
    openDatabase(database.url, { connectionsMax: 1 }),
  );

  const applied = await Promise.all(programs.map(({ sql }) => migrate(sql)));

  await Promise.all(programs.map((program) => program.close()));
  expect(applied.flat()).toEqual(MIGRATIONS.map((migration) => migration.name));
  expect(await pendingMigrations(database.sql)).toEqual([]);
});

test("an empty database lacks every migration", async () => {
  await using database = await cloneDatabase({ migrated: false });

  expect(await pendingMigrations(database.sql)).toEqual(MIGRATIONS.map(({ name }) => name));
});

test("a migration whose text changed after it was applied is refused", async () => {
  await using database = await cloneDatabase();
  await database.sql`update wrenn_migrations set checksum = 'other' where name like '0001%'`;

  expect(migrate(database.sql)).rejects.toThrow(
    "migration 0001_triggers-and-seeds was changed after it was applied",
  );
});

test("the embedded list names exactly the files in the migrations folder", async () => {
  const files = await Array.fromAsync(
    new Glob("*.sql").scan(`${import.meta.dir}/../../migrations`),
  );

  expect(MIGRATIONS.map(({ name }) => `${name}.sql`)).toEqual(files.sort());
});

test("tables.ts names exactly the columns of the migrated database", async () => {
  await using database = await cloneDatabase();
  const rows = await database.sql<{ name: string; nullable: boolean }[]>`
    select table_name || '.' || column_name as name, is_nullable = 'YES' as nullable
    from information_schema.columns
    where table_schema = 'public' and table_name <> 'wrenn_migrations'`;

  const declared = Object.values(tables)
    .filter((table) => table instanceof PgTable)
    .map(getTableConfig)
    .flatMap((table) =>
      table.columns.map((c) => ({ name: `${table.name}.${c.name}`, nullable: !c.notNull })),
    );

  const byName = (a: { name: string }, b: { name: string }) => a.name.localeCompare(b.name);
  expect([...rows].sort(byName)).toEqual(declared.sort(byName));
});

test("the seeds are the platform team and its five templates", async () => {
  await using database = await cloneDatabase();

  const templates = await database.sql<{ id: string; name: string; default_user: string }[]>`
    select id, name, default_user from templates order by id`;
  expect([...templates]).toEqual(
    ["ubuntu", "alpine", "arch", "fedora", "debian"].map((distribution, index) => ({
      id: `00000000-0000-0000-0000-00000000000${index}`,
      name: `minimal-${distribution}`,
      default_user: "wrenn-user",
    })),
  );
});

test("a template name of the platform can't be a team's, whichever comes first", async () => {
  await using database = await cloneDatabase();
  const { sql } = database;
  const team = crypto.randomUUID();
  const platform = "00000000-0000-0000-0000-000000000000";
  const insert = (teamId: string, name: string) =>
    sql`insert into templates (team_id, name, vcpus, memory_mb, default_user)
      values (${teamId}, ${name}, 1, 512, 'root')`.then(
      () => "inserted",
      (error) => error.code,
    );

  const outcomes = [
    await insert(team, "minimal-debian"),
    await insert(team, "ours"),
    await insert(crypto.randomUUID(), "ours"),
    await insert(platform, "ours"),
  ];
  expect(outcomes).toEqual(["23505", "inserted", "inserted", "23505"]);
});
