// Log lines: one JSON object per line.

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFields = Record<string, unknown>;

/** A stack or a message may hold anything a peer sent; a line stays readable. */
const ERROR_TEXT_LENGTH_MAX = 4096;
/** An error's cause may have a cause; a loop of causes must end. */
const CAUSES_MAX = 4;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** Writes each line at `level` or above with `write`. An `error` field becomes its stack and causes. */
export function createLog(level: LogLevel, write: (line: string) => void): Log {
  const least = LOG_LEVELS.indexOf(level);
  const at =
    (own: LogLevel) =>
    (message: string, fields: LogFields = {}) => {
      if (LOG_LEVELS.indexOf(own) < least) return;
      const { error, ...rest } = fields;
      const line = { time: new Date().toISOString(), level: own, message, ...rest };
      write(JSON.stringify(error === undefined ? line : { ...line, error: describe(error) }));
    };
  return { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
}

function describe(error: unknown): string {
  const parts: string[] = [];
  let current = error;
  for (let depth = 0; current !== undefined && current !== null && depth < CAUSES_MAX; depth++) {
    parts.push(current instanceof Error ? withoutParameters(current) : String(current));
    current = current instanceof Error ? current.cause : undefined;
  }
  return parts.join("\ncaused by: ").slice(0, ERROR_TEXT_LENGTH_MAX);
}

/** The parameters of a failed query, which drizzle puts into its message, are nobody's business. */
function withoutParameters(error: Error): string {
  const text = error.stack ?? error.message;
  return "query" in error ? text.replace(/\nparams: .*/s, "") : text;
}
