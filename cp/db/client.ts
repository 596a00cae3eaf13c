// The connection to PostgreSQL.

import { drizzle, type PostgresJsDatabase } from "drizzle-orm/postgres-js";
import postgres, { type Sql } from "postgres";
import { AnswerWatch } from "./answer-watch.ts";
import * as tables from "./tables.ts";
import { watchedClient } from "./watched-client.ts";

/** What connections of every control plane are called in pg_stat_activity. */
export const APPLICATION_NAME = "wrenn-cp";
/** Enough for the hot path of one event loop; PostgreSQL's default allows 100 for all replicas. */
const CONNECTIONS_MAX = 16;
const CONNECT_TIMEOUT_SEC = 5;
/** Whoever closes has no queries left that matter; postgres.js waits it out after a lost server. */
const CLOSE_TIMEOUT_SEC = 1;
/** Pause before a lost connection is tried again: short, for requests wait on it. */
const RECONNECT_SEC = 0.25;
/** No statement of a request is meant to run this long; one that does holds a connection. */
const STATEMENT_TIMEOUT_MS = 30_000;
/** For a statement that the server should have ended, and its way through the pool. */
const WAIT_MS_MAX = STATEMENT_TIMEOUT_MS + 10_000;
/** A transaction whose owner went silent must not keep its row locks. */
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000;

export type Db = PostgresJsDatabase<typeof tables>;
export type Tx = Parameters<Parameters<Db["transaction"]>[0]>[0];
/** What a query runs on: the pool, or the transaction that its caller owns. */
export type Queryable = Db | Tx;

export interface Database {
  readonly db: Db;
  /** The driver's own client, whose statements may take as long as they like. */
  readonly sql: Sql;
  /** Ends the connections; queries under way get a moment. */
  close(): Promise<void>;
}

export interface DatabaseOptions {
  readonly connectionsMax?: number;
  /** Called when the server falls silent, and when it answers again. */
  readonly told?: (isSilent: boolean) => void;
}

/**
 * A pool of connections to the database at `url`, made when first used. A query on a server that is
 * down, or does not answer, rejects within seconds; the next one tries again. Whether a statement whose
 * answer never came, a COMMIT too, has been done or will be, nobody knows.
 */
export function openDatabase(url: string, options: DatabaseOptions = {}): Database {
  const { told } = options;
  const watch = new AnswerWatch({
    waitMsMax: WAIT_MS_MAX,
    ...(told === undefined ? {} : { told }),
  });
  // The driver's types do not know this option.
  const socket: object = { socket: watch.connect };
  const sql = postgres(url, {
    max: options.connectionsMax ?? CONNECTIONS_MAX,
    connect_timeout: CONNECT_TIMEOUT_SEC,
    backoff: () => watch.reconnectSec(RECONNECT_SEC),
    onnotice: () => {},
    connection: {
      application_name: APPLICATION_NAME,
      statement_timeout: STATEMENT_TIMEOUT_MS,
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    },
    ...socket,
  });
  return {
    db: drizzle(watchedClient(sql, watch), { schema: tables }),
    sql,
    close: async () => {
      await sql.end({ timeout: CLOSE_TIMEOUT_SEC });
      watch.close();
    },
  };
}
