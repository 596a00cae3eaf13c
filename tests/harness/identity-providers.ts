// Providers of identities for tests: a real OpenID provider, and a server with the endpoints that GitHub documents.

import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import Provider from "oidc-provider";

export const CLIENT = { clientId: "wrenn", clientSecret: "hidden-secret-of-the-client" };
const SCOPE = "openid email profile";

/** Whoever is sitting at the browser, as the provider knows them; null: somebody who says no. */
export interface Somebody {
  readonly id: string;
  readonly email: string;
  readonly isVerified: boolean | string;
  readonly name: string;
}

/** A provider that a test can't tell what to do has whoever is there sign in, and agree. */
export class OpenidServer implements AsyncDisposable {
  readonly issuer: string;
  somebody: Somebody | null = null;
  readonly #server: Server;
  readonly #known = new Map<string, Somebody>();

  private constructor(server: Server, redirectUri: string) {
    this.#server = server;
    this.issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const provider = this.#open(redirectUri);
    const answer = provider.callback();
    server.on("request", (request, response) => {
      if (request.url?.startsWith("/interaction/")) void this.#decide(provider, request, response);
      else void answer(request, response);
    });
  }

  static async start(redirectUri: string): Promise<OpenidServer> {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    return new OpenidServer(server, redirectUri);
  }

  #open(redirectUri: string): Provider {
    return new Provider(this.issuer, {
      clients: [
        {
          client_id: CLIENT.clientId,
          client_secret: CLIENT.clientSecret,
          redirect_uris: [redirectUri],
          response_types: ["code"],
          grant_types: ["authorization_code"],
        },
      ],
      claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["name"] },
      pkce: { required: () => true },
      features: { devInteractions: { enabled: false } },
      interactions: { url: (_context, { uid }) => `/interaction/${uid}` },
      cookies: { keys: ["of a test"] },
      findAccount: (_context, id) => {
        const known = this.#known.get(id);
        if (known === undefined) return undefined;
        const { email, isVerified, name } = known;
        const claims = { sub: id, email, email_verified: isVerified as boolean, name };
        return { accountId: id, claims: () => claims };
      },
    });
  }

  async #decide(provider: Provider, request: IncomingMessage, response: ServerResponse) {
    const { somebody } = this;
    if (somebody === null) {
      const no = { error: "access_denied", error_description: "they said no" };
      await provider.interactionFinished(request, response, no);
      return;
    }
    this.#known.set(somebody.id, somebody);
    const grant = new provider.Grant({ accountId: somebody.id, clientId: CLIENT.clientId });
    grant.addOIDCScope(SCOPE);
    const grantId = await grant.save();
    await provider.interactionFinished(request, response, {
      ...{ login: { accountId: somebody.id }, consent: { grantId } },
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/**
 * As docs.github.com has it ("Authorizing OAuth apps", and the REST endpoints for users and emails): a code is good
 * once and for its challenge, failures of the token endpoint are 200, the rest wants a bearer token and a User-Agent.
 */
export class GithubServer implements AsyncDisposable {
  readonly url: string;
  somebody: Somebody | null = null;
  readonly #server: ReturnType<typeof Bun.serve>;
  readonly #codes = new Map<string, { somebody: Somebody; challenge: string; uri: string }>();
  readonly #tokens = new Map<string, Somebody>();

  constructor() {
    this.#server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      routes: {
        "/login/oauth/authorize": (request) => this.#authorize(new URL(request.url).searchParams),
        "/login/oauth/access_token": {
          POST: async (request) => this.#token(new URLSearchParams(await request.text())),
        },
        "/api/v3/user": (request) =>
          this.#ask(request, ({ id, name }) => ({
            ...{ id: Number(id), login: `login-${id}`, name: name || null },
          })),
        "/api/v3/user/emails": (request) =>
          this.#ask(request, ({ email, isVerified }) => [
            { email: "other@x.test", primary: false, verified: true, visibility: null },
            { email, primary: true, verified: isVerified === true, visibility: "private" },
          ]),
      },
    });
    this.url = `http://127.0.0.1:${this.#server.port}`;
  }

  #authorize(query: URLSearchParams): Response {
    const uri = query.get("redirect_uri") ?? "";
    const back = new URL(uri);
    back.searchParams.set("state", query.get("state") ?? "");
    if (this.somebody === null) {
      back.searchParams.set("error", "access_denied");
    } else {
      const code = crypto.randomUUID().replaceAll("-", "").slice(0, 20);
      const challenge = query.get("code_challenge") ?? "";
      this.#codes.set(code, { somebody: this.somebody, challenge, uri });
      back.searchParams.set("code", code);
    }
    const isAsked = query.get("client_id") === CLIENT.clientId;
    return isAsked ? Response.redirect(back.href, 302) : new Response(null, { status: 404 });
  }

  #token(form: URLSearchParams): Response {
    const issued = this.#codes.get(form.get("code") ?? "");
    this.#codes.delete(form.get("code") ?? "");
    const isClient = form.get("client_secret") === CLIENT.clientSecret;
    if (!isClient) return Response.json({ error: "incorrect_client_credentials" });
    const verifier = form.get("code_verifier") ?? "";
    const challenge = new Bun.CryptoHasher("sha256").update(verifier).digest("base64url");
    if (issued?.challenge !== challenge || form.get("redirect_uri") !== issued.uri) {
      return Response.json({ error: "bad_verification_code" });
    }
    const token = `gho_${crypto.randomUUID().replaceAll("-", "")}`;
    this.#tokens.set(token, issued.somebody);
    const scope = "read:user,user:email";
    return Response.json({ access_token: token, scope, token_type: "bearer" });
  }

  #ask({ headers }: Request, answer: (somebody: Somebody) => unknown): Response {
    const token = /^bearer (.+)$/i.exec(headers.get("authorization") ?? "")?.[1] ?? "";
    const somebody = this.#tokens.get(token);
    if (!headers.get("user-agent")) return Response.json({}, { status: 403 });
    if (somebody === undefined) return Response.json({}, { status: 401 });
    return Response.json(answer(somebody));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.stop(true);
  }
}
