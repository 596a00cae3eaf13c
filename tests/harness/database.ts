// A migrated PostgreSQL database of its own for each test file.

import postgres from "postgres";
import { type Database, openDatabase } from "../../cp/db/client.ts";
import { migrate } from "../../cp/db/migrate.ts";
import { MIGRATIONS } from "../../cp/db/migrations.ts";

/** Names the lock under which the template database is made: test files run side by side. */
const TEMPLATE_LOCK = 7_221_502;

export interface TestDatabase extends Database, AsyncDisposable {
  readonly url: string;
}

/**
 * An own copy of the migrated template database on the server of `DATABASE_URL`; disposing drops it.
 * The template is migrated once per set of migrations and stays on the server.
 */
export async function cloneDatabase(options: { migrated?: boolean } = {}): Promise<TestDatabase> {
  const serverUrl = requiredUrl();
  const name = `wrenn_test_${crypto.randomUUID().replaceAll("-", "").slice(0, 12)}`;
  const admin = postgres(serverUrl, { max: 1, onnotice: () => {} });
  try {
    const template =
      (options.migrated ?? true) ? await ensureTemplate(serverUrl, admin) : "template1";
    await admin.unsafe(`create database ${name} template ${template}`);
  } finally {
    await admin.end();
  }

  const url = withDatabase(serverUrl, name);
  const database = openDatabase(url, { connectionsMax: 8 });
  return {
    ...database,
    url,
    async [Symbol.asyncDispose]() {
      await database.close();
      await dropDatabase(serverUrl, name);
    },
  };
}

async function ensureTemplate(serverUrl: string, admin: postgres.Sql): Promise<string> {
  const text = MIGRATIONS.map((migration) => migration.name + migration.sql).join("\n");
  const hash = new Bun.CryptoHasher("sha256").update(text).digest("hex").slice(0, 12);
  const template = `wrenn_template_${hash}`;

  await admin`select pg_advisory_lock(${TEMPLATE_LOCK})`;
  try {
    const [known] = await admin`select datname from pg_database where datname = ${template}`;
    if (known !== undefined) return template;
    // Migrated under another name first: a run that is killed half-way leaves no broken template.
    const draft = `${template}_draft`;
    await admin.unsafe(`drop database if exists ${draft}`);
    await admin.unsafe(`create database ${draft}`);
    const sql = postgres(withDatabase(serverUrl, draft), { max: 1, onnotice: () => {} });
    try {
      await migrate(sql);
    } finally {
      await sql.end();
    }
    await admin.unsafe(`alter database ${draft} rename to ${template}`);
    return template;
  } finally {
    await admin`select pg_advisory_unlock(${TEMPLATE_LOCK})`;
  }
}

async function dropDatabase(serverUrl: string, name: string): Promise<void> {
  const admin = postgres(serverUrl, { max: 1, onnotice: () => {} });
  try {
    await admin.unsafe(`drop database if exists ${name} with (force)`);
  } finally {
    await admin.end();
  }
}

function requiredUrl(): string {
  const url = process.env.DATABASE_URL;
  if (!url) throw new Error("DATABASE_URL is not set: database tests need a PostgreSQL server");
  return url;
}

function withDatabase(url: string, name: string): string {
  const parsed = new URL(url);
  parsed.pathname = `/${name}`;
  return parsed.href;
}
