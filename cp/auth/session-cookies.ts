// The cookies of a session: one that only we can read, and one that our pages read to show that they are ours.

export interface SessionCookies {
  /** Names the session to us; null: none, or several that differ. */
  readonly secret: string | null;
  readonly csrfToken: string | null;
}

const SESSION = "wrenn_sid";
const CSRF = "wrenn_csrf";
/** As long as a session lives at most. */
const MAX_AGE_SEC = 24 * 3600;

/**
 * What the request shows. Behind TLS only names with a prefix count, which no page of a neighbouring host can
 * set (RFC 6265bis, 4.1.3.2); elsewhere such a page can add a cookie of the same name, and then neither counts.
 */
export function sessionCookies(request: Request): SessionCookies {
  const cookies = pairsOf(request.headers.get("cookie") ?? "");
  const only = (name: string) => {
    const values = new Set(cookies.filter(([key]) => key === name).map(([, value]) => value));
    const [value] = values;
    return values.size === 1 && value !== undefined && value !== "" ? value : null;
  };
  return { secret: only(nameOf(SESSION, request)), csrfToken: only(nameOf(CSRF, request)) };
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

function attributes(request: Request, maxAgeSec: number): string {
  const secure = isSecure(request) ? "; Secure" : "";
  return `Path=/; Max-Age=${maxAgeSec}; SameSite=Strict${secure}`;
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
