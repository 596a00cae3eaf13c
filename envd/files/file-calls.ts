// System calls on files that the runtime has not: native/guest/file-calls.c does them.
import { constants } from "node:os";
import { MessageProgram } from "../message-program.ts";

/** Of names with one number, such as ENOTSUP and EOPNOTSUPP, the last. */
const ERRNO_NAMES = new Map(
  Object.entries(constants.errno)
    .sort()
    .reverse()
    .map(([name, errno]) => [errno, name]),
);

/** Asks the program. */
export class FileCalls {
  readonly #program: MessageProgram;

  constructor(programsDir: string) {
    this.#program = new MessageProgram(`${programsDir}/file-calls`);
  }

  /** The fields of the answer; what they are says native/guest/file-calls.c. */
  ask(fields: readonly string[]): Promise<string[]> {
    return this.#program.ask(fields);
  }

  /** Fails as the runtime's own calls do, with the errno as `code`. */
  async call(verb: string, ...fields: string[]): Promise<void> {
    const [answer = ""] = await this.ask([verb, ...fields]);
    const errno = Number(answer);
    if (errno === 0) return;
    const code = ERRNO_NAMES.get(errno) ?? `E${errno}`;
    throw Object.assign(new Error(`${code}: ${verb} failed`), { code, errno: -errno });
  }
}
