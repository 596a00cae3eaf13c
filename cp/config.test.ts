import { expect, test } from "bun:test";
import { TrustedProxies } from "./client-address.ts";
import { loadConfig } from "./config.ts";

const COMPLETE = {
  DATABASE_URL: "postgres://wrenn@localhost/wrenn",
  REDIS_URL: "redis://localhost:6379/0",
  JWT_SECRET: "0123456789abcdef0123456789abcdef",
  WRENN_ENCRYPTION_KEY: "0f".repeat(32),
  WRENN_CA_CERT: "/etc/wrenn/ca.pem",
  WRENN_CA_KEY: "-----BEGIN PRIVATE KEY-----\n",
};

test("what must be set is enough, the rest has defaults", () => {
  expect(loadConfig(COMPLETE)).toEqual({
    databaseUrl: COMPLETE.DATABASE_URL,
    redisUrl: COMPLETE.REDIS_URL,
    listen: { hostname: "0.0.0.0", port: 8080 },
    jwtSecret: COMPLETE.JWT_SECRET,
    authority: { cert: "/etc/wrenn/ca.pem", key: "-----BEGIN PRIVATE KEY-----" },
    encryptionKey: new Uint8Array(32).fill(0x0f),
    publicUrl: "http://localhost:8080",
    ownOrigins: new Set(["http://localhost:8080"]),
    defaultTemplate: "minimal-ubuntu",
    defaultVcpus: 2,
    defaultMemoryMb: 2048,
    teamLimits: {
      ...{ capsules: 0, vcpus: 0, memoryMb: 0, diskMb: 0 },
      ...{ snapshots: 0, snapshotMb: 0, requestsPerMinute: 0 },
    },
    unknownCapsules: "quarantine",
    proxyDomain: "wrenn.localhost",
    trustedProxies: [],
    tls: null,
    mail: { kind: "none" },
    oauth: { pagesUrl: "http://localhost:8080", github: null, openid: [] },
    firstAdministrator: null,
    metricsToken: null,
    auditRetentionDays: 365,
    eventRetentionDays: 30,
    channels: {
      ...{ allowedNetworks: [], keys: [expect.any(Uint8Array)] },
      telegramUrl: "https://api.telegram.org",
    },
    logLevel: "info",
  });
});

test.each([
  [":9000", "0.0.0.0", 9000],
  ["127.0.0.1:80", "127.0.0.1", 80],
  ["[::1]:80", "::1", 80],
  ["cp.internal:0", "cp.internal", 0],
])("listens where %p says", (address, hostname, port) => {
  const { listen } = loadConfig({ ...COMPLETE, WRENN_CP_LISTEN_ADDR: address });

  expect(listen).toEqual({ hostname, port });
});

test("a team's limits are numbers of what they limit", () => {
  const limits = { WRENN_TEAM_CAPSULES: "20", WRENN_TEAM_REQUESTS_PER_MINUTE: "6000" };
  const { teamLimits } = loadConfig({ ...COMPLETE, ...limits });

  expect([teamLimits.capsules, teamLimits.requestsPerMinute]).toEqual([20, 6000]);
  expect(() => loadConfig({ ...COMPLETE, WRENN_TEAM_VCPUS: "-1" })).toThrow("WRENN_TEAM_VCPUS");
});

test("the first administrator is a mail address, in the form that accounts have", () => {
  const load = (email: string) => loadConfig({ ...COMPLETE, WRENN_FIRST_ADMINISTRATOR: email });

  expect(load(" Root@Example.com ").firstAdministrator).toBe("root@example.com");
  expect(() => load("root")).toThrow("WRENN_FIRST_ADMINISTRATOR must be a mail address");
});

test("TLS needs a certificate and its key, and has a port of its own", () => {
  const tls = (more: object) => loadConfig({ ...COMPLETE, ...more }).tls;

  expect(tls({ WRENN_TLS_CERT: "/c", WRENN_TLS_KEY: "/k" })).toEqual({
    certFile: "/c",
    keyFile: "/k",
    listen: { hostname: "0.0.0.0", port: 8443 },
  });
  expect(() => tls({ WRENN_TLS_CERT: "/c" })).toThrow("WRENN_TLS_CERT and WRENN_TLS_KEY");
});

test.each(["wrenn.example:8443", ".example", "a b", "10.0.0.1"])(
  "%p is no proxy domain",
  (domain) => {
    expect(() => loadConfig({ ...COMPLETE, WRENN_PROXY_DOMAIN: domain })).toThrow(
      "WRENN_PROXY_DOMAIN",
    );
  },
);

test("mail goes to the server if there is one, else to files", () => {
  const mail = (more: object) => loadConfig({ ...COMPLETE, WRENN_MAIL_DIR: "/m", ...more }).mail;

  const login = { SMTP_USERNAME: "u", SMTP_PASSWORD: "p" };

  expect(mail({})).toEqual({ kind: "files", dir: "/m" });
  expect(mail({ SMTP_HOST: "smtp", SMTP_PORT: "465", ...login })).toEqual({
    kind: "smtp",
    smtp: {
      host: "smtp",
      port: 465,
      username: "u",
      password: "p",
      fromEmail: "noreply@wrenn.dev",
      security: "tls",
      caFile: null,
    },
  });
});

test.each(["smtp", "smtp.example.", "10.0.0.1", "::1"])("%p is a mail server", (host) => {
  expect(loadConfig({ ...COMPLETE, SMTP_HOST: host }).mail).toMatchObject({ smtp: { host } });
});

test.each([
  [{}, "auto"],
  [{ SMTP_USERNAME: "u", SMTP_PASSWORD: "p" }, "starttls"],
  [{ SMTP_PORT: "465" }, "tls"],
  [{ SMTP_PORT: "2465", SMTP_SECURITY: "tls" }, "tls"],
  [{ SMTP_USERNAME: "u", SMTP_PASSWORD: "p", SMTP_SECURITY: "none" }, "none"],
])("with %j mail is handed over as %s", (env, security) => {
  const { mail } = loadConfig({ ...COMPLETE, SMTP_HOST: "smtp", ...env });

  expect(mail).toMatchObject({ smtp: { security } });
});

test("people sign in by what is named, and come back to our pages", () => {
  const openid = [{ name: "corp", issuer: "https://i.test", client_id: "c", client_secret: "s" }];
  const { oauth } = loadConfig({
    ...COMPLETE,
    OAUTH_REDIRECT_URL: "https://app.test/",
    OAUTH_GITHUB_CLIENT_ID: "g",
    OAUTH_GITHUB_CLIENT_SECRET: "h",
    OAUTH_OPENID_PROVIDERS: JSON.stringify(openid),
  });

  expect(oauth).toEqual({
    pagesUrl: "https://app.test",
    github: { url: "https://github.com", clientId: "g", clientSecret: "h" },
    openid: [{ name: "corp", issuer: "https://i.test", clientId: "c", clientSecret: "s" }],
  });
});

test("a slash at the end of the public URL is none of it", () => {
  const { publicUrl } = loadConfig({ ...COMPLETE, CP_PUBLIC_URL: "https://wrenn.example/" });

  expect(publicUrl).toBe("https://wrenn.example");
});

test("our pages come from the public URL and what else is named", () => {
  const { ownOrigins } = loadConfig({
    ...COMPLETE,
    CP_PUBLIC_URL: "https://wrenn.example/api/",
    WRENN_OWN_ORIGINS: "https://app.example:8443/, http://localhost:3000",
  });

  expect([...ownOrigins]).toEqual([
    "https://wrenn.example",
    "https://app.example:8443",
    "http://localhost:3000",
  ]);
});

test("proxies are believed that are named, besides those on this machine", () => {
  const named = { ...COMPLETE, WRENN_TRUSTED_PROXIES: "10.0.0.0/8, 2001:db8::7" };
  const of = (env: Record<string, string>) =>
    ["127.0.0.9", "::1", "10.1.2.3", "::ffff:10.1.2.3", "2001:db8::7", "2001:db8::8", "x"].map(
      (address) => new TrustedProxies(loadConfig(env).trustedProxies).includes(address),
    );

  expect(of(named)).toEqual([true, true, true, true, true, false, false]);
  expect(of(COMPLETE)).toEqual([true, true, false, false, false, false, false]);
});

test.each([
  ["DATABASE_URL", "", "DATABASE_URL is not set"],
  ["WRENN_METRICS_TOKEN", "too short", "WRENN_METRICS_TOKEN must have at least 16 characters"],
  ["DATABASE_URL", "mysql://secret", "DATABASE_URL must be a URL that begins with postgres://"],
  ["REDIS_URL", "secret", "REDIS_URL must be a URL that begins with redis://"],
  ["JWT_SECRET", "secret", "JWT_SECRET must have at least 32 characters"],
  ["WRENN_ENCRYPTION_KEY", "secret", "WRENN_ENCRYPTION_KEY must be 64 hexadecimal digits"],
  ["WRENN_CP_LISTEN_ADDR", "8080", "WRENN_CP_LISTEN_ADDR must be host:port or :port"],
  ["WRENN_CP_LISTEN_ADDR", ":99999", "WRENN_CP_LISTEN_ADDR must be host:port or :port"],
  ["CP_PUBLIC_URL", "secret", "CP_PUBLIC_URL must be a URL that begins with http:// or https://"],
  [
    "WRENN_OWN_ORIGINS",
    "https://a.example,secret",
    "WRENN_OWN_ORIGINS must be origins like https://host:port, with commas between",
  ],
  [
    "WRENN_TRUSTED_PROXIES",
    "10.0.0.1,secret",
    "WRENN_TRUSTED_PROXIES must be addresses or networks like 10.0.0.0/8, with commas between",
  ],
  ["LOG_LEVEL", "loud", "LOG_LEVEL must be one of debug, info, warn, error"],
])("%s=%p is refused without being repeated", (name, value, message) => {
  expect(() => loadConfig({ ...COMPLETE, [name]: value })).toThrow(new Error(message));
});

test("a port of the mail server that is none is refused", () => {
  expect(() => loadConfig({ ...COMPLETE, SMTP_HOST: "smtp", SMTP_PORT: "x" })).toThrow(
    "SMTP_PORT must be a port number",
  );
});
