// JSON of clients. A mebibyte of it can be half a million values, or as many levels: reading and checking
// that takes everybody's time, up to seconds, and deep recursion ends in an error of ours.

import type { TimeSlice } from "../proto/time-slice.ts";

/** Arguments and variables of a command are some 6,000 together. */
const VALUES_MAX = 16_384;
/** Of what any schema of ours has, twice. */
const DEPTH_MAX = 32;

const QUOTE = 34;
const COMMA = 44;
const OPEN_ARRAY = 91;
const BACKSLASH = 92;
const CLOSE_ARRAY = 93;
const OPEN_OBJECT = 123;
const CLOSE_OBJECT = 125;

/** What the text says is larger than its bounds; the message is one sentence for the client. */
export class BoundlessJson extends Error {
  override readonly name = "BoundlessJson";
}

/** Takes a few milliseconds. */
const CHARACTERS_PER_STEP = 256 * 1024;

/** What the text says. Throws BoundlessJson, and SyntaxError for what is no JSON. */
export function parseBoundedJson(text: string): unknown {
  new Marks(text).passOver(text.length);
  return JSON.parse(text);
}

/** The same of a text of mebibytes: others have their turn in between, but for what the parser takes. */
export async function parseLargeJson(text: string, slice: TimeSlice): Promise<unknown> {
  const marks = new Marks(text);
  while (!marks.passOver(CHARACTERS_PER_STEP)) await slice.step();
  if (text.length > CHARACTERS_PER_STEP) await slice.next();
  const value: unknown = JSON.parse(text);
  await slice.step();
  return value;
}

/** Looks at marks only: whether they are where they may be is for the parser. */
class Marks {
  readonly #text: string;
  #at = 0;
  #depth = 0;
  #values = 1;
  #isInString = false;

  constructor(text: string) {
    this.#text = text;
  }

  /** Passes over so many characters; true at the end of the text. Throws BoundlessJson. */
  passOver(characters: number): boolean {
    const text = this.#text;
    const end = Math.min(this.#at + characters, text.length);
    let at = this.#at;
    while (at < end) {
      const code = text.charCodeAt(at);
      if (!this.#isInString) this.#note(code);
      else if (code === BACKSLASH) at += 1;
      else if (code === QUOTE) this.#isInString = false;
      at += 1;
    }
    this.#at = at;
    return at >= text.length;
  }

  #note(code: number): void {
    switch (code) {
      case QUOTE:
        this.#isInString = true;
        break;
      case OPEN_ARRAY:
      case OPEN_OBJECT:
        if (++this.#depth > DEPTH_MAX) {
          throw new BoundlessJson(`it has more than ${DEPTH_MAX} levels`);
        }
        break;
      case CLOSE_ARRAY:
      case CLOSE_OBJECT:
        this.#depth -= 1;
        break;
      case COMMA:
        if (++this.#values > VALUES_MAX) {
          throw new BoundlessJson(`it has more than ${VALUES_MAX} values`);
        }
    }
  }
}
