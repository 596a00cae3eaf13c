// The cookies of a session: one that only we can read, and one that our pages read to show that they are ours.

export interface SessionCookies {
  /** Names the session to us; null: none, or several that differ. */
  readonly secret: string | null;
  readonly csrfToken: string | null;
}

const SESSION = "wrenn_sid";
const CSRF = "wrenn_csrf";
/** Of a visit to a provider of identities. */
const OAUTH = "wrenn_oauth";
const NEW_SIGNUP = "wrenn_oauth_new_signup";
/** As long as a session lives at most. */
const MAX_AGE_SEC = 24 * 3600;
/** As long as a visit may take. */
const OAUTH_MAX_AGE_SEC = 600;
const NEW_SIGNUP_MAX_AGE_SEC = 60;

/**
 * What the request shows. Behind TLS only names with a prefix count, which no page of a neighbouring host can
 * set (RFC 6265bis, 4.1.3.2); elsewhere such a page can add a cookie of the same name, and then neither counts.
 */
export function sessionCookies(request: Request): SessionCookies {
  return { secret: onlyValue(SESSION, request), csrfToken: onlyValue(CSRF, request) };
}

/** What binds a visit to a provider to the browser that it began in; null: nothing, or several that differ. */
export function oauthBinding(request: Request): string | null {
  return onlyValue(OAUTH, request);
}

function onlyValue(name: string, request: Request): string | null {
  const cookies = pairsOf(request.headers.get("cookie") ?? "");
  const own = cookies.filter(([key]) => key === nameOf(name, request));
  const values = new Set(own.map(([, value]) => value));
  const [value] = values;
  return values.size === 1 && value !== undefined && value !== "" ? value : null;
}

/** Whether the request shows any cookie that may name a session. */
export function showsSession(request: Request): boolean {
  return pairsOf(request.headers.get("cookie") ?? "").some(
    ([name]) => name === nameOf(SESSION, request),
  );
}

/** The Set-Cookie lines that begin a session in the browser that asked. */
export function setSessionCookies(
  request: Request,
  { secret, csrfToken }: { secret: string; csrfToken: string },
): string[] {
  return [
    `${nameOf(SESSION, request)}=${secret}; HttpOnly; ${attributes(request, MAX_AGE_SEC)}`,
    `${nameOf(CSRF, request)}=${csrfToken}; ${attributes(request, MAX_AGE_SEC)}`,
  ];
}

/** The Set-Cookie lines that end it there. */
export function clearSessionCookies(request: Request): string[] {
  return [SESSION, CSRF].map((name) => `${nameOf(name, request)}=; ${attributes(request, 0)}`);
}

/** The way back leads from another site, so it has to be Lax. */
export function setOauthCookie(request: Request, binding: string): string {
  const own = attributes(request, OAUTH_MAX_AGE_SEC, "Lax");
  return `${nameOf(OAUTH, request)}=${binding}; HttpOnly; ${own}`;
}

export function clearOauthCookie(request: Request): string {
  return `${nameOf(OAUTH, request)}=; ${attributes(request, 0, "Lax")}`;
}

/** Tells our page that the account is new. */
export function newSignupCookie(request: Request): string {
  return `${NEW_SIGNUP}=1; ${attributes(request, NEW_SIGNUP_MAX_AGE_SEC, "Lax")}`;
}

function attributes(
  request: Request,
  maxAgeSec: number,
  sameSite: "Strict" | "Lax" = "Strict",
): string {
  const secure = isSecure(request) ? "; Secure" : "";
  return `Path=/; Max-Age=${maxAgeSec}; SameSite=${sameSite}${secure}`;
}

function nameOf(name: string, request: Request): string {
  return isSecure(request) ? `__Host-${name}` : name;
}

/** As the front tells, which believes trusted proxies only; the one nearest to the client stands first. */
function isSecure(request: Request): boolean {
  const schemes = request.headers.get("x-forwarded-proto") ?? "";
  return schemes.split(",", 1)[0]?.trim().toLowerCase() === "https";
}

function pairsOf(header: string): [name: string, value: string][] {
  // Cookies of several headers are joined by a comma; ours hold none.
  return header.split(/[;,]/).map((pair) => {
    const at = pair.indexOf("=");
    return at < 0 ? ["", pair.trim()] : [pair.slice(0, at).trim(), pair.slice(at + 1).trim()];
  });
}
