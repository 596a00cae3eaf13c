// How much work a reader of bytes does, in bytes looked at or copied, which unlike time is the same on every
// machine. Counted are the native calls that walk over bytes; what JavaScript does byte by byte is the caller's.

type Method = (this: Uint8Array, ...args: never[]) => unknown;

/** How many bytes a call walked over. */
const WALKS = {
  indexOf: (bytes: Uint8Array, args: readonly unknown[], found: unknown) => {
    const from = Number(args[1] ?? 0);
    return (Number(found) < 0 ? bytes.length : Number(found)) - from;
  },
  slice: (_: Uint8Array, __: readonly unknown[], copy: unknown) => (copy as Uint8Array).length,
  set: (_: Uint8Array, args: readonly unknown[]) => (args[0] as Uint8Array).length,
  copy: (_: Uint8Array, __: readonly unknown[], copied: unknown) => Number(copied),
  toString: (_: Uint8Array, __: readonly unknown[], text: unknown) => `${text}`.length,
} as const;

/** Bytes that are walked over during the run. */
export async function byteWork(run: () => void | Promise<void>): Promise<number> {
  let work = 0;
  const undo = [...watch(Uint8Array.prototype, add), ...watch(Buffer.prototype, add)];
  const { concat } = Buffer;
  Buffer.concat = (list, length) => {
    add(list.reduce((sum, bytes) => sum + bytes.length, 0));
    return concat(list, length);
  };
  try {
    await run();
  } finally {
    Buffer.concat = concat;
    for (const restore of undo) restore();
  }
  return work;

  function add(bytes: number): void {
    work += bytes;
  }
}

function watch(prototype: object, add: (bytes: number) => void): (() => void)[] {
  return Object.entries(WALKS).flatMap(([name, walked]) => {
    const descriptor = Object.getOwnPropertyDescriptor(prototype, name);
    if (descriptor === undefined) return [];
    const method: Method = descriptor.value;
    const value = function (this: Uint8Array, ...args: never[]) {
      const result = method.apply(this, args);
      add(walked(this, args, result));
      return result;
    };
    Object.defineProperty(prototype, name, { ...descriptor, value });
    return [() => void Object.defineProperty(prototype, name, descriptor)];
  });
}
