// Each setting with wrong values, and the one sentence that whoever set it reads. What stands in a value in
// angle brackets is made by the test that runs the row.

import { CHANNELS } from "./wrong-channel-settings.ts";
import { MAIL } from "./wrong-mail-settings.ts";
import { OAUTH } from "./wrong-oauth-settings.ts";

export interface WrongSetting {
  readonly setting: string;
  readonly value: string;
  /** What else is set. */
  readonly with?: Readonly<Record<string, string>>;
  /** The whole sentence, after "Cannot start: " and its like. */
  readonly says: string;
}

/** Known from the values alone. */
export const CONTROL_PLANE: readonly WrongSetting[] = [
  { setting: "DATABASE_URL", value: "", says: "DATABASE_URL is not set" },
  {
    setting: "DATABASE_URL",
    value: "mysql://u:hidden@h/d",
    says: "DATABASE_URL must be a URL that begins with postgres://",
  },
  {
    setting: "REDIS_URL",
    value: "hidden",
    says: "REDIS_URL must be a URL that begins with redis://",
  },
  {
    setting: "JWT_SECRET",
    value: "hidden",
    says: "JWT_SECRET must have at least 32 characters",
  },
  {
    setting: "WRENN_FIRST_ADMINISTRATOR",
    value: "Ada",
    says: "WRENN_FIRST_ADMINISTRATOR must be a mail address",
  },
  {
    setting: "WRENN_ENCRYPTION_KEY",
    value: "hidden",
    says: "WRENN_ENCRYPTION_KEY must be 64 hexadecimal digits",
  },
  ...["WRENN_CA_CERT", "WRENN_CA_KEY"].map((setting) => ({
    setting,
    value: "hidden",
    says: `${setting} must be PEM, or the absolute path of a file in PEM; wrenn-cp make-ca <directory> makes both`,
  })),
  ...[
    ...["CAPSULES", "VCPUS", "MEMORY_MB", "DISK_MB", "SNAPSHOTS", "SNAPSHOT_MB"],
    "REQUESTS_PER_MINUTE",
  ].map((what) => ({
    setting: `WRENN_TEAM_${what}`,
    value: "-1",
    says: `WRENN_TEAM_${what} must be a number from 0 to 2147483647`,
  })),
  {
    setting: "WRENN_CP_LISTEN_ADDR",
    value: "8080",
    says: "WRENN_CP_LISTEN_ADDR must be host:port or :port",
  },
  {
    setting: "CP_PUBLIC_URL",
    value: "localhost:8080",
    says: "CP_PUBLIC_URL must be a URL that begins with http:// or https://",
  },
  {
    setting: "CP_PUBLIC_URL",
    value: "https://u:hidden@h",
    says: "CP_PUBLIC_URL must have no user, password, ? or #: links begin with it",
  },
  {
    setting: "WRENN_OWN_ORIGINS",
    value: "app.example",
    says: "WRENN_OWN_ORIGINS must be origins like https://host:port, with commas between",
  },
  {
    setting: "WRENN_DEFAULT_TEMPLATE",
    value: "no such name",
    says: "WRENN_DEFAULT_TEMPLATE must be a template's name, like minimal-debian",
  },
  {
    setting: "WRENN_DEFAULT_VCPUS",
    value: "0",
    says: "WRENN_DEFAULT_VCPUS must be a number from 1 to 32",
  },
  {
    setting: "WRENN_DEFAULT_MEMORY_MB",
    value: "2 GB",
    says: "WRENN_DEFAULT_MEMORY_MB must be a number from 128 to 65536",
  },
  {
    setting: "WRENN_UNKNOWN_CAPSULES",
    value: "forget",
    says: "WRENN_UNKNOWN_CAPSULES must be quarantine or destroy",
  },
  {
    setting: "WRENN_AUDIT_RETENTION_DAYS",
    value: "0",
    says: "WRENN_AUDIT_RETENTION_DAYS must be a number from 1 to 36500",
  },
  ...CHANNELS,
  {
    setting: "WRENN_TRUSTED_PROXIES",
    value: "proxy.example",
    says: "WRENN_TRUSTED_PROXIES must be addresses or networks like 10.0.0.0/8, with commas between",
  },
  {
    setting: "WRENN_PROXY_DOMAIN",
    value: "wrenn.example:443",
    says: "WRENN_PROXY_DOMAIN must be a domain name without a port",
  },
  {
    setting: "WRENN_PROXY_DOMAIN",
    value: "192.0.2.1",
    says: "WRENN_PROXY_DOMAIN must be a domain name without a port",
  },
  {
    setting: "WRENN_TLS_CERT",
    value: "/etc/cert.pem",
    says: "WRENN_TLS_CERT and WRENN_TLS_KEY go together",
  },
  {
    setting: "WRENN_TLS_KEY",
    value: "/etc/key.pem",
    says: "WRENN_TLS_CERT and WRENN_TLS_KEY go together",
  },
  {
    setting: "WRENN_TLS_LISTEN_ADDR",
    value: "8443",
    with: { WRENN_TLS_CERT: "/c", WRENN_TLS_KEY: "/k" },
    says: "WRENN_TLS_LISTEN_ADDR must be host:port or :port",
  },
  ...MAIL,
  ...OAUTH,
  {
    setting: "WRENN_METRICS_TOKEN",
    value: "hidden",
    says: "WRENN_METRICS_TOKEN must have at least 16 characters",
  },
  {
    setting: "LOG_LEVEL",
    value: "loud",
    says: "LOG_LEVEL must be one of debug, info, warn, error",
  },
];

/** Known when the control plane meets what it stands on. */
export const CONTROL_PLANE_STARTS: readonly WrongSetting[] = [
  {
    setting: "DATABASE_URL",
    value: "postgres://u:hidden@127.0.0.1:1/wrenn",
    says: "DATABASE_URL: 127.0.0.1:1/wrenn: nobody listens there",
  },
  {
    setting: "DATABASE_URL",
    value: "postgres://u:hidden@no-such-host.invalid/wrenn",
    says: "DATABASE_URL: no-such-host.invalid/wrenn: there is no host of that name",
  },
  {
    setting: "DATABASE_URL",
    value: "postgres://wrenn:hidden@<postgres>/wrenn",
    says: "DATABASE_URL: <postgres>/wrenn: PostgreSQL refuses its user or password",
  },
  {
    setting: "DATABASE_URL",
    value: "<server>/nowhere",
    says: "DATABASE_URL: <postgres>/nowhere: there is no database of that name; make one with createdb",
  },
  {
    setting: "DATABASE_URL",
    value: "postgres://u:hidden@<redis>/wrenn",
    says: "DATABASE_URL: <redis>/wrenn: what listens there does not answer as PostgreSQL",
  },
  {
    setting: "REDIS_URL",
    value: "redis://:hidden@127.0.0.1:1/0",
    says: "REDIS_URL: 127.0.0.1:1/0: nobody listens there",
  },
  {
    setting: "REDIS_URL",
    value: "redis://:hidden@no-such-host.invalid/0",
    says: "REDIS_URL: no-such-host.invalid/0: there is no host of that name",
  },
  {
    setting: "REDIS_URL",
    value: "redis://:hidden@<redis>/0",
    says: "REDIS_URL: <redis>/0: Redis refuses its user or password",
  },
  {
    setting: "REDIS_URL",
    value: "redis://<redis>/0",
    says: "REDIS_URL: <redis>/0: Redis refuses its user or password",
  },
  {
    setting: "REDIS_URL",
    value: "redis://:test@<redis>/99",
    says: "REDIS_URL: <redis>/99: Redis has no database of that number",
  },
  {
    setting: "REDIS_URL",
    value: "redis://:hidden@<postgres>/0",
    says: "REDIS_URL: <postgres>/0: what listens there does not answer as Redis",
  },
  {
    setting: "WRENN_CP_LISTEN_ADDR",
    value: "<taken>",
    says: "WRENN_CP_LISTEN_ADDR: <taken> can't be listened at: another program has it",
  },
  {
    setting: "WRENN_CP_LISTEN_ADDR",
    value: "192.0.2.1:0",
    says: "WRENN_CP_LISTEN_ADDR: 192.0.2.1:0 can't be listened at: this machine has no such address",
  },
  {
    setting: "WRENN_TLS_CERT",
    value: "<dir>/nowhere.pem",
    with: { WRENN_TLS_KEY: "<dir>/key.pem" },
    says: "WRENN_TLS_CERT: <dir>/nowhere.pem can't be read (ENOENT)",
  },
  {
    setting: "WRENN_TLS_CERT",
    value: "<dir>/text",
    with: { WRENN_TLS_KEY: "<dir>/key.pem" },
    says: "WRENN_TLS_CERT: <dir>/text is not what it must be, in PEM",
  },
  {
    setting: "WRENN_TLS_KEY",
    value: "<dir>/other-key.pem",
    with: { WRENN_TLS_CERT: "<dir>/cert.pem" },
    says: "WRENN_TLS_KEY: <dir>/other-key.pem is the key of another certificate than <dir>/cert.pem",
  },
  {
    setting: "WRENN_TLS_LISTEN_ADDR",
    value: "<taken>",
    with: { WRENN_TLS_CERT: "<dir>/cert.pem", WRENN_TLS_KEY: "<dir>/key.pem" },
    says: "WRENN_TLS_LISTEN_ADDR: <taken> can't be listened at: another program has it",
  },
  {
    setting: "WRENN_MAIL_DIR",
    value: "<dir>/text",
    says: "WRENN_MAIL_DIR: <dir>/text can't be written to (EEXIST)",
  },
  {
    setting: "SMTP_CA_FILE",
    value: "<dir>/text",
    with: { SMTP_HOST: "mail.example" },
    says: "SMTP_CA_FILE: <dir>/text is not what it must be, in PEM",
  },
  {
    setting: "WRENN_CA_CERT",
    value: "<dir>/none",
    says: "WRENN_CA_CERT: <dir>/none can't be read (ENOENT)",
  },
  {
    setting: "WRENN_CA_KEY",
    value: "-----BEGIN hidden",
    says: "WRENN_CA_CERT, WRENN_CA_KEY: the key is no ECDSA key of the curve P-256 in PEM",
  },
];

/** Of `make dev`, beside what it hands on. */
export const PLATFORM: readonly WrongSetting[] = [
  {
    setting: "DEV_DIR",
    value: "<dir>/text",
    says: "DEV_DIR=<dir>/text can't be used (ENOTDIR): name a directory of its own",
  },
  {
    setting: "DEV_DIR",
    value: "<dir>",
    says: "DEV_DIR=<dir> holds other files (text): name a directory of its own",
  },
  {
    setting: "DATABASE_URL",
    value: "postgres://u:hidden@127.0.0.1:1/wrenn",
    says: "the database can't be migrated: DATABASE_URL: 127.0.0.1:1/wrenn: nobody listens there",
  },
  {
    setting: "REDIS_URL",
    value: "redis://:hidden@127.0.0.1:1/0",
    says: "cp ended: Cannot start: REDIS_URL: 127.0.0.1:1/0: nobody listens there (log: <path>/logs/cp.log)",
  },
  {
    setting: "WRENN_VMM",
    value: "xen",
    says:
      'agent ended: Cannot go on: WRENN_VMM "xen" is none of auto, cloud-hypervisor, firecracker, qemu ' +
      "(log: <path>/logs/agent.log)",
  },
];
