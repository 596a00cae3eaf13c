// What shows that a change was asked for by a page of ours: a token that only such a page can read.
//
// The page sends the cookie's value in a header as well. Another page of the same site could plant a cookie, but
// not one that fits the session: the token is made from it.

import { createHmac, timingSafeEqual } from "node:crypto";

export const CSRF_HEADER = "x-csrf-token";

export interface CsrfProof {
  readonly header: string | null;
  readonly cookie: string | null;
}

export class CsrfTokens {
  readonly #secret: string;

  constructor(secret: string) {
    this.#secret = secret;
  }

  /** Of the session with that id. A JWT's signature covers no text that begins so. */
  of(sessionId: string): string {
    return createHmac("sha256", this.#secret).update(`csrf ${sessionId}`).digest("hex");
  }

  /** In constant time, whatever was sent. */
  proves(sessionId: string, { header, cookie }: CsrfProof): boolean {
    const expected = Buffer.from(this.of(sessionId));
    const isRight = (given: string | null) => {
      const bytes = Buffer.from(given ?? "");
      return bytes.length === expected.length && timingSafeEqual(bytes, expected);
    };
    return isRight(header) && isRight(cookie);
  }
}
