// The functions of native/wrenn.h as bun:ffi sees them, and one way to call them all.
import { dlopen, FFIType, ptr } from "bun:ffi";
import { join } from "node:path";

// text: `const char *`. answer: `char *ret_x, uint32_t size`. words: `uint64_t ret_x[4]` or less.
// target: `const struct wrenn_pages_target *`. memory: `const struct wrenn_process_memory *`.
type Parameter = "text" | "u32" | "i32" | "u64" | "answer" | "words" | "target" | "memory";

const SIGNATURES = {
  wrenn_netns_share_directory: ["text"],
  wrenn_netns_unshare_directory: ["text"],
  wrenn_netns_create: ["text"],
  wrenn_netns_delete: ["text"],
  wrenn_veth_create: ["text", "text", "text"],
  wrenn_link_delete: ["text", "text"],
  wrenn_link_up: ["text", "text", "u32"],
  wrenn_link_list: ["text", "answer"],
  wrenn_address_add: ["text", "text", "u32", "u32"],
  wrenn_route_add: ["text", "text", "u32", "u32", "u32"],
  wrenn_addressing_list: ["text", "text", "answer"],
  wrenn_rate_set: ["text", "text", "u64", "u32", "u32"],
  wrenn_rate_try: [],
  wrenn_tap_create: ["text", "text", "u32"],
  wrenn_sysctl_write: ["text", "text", "text"],
  wrenn_sysctl_read: ["text", "text", "answer"],
  wrenn_nft_run: ["text", "text", "answer"],
  wrenn_file_reflink: ["text", "text"],
  wrenn_file_copy_sparse: ["text", "text"],
  wrenn_file_size: ["text", "words"],
  wrenn_file_next_data: ["text", "u64", "words"],
  wrenn_file_lock: ["text"],
  wrenn_descriptor_send: ["i32", "text", "i32"],
  wrenn_loop_attach: ["text", "i32"],
  wrenn_loop_detach: ["u32"],
  wrenn_dm_version: [],
  wrenn_dm_create: ["text", "words"],
  wrenn_dm_load: ["text", "text"],
  wrenn_dm_resume: ["text"],
  wrenn_dm_suspend: ["text"],
  wrenn_dm_hold: ["text"],
  wrenn_dm_remove: ["text"],
  wrenn_dm_status: ["text", "answer"],
  wrenn_dm_list: ["text", "answer"],
  wrenn_dm_classify_snapshot: ["text", "words"],
  wrenn_mount: ["text", "text", "text", "u64", "text"],
  wrenn_unmount: ["text", "u32"],
  wrenn_tsc_khz: ["u32"],
  wrenn_landlock_version: [],
  wrenn_pages_find_mapping: ["i32", "text", "u64", "words"],
  wrenn_pages_seal_file: ["text", "u64", "target", "words", "answer"],
  wrenn_pages_seal_process: ["memory", "text", "target", "words", "answer"],
  wrenn_pages_track: ["i32", "u64", "u64"],
  wrenn_pages_seal_written: ["memory", "target", "words", "answer"],
  wrenn_pages_check: ["text", "text", "words", "answer"],
  wrenn_pages_flatten: ["text", "text", "text", "answer"],
  wrenn_pages_merge: ["target", "answer"],
} as const satisfies Record<string, readonly Parameter[]>;

// A line of nft's explanation is under 1 KiB; 32,767 device names of 16 bytes are 512 KiB.
const ANSWER_BYTES = 1024 * 1024;
const WORDS = 4;

const FFI_TYPES: Record<Parameter, readonly FFIType[]> = {
  text: [FFIType.ptr],
  u32: [FFIType.u32],
  i32: [FFIType.i32],
  u64: [FFIType.u64],
  answer: [FFIType.ptr, FFIType.u32],
  words: [FFIType.ptr],
  target: [FFIType.ptr],
  memory: [FFIType.ptr],
};

export type FunctionName = keyof typeof SIGNATURES;

/** The arguments without out-parameters: those come back in the Answer. */
export type Argument = string | number | bigint | PagesTarget | ProcessMemory;

/** Where a generation of memory is written, and over which parent. */
export interface PagesTarget {
  readonly directory: string;
  /** "": there is no parent. */
  readonly parentHeader: string;
  /** Where the parent's layers are. */
  readonly layerDirectories: readonly string[];
  /** Of the build: a UUID, which names its layer. */
  readonly id: string;
}

/** Memory of a guest in its VMM. */
export interface ProcessMemory {
  readonly pid: number;
  readonly address: bigint;
  readonly totalBytes: number;
  /** Where a part of it is that is not behind the rest: what begins at `offset`. */
  readonly high: { readonly offset: number; readonly address: bigint } | null;
}

export interface Answer {
  /** What the function returned: >= 0, or -errno. */
  readonly result: number;
  /** What it wrote to its text buffer, "" if it has none. */
  readonly text: string;
  /** What it wrote to its array of numbers. */
  readonly words: readonly bigint[];
}

type Native = (...args: (number | bigint | NodeJS.TypedArray)[]) => number;

export class Library {
  readonly #functions: Record<string, Native>;
  readonly #close: () => void;

  /** Loads libwrenn.so from `nativeDir`; throws naming the file if it cannot. */
  constructor(nativeDir: string) {
    const path = join(nativeDir, "libwrenn.so");
    try {
      const { symbols, close } = dlopen(path, describeFunctions());
      this.#functions = symbols as Record<string, Native>;
      this.#close = close;
    } catch (cause) {
      const advice = "WRENN_NATIVE_DIR must hold what make native builds";
      throw new Error(`Cannot load the native library ${path}: ${advice}`, { cause });
    }
  }

  /** Calls a function; stops the calling thread's event loop meanwhile. */
  call(name: FunctionName, args: readonly Argument[]): Answer {
    const native = this.#functions[name];
    if (native === undefined) throw new Error(`unreachable: ${name} is not bound`);
    const passed: (number | bigint | NodeJS.TypedArray)[] = [];
    const given = args[Symbol.iterator]();
    let text: Buffer | undefined;
    let words: BigUint64Array | undefined;
    // What a struct points to must not be collected before the call has returned.
    const held: Buffer[] = [];
    for (const parameter of SIGNATURES[name] as readonly Parameter[]) {
      if (parameter === "answer") {
        text = Buffer.alloc(ANSWER_BYTES);
        passed.push(text, ANSWER_BYTES);
      } else if (parameter === "words") {
        words = new BigUint64Array(WORDS);
        passed.push(words);
      } else {
        const { value, done } = given.next();
        if (done) throw new Error(`unreachable: ${name} lacks arguments`);
        passed.push(encodeArgument(value, held));
      }
    }
    const result = native(...passed);
    held.length = 0;
    return {
      result,
      text: text === undefined ? "" : text.toString("utf8", 0, text.indexOf(0)),
      words: words === undefined ? [] : [...words],
    };
  }

  close(): void {
    this.#close();
  }
}

function describeFunctions() {
  const entries = Object.entries(SIGNATURES).map(([name, parameters]) => [
    name,
    {
      args: (parameters as readonly Parameter[]).flatMap((parameter) => FFI_TYPES[parameter]),
      returns: FFIType.i32,
    },
  ]);
  return Object.fromEntries(entries) as Record<string, { args: FFIType[]; returns: FFIType }>;
}

function encodeArgument(value: Argument, held: Buffer[]): number | bigint | Buffer {
  if (typeof value === "string") return encodeText(value);
  if (typeof value !== "object") return value;
  return "pid" in value ? encodeMemory(value) : encodeTarget(value, held);
}

function encodeMemory({ pid, address, totalBytes, high }: ProcessMemory): Buffer {
  const struct = Buffer.alloc(40);
  struct.writeInt32LE(pid, 0);
  struct.writeBigUInt64LE(address, 8);
  struct.writeBigUInt64LE(BigInt(totalBytes), 16);
  struct.writeBigUInt64LE(BigInt(high?.offset ?? 0), 24);
  struct.writeBigUInt64LE(high?.address ?? 0n, 32);
  return struct;
}

// struct wrenn_pages_target: three pointers, then the 16 bytes of the id.
function encodeTarget(target: PagesTarget, held: Buffer[]): Buffer {
  const id = Buffer.from(target.id.replaceAll("-", ""), "hex");
  if (id.length !== 16) throw new Error(`Not the id of a build: ${target.id}`);
  const texts = [target.directory, target.parentHeader, target.layerDirectories.join("\n")];
  const struct = Buffer.alloc(40);
  texts.forEach((text, i) => {
    const bytes = encodeText(text);
    held.push(bytes);
    struct.writeBigUInt64LE(BigInt(ptr(bytes)), 8 * i);
  });
  id.copy(struct, 24);
  return struct;
}

function encodeText(text: string): Buffer {
  if (text.includes("\0")) throw new Error(`Text holds a NUL character: ${JSON.stringify(text)}`);
  return Buffer.from(`${text}\0`);
}
