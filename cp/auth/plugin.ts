// Route guards. A guarded route says so: `{ team: "read" }`, with the scope that a key must have,
// `{ user: true }`, `{ member: true }`, `{ admin: true }`, `{ host: true }`, or `{ teamOrUpgrade: "exec" }`
// for a WebSocket whose client may say who it is in its first message.
//
// The caller is known before the body is read, so that strangers can't make us parse anything and
// are told 401 whatever they sent. Elysia runs a route's hooks as parse → transform → validation →
// resolve; parse doesn't run for GET, nor where a route reads its body itself (`parse: "none"`).
// Hence the check runs in the first of parse and transform, and resolve only hands out its result. A client may
// send its body as slowly as it likes: who they are is looked at again behind one that took long.
//
// Every guard looks at where a request with a cookie of ours comes from before it looks at credentials.

import { Elysia } from "elysia";
import { AppError } from "../errors.ts";
import { COMMAND_BODY_BYTES_MAX, readJsonBody } from "../request-body.ts";
import type { Authenticator, Credentials, GrantedCaller, Scope } from "./authenticator.ts";
import { CSRF_HEADER } from "./csrf-tokens.ts";
import { assertOwnOrigin, isUpgrade } from "./own-origin.ts";
import { sessionCookies } from "./session-cookies.ts";

/** Of a person. */
const PERSON = [{ session: [] }, { bearer: [] }];
const TEAM = [{ apiKey: [] }, ...PERSON];
/** Methods that change nothing (RFC 9110, 9.2.1). */
const SAFE_METHODS: ReadonlySet<string> = new Set(["GET", "HEAD", "OPTIONS"]);
/** What takes a right away holds within a second, whoever is sending a body then. */
const BODY_MS_UNWATCHED = 500;

export interface AuthDeps {
  readonly authenticator: Authenticator;
  /** Where a team's routes are meant they are the platform's, for which its administrators act. */
  readonly ofPlatform?: true;
}

/** Who acts for the team that the routes are about. */
export function teamOf({ authenticator, ofPlatform }: AuthDeps) {
  return async (
    credentials: Credentials,
    asked: { scope: Scope; isAgain?: boolean },
  ): Promise<GrantedCaller> =>
    ofPlatform
      ? await authenticator.platform(credentials)
      : await authenticator.team(credentials, asked);
}

/** The guards as Elysia macros. A guarded route's JSON body is read by `readJsonBody`. */
export function authPlugin(deps: AuthDeps) {
  const { authenticator, ofPlatform = false } = deps;
  const { ownOrigins } = authenticator;
  const team = teamOf(deps);
  const detailOf = (scope: Scope) =>
    ofPlatform ? { security: PERSON } : { security: TEAM, "x-scope": scope };
  const guarded = <Caller>(authenticate: Authenticate<Caller>) => guard(authenticate, ownOrigins);
  const ofScope = (scope: Scope) =>
    guarded((credentials, isAgain) => team(credentials, { scope, isAgain }));
  const teams = {
    read: ofScope("read"),
    exec: ofScope("exec"),
    write: ofScope("write"),
    admin: ofScope("admin"),
  } satisfies Record<Scope, unknown>;
  const user = guarded((credentials) => authenticator.user(credentials));
  const member = guarded((credentials) => authenticator.member(credentials));
  const admin = guarded((credentials) => authenticator.admin(credentials));
  const host = guarded((credentials) => authenticator.host(credentials));
  const teamOrUpgrade = (scope: Scope) => async (request: Request) => {
    if (!isUpgrade(request)) return await teams[scope].of(request);
    return await teams[scope].of(request).catch(nullWithoutCredentials);
  };

  return new Elysia({ name: "wrenn-auth", seed: { ofPlatform } }).macro({
    team: (scope: Scope) => ({
      ...hooks(teams[scope]),
      detail: detailOf(scope),
      resolve: async ({ request }) => ({ caller: await teams[scope].of(request) }),
    }),
    /** A team's request whose body is a command. */
    teamCommand: (scope: Scope) => ({
      ...hooks(teams[scope], COMMAND_BODY_BYTES_MAX),
      detail: detailOf(scope),
      resolve: async ({ request }) => ({ caller: await teams[scope].of(request) }),
    }),
    teamOrUpgrade: (scope: Scope) => {
      const check = teamOrUpgrade(scope);
      const detail = detailOf(scope);
      return {
        ...hooks({ of: check, again: check }),
        detail: { ...detail, security: [...detail.security, {}] },
        resolve: async ({ request }) => ({ caller: await check(request) }),
      };
    },
    user: {
      ...hooks(user),
      detail: { security: PERSON },
      resolve: async ({ request }) => ({ user: await user.of(request) }),
    },
    member: {
      ...hooks(member),
      detail: { security: PERSON },
      resolve: async ({ request }) => ({ member: await member.of(request) }),
    },
    admin: {
      ...hooks(admin),
      detail: { security: PERSON },
      resolve: async ({ request }) => ({ admin: await admin.of(request) }),
    },
    host: {
      ...hooks(host),
      detail: { security: [{ hostToken: [] }] },
      resolve: async ({ request }) => ({ host: await host.of(request) }),
    },
  });
}

interface Guard<Caller = unknown> {
  /** Whose request it is: looked at once, however many hooks ask. */
  readonly of: (request: Request) => Promise<Caller>;
  /** The same as of now. */
  readonly again: (request: Request) => Promise<Caller>;
}
type Authenticate<Caller> = (credentials: Credentials, isAgain: boolean) => Promise<Caller>;

/**
 * A wrong Origin is thrown, not rejected with: it is no lack of credentials that a client could make up for.
 */
function guard<Caller>(
  authenticate: Authenticate<Caller>,
  ownOrigins: ReadonlySet<string>,
): Guard<Caller> {
  const callers = new WeakMap<Request, Promise<Caller>>();
  const look = (request: Request, isAgain: boolean): Promise<Caller> => {
    const caller = authenticate(credentialsOf(request), isAgain);
    callers.set(request, caller);
    return caller;
  };
  return {
    of(request) {
      const known = callers.get(request);
      if (known !== undefined) return known;
      assertOwnOrigin(request, ownOrigins);
      return look(request, false);
    },
    again: (request) => look(request, true),
  };
}

/**
 * Bad credentials count as none where there is another way to show some; an outage does not, nor does a key
 * that is good for something else.
 */
function nullWithoutCredentials(error: unknown): null {
  const isScope = error instanceof AppError && error.reason === "auth_scope_missing";
  if (error instanceof AppError && error.status < 500 && !isScope) return null;
  throw error;
}

function hooks(guard: Guard, bytesMax?: number) {
  return {
    parse: async ({ request }: { request: Request }) => {
      const caller = await guard.of(request);
      const bound = bytesMax === undefined ? {} : { bytesMax };
      const beganAtMs = performance.now();
      const body = await readJsonBody({ request, payer: payerOf(caller), ...bound });
      if (performance.now() - beganAtMs > BODY_MS_UNWATCHED) await guard.again(request);
      return body;
    },
    transform: async ({ request }: { request: Request }) => {
      await guard.of(request);
    },
  };
}

/** Who pays for what is held of the request: the team, the user who is in none, or the host. */
function payerOf(caller: unknown): string | undefined {
  if (typeof caller !== "object" || caller === null) return undefined;
  if ("teamId" in caller && caller.teamId !== null) return String(caller.teamId);
  if ("hostId" in caller) return String(caller.hostId);
  return "userId" in caller ? String(caller.userId) : undefined;
}

/** What a request shows of who is calling. */
function credentialsOf(request: Request): Credentials {
  const { headers, method } = request;
  const { secret, csrfToken } = sessionCookies(request);
  return {
    apiKey: headers.get("x-api-key"),
    authorization: headers.get("authorization"),
    hostToken: headers.get("x-host-token"),
    session: secret,
    csrf: SAFE_METHODS.has(method) ? null : { header: headers.get(CSRF_HEADER), cookie: csrfToken },
  };
}
