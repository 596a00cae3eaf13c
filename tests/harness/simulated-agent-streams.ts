// What a process of a simulated capsule prints, on its way to any number of readers.

import { Code, ConnectError } from "@connectrpc/connect";

export type SimulatedEvent =
  | { readonly kind: "start"; readonly pid: number }
  | { readonly kind: "stdout" | "stderr" | "pty"; readonly bytes: Uint8Array }
  | { readonly kind: "end"; readonly exitCode: number };

/** What a reader may be behind before the process has to wait. */
const WINDOW_BYTES = 256 * 1024;
const SCROLLBACK_BYTES = 64 * 1024;

interface Reader {
  readonly events: SimulatedEvent[];
  waitingBytes: number;
  isCutOff: boolean;
  wake: () => void;
}

export class SimulatedOutput {
  readonly #pid: number;
  readonly #readers = new Set<Reader>();
  #past: Uint8Array = new Uint8Array();
  #end: SimulatedEvent | null = null;
  #room = Promise.withResolvers<void>();

  constructor(pid: number) {
    this.#pid = pid;
  }

  /** The start, what a terminal printed so far if wanted, and everything from the call on. */
  read(withPast: boolean): AsyncGenerator<SimulatedEvent> {
    const reader: Reader = { events: [], waitingBytes: 0, isCutOff: false, wake: () => {} };
    reader.events.push({ kind: "start", pid: this.#pid });
    if (withPast && this.#past.byteLength > 0) {
      reader.events.push({ kind: "pty", bytes: this.#past });
    }
    if (this.#end !== null) reader.events.push(this.#end);
    this.#readers.add(reader);
    return this.#follow(reader);
  }

  /** Resolves when the slowest reader has caught up enough, or none is left. */
  async add(kind: "stdout" | "stderr" | "pty", bytes: Uint8Array): Promise<void> {
    if (kind === "pty") {
      this.#past = Buffer.concat([this.#past, bytes]).subarray(-SCROLLBACK_BYTES);
    }
    for (const reader of this.#readers) {
      reader.events.push({ kind, bytes });
      reader.waitingBytes += bytes.byteLength;
      reader.wake();
    }
    while ([...this.#readers].some(({ waitingBytes }) => waitingBytes > WINDOW_BYTES)) {
      await this.#room.promise;
    }
  }

  finish(exitCode: number): void {
    this.#end = { kind: "end", exitCode };
    for (const reader of this.#readers) {
      reader.events.push(this.#end);
      reader.wake();
    }
  }

  /** The capsule does not run any more: those who read are told. */
  cutOff(): void {
    for (const reader of this.#readers) {
      reader.isCutOff = true;
      reader.wake();
    }
  }

  async *#follow(reader: Reader): AsyncGenerator<SimulatedEvent> {
    try {
      for (;;) {
        if (reader.isCutOff) {
          throw new ConnectError("the capsule is not running", Code.FailedPrecondition);
        }
        const event = reader.events.shift();
        if (event === undefined) {
          await new Promise<void>((resolve) => {
            reader.wake = resolve;
          });
          continue;
        }
        if ("bytes" in event) reader.waitingBytes -= event.bytes.byteLength;
        this.#makeRoom();
        yield event;
        if (event.kind === "end") return;
      }
    } finally {
      this.#readers.delete(reader);
      this.#makeRoom();
    }
  }

  #makeRoom(): void {
    this.#room.resolve();
    this.#room = Promise.withResolvers();
  }
}

/** The events as messages of the RPC. */
export async function* mapped<T>(
  events: AsyncIterable<SimulatedEvent>,
  convert: (event: SimulatedEvent) => T,
): AsyncGenerator<T> {
  for await (const event of events) yield convert(event);
}

export function toProcessEvent(event: SimulatedEvent) {
  switch (event.kind) {
    case "start":
      return { event: { case: "start" as const, value: { pid: event.pid } } };
    case "end":
      return { event: { case: "end" as const, value: { exitCode: event.exitCode } } };
    default: {
      const stream = event.kind === "stderr" ? ("stderr" as const) : ("stdout" as const);
      const value = { output: { case: stream, value: event.bytes } };
      return { event: { case: "data" as const, value } };
    }
  }
}

export function toTerminalEvent(event: SimulatedEvent, tag: string) {
  switch (event.kind) {
    case "start":
      return { event: { case: "started" as const, value: { pid: event.pid, tag } } };
    case "end":
      return { event: { case: "exited" as const, value: { exitCode: event.exitCode } } };
    default:
      return { event: { case: "output" as const, value: { data: event.bytes } } };
  }
}

export function toSelector(
  selector:
    | { case: "pid"; value: number }
    | { case: "tag"; value: string }
    | { case: undefined; value?: undefined },
): { pid: number } | { tag: string } {
  if (selector.case === undefined) {
    throw new ConnectError("selector is missing", Code.InvalidArgument);
  }
  return selector.case === "pid" ? { pid: selector.value } : { tag: selector.value };
}
