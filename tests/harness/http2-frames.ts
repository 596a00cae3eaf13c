// HTTP/2 by hand (RFC 9113), for frames that no library would send, or not together.

export function frame(type: number, flags: number, id: number, payload: readonly number[]): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, Buffer.from(payload)]);
}

/** What a client says first. */
export const HELLO = Buffer.concat([
  Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
  frame(4, 0, 0, []),
]);

/** GET and POST, https, /, and the authority "a" (RFC 7541, appendix A). */
export const GET = [0x82, 0x87, 0x84, 0x41, 0x01, 0x61];
export const POST = [0x83, ...GET.slice(1)];
