// Structured log: one JSON object per line, one line per decision.

import { describeError } from "./errors.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type LogFields = Readonly<Record<string, unknown>>;

export class Log {
  readonly #lowest: number;
  readonly #write: (line: string) => void;
  readonly #fields: LogFields;

  constructor(options: { level: LogLevel; write: (line: string) => void; fields?: LogFields }) {
    this.#lowest = LOG_LEVELS.indexOf(options.level);
    this.#write = options.write;
    this.#fields = options.fields ?? {};
  }

  /** The same log with fields that every line carries. */
  with(fields: LogFields): Log {
    const level = LOG_LEVELS[this.#lowest] ?? "info";
    return new Log({ level, write: this.#write, fields: { ...this.#fields, ...fields } });
  }

  debug(event: string, fields: LogFields = {}): void {
    this.#line("debug", event, fields);
  }

  info(event: string, fields: LogFields = {}): void {
    this.#line("info", event, fields);
  }

  warn(event: string, fields: LogFields = {}): void {
    this.#line("warn", event, fields);
  }

  error(event: string, fields: LogFields = {}): void {
    this.#line("error", event, fields);
  }

  #line(level: LogLevel, event: string, fields: LogFields): void {
    if (LOG_LEVELS.indexOf(level) < this.#lowest) return;
    const { error, ...rest } = fields;
    const cause = error === undefined ? {} : { error: describeError(error) };
    const time = new Date().toISOString();
    this.#write(JSON.stringify({ time, level, event, ...this.#fields, ...rest, ...cause }));
  }
}
