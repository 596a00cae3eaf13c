// A server that is told of events, as others run them: what it got, and whatever it answers.

export interface Got {
  readonly method: string;
  readonly path: string;
  readonly headers: Headers;
  readonly body: string;
}

export class Receiver implements AsyncDisposable {
  readonly got: Got[] = [];
  readonly url: string;
  readonly #server: Bun.Server<undefined>;

  /** By itself it takes everything; `tls` has PEMs. */
  constructor(
    answer: (got: Got, count: number) => Response | Promise<Response> = () => new Response(),
    tls?: { key: string; cert: string },
  ) {
    this.#server = Bun.serve({
      ...{ hostname: "127.0.0.1", port: 0, idleTimeout: 0 },
      ...(tls === undefined ? {} : { tls }),
      fetch: async (request) => {
        const { pathname, search } = new URL(request.url);
        const got = {
          ...{ method: request.method, path: pathname + search, headers: request.headers },
          body: await request.text(),
        };
        this.got.push(got);
        return await answer(got, this.got.length);
      },
    });
    this.url = `${tls === undefined ? "http" : "https"}://127.0.0.1:${this.#server.port}`;
  }

  get port(): number {
    return this.#server.port ?? 0;
  }

  /** What it was told of, by the ids of resources, in the order in which it came. */
  get told(): string[] {
    return this.got.map(({ body }) => JSON.parse(body).resource.id);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop(true);
  }
}
