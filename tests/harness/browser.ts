// As much of a browser as going to a provider of identities and back takes.

import type { App } from "../../cp/app.ts";

/** Cookies of one site, as a browser keeps them. */
class Jar {
  readonly cookies = new Map<string, string>();

  take({ headers }: Response): void {
    for (const line of headers.getSetCookie()) {
      const [, name = "", value = ""] = /^([^=]*)=([^;]*)/.exec(line) ?? [];
      if (/max-age=0/i.test(line)) this.cookies.delete(name);
      else this.cookies.set(name, value);
    }
  }

  header(): string {
    return [...this.cookies].map(([name, value]) => `${name}=${value}`).join("; ");
  }
}

/** One at our pages, whose address is `here` to the world. */
export class Browser {
  readonly jar = new Jar();
  readonly #app: App;
  readonly #here: string;

  constructor({ app, here }: { app: App; here: string }) {
    this.#app = app;
    this.#here = here;
  }

  async ask(path: string, headers: Record<string, string> = {}): Promise<Response> {
    const request = new Request(`http://localhost${path}`, {
      headers: { ...headers, cookie: this.jar.header() },
    });
    const response = await this.#app.handle(request);
    this.jar.take(response);
    return response;
  }

  /** To the provider, with the address to go to there. */
  async start(name: string, intent = "login"): Promise<string> {
    const response = await this.ask(`/auth/oauth/${name}?intent=${intent}`);
    return leadsTo(response);
  }

  /** Through the provider's pages; where they lead back to, below our address. */
  async pass(url: string): Promise<string> {
    const theirs = new Jar();
    let at = new URL(url);
    while (at.origin !== this.#here) {
      const headers = { cookie: theirs.header() };
      const response = await fetch(at, { redirect: "manual", headers });
      theirs.take(response);
      const location = response.headers.get("location");
      if (location === null) throw new Error(`${at} leads nowhere: ${await response.text()}`);
      at = new URL(location, at);
    }
    return `${at.pathname}${at.search}`;
  }

  /** Back to us: where that leads. */
  async comeBack(path: string): Promise<string> {
    const response = await this.ask(path);
    return leadsTo(response);
  }

  async visit(name: string, intent = "login"): Promise<string> {
    return await this.comeBack(await this.pass(await this.start(name, intent)));
  }

  async me() {
    const response = await this.ask("/v1/me");
    return (await response.json()) as Record<string, unknown>;
  }
}

/** Where a redirect leads; of what is none, its status. */
function leadsTo({ status, headers }: Response): string {
  return status === 302 ? (headers.get("location") ?? "nowhere") : `${status}`;
}
