// One end of a byte stream, as the proxies see it: a TCP socket, a TLS stream, or one request of an
// HTTP/2 connection.

export interface WireEvents {
  onData(bytes: Buffer): void;
  /** All that was written has left the program. */
  onDrain(): void;
  /** The other side sends nothing more, but may still read. */
  onEnd(): void;
  /** Nothing goes either way. Called once, also after our own `abort`. */
  onClose(): void;
  /** The other side is known to answer nothing for now. */
  onStandstill?(): void;
}

export interface Wire {
  events: WireEvents;
  /** Written, and still in this program's memory. */
  readonly queuedBytes: number;
  /** Takes all bytes; false: the writer must wait for `onDrain`. Nothing happens on a closed wire. */
  write(bytes: Buffer): boolean;
  /** Stops `onData`, and with it the sender once the buffers between are full. */
  pause(): void;
  resume(): void;
  /** Tells the other side, after what was written, that nothing more comes. Reading goes on. */
  shutdown(): void;
  /** Closes once what was written has left. */
  end(): void;
  /** Closes at once in a way that the other side can tell from an end. */
  abort(): void;
}

/** Of a wire that nobody has taken yet or any more. */
export const NO_EVENTS: WireEvents = {
  onData() {},
  onDrain() {},
  onEnd() {},
  onClose() {},
};
