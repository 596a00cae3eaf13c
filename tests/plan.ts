// The plan of the house: the rooms of each program from the ground up, and the doors of each room. A room
// imports what stands before it in the list, through the doors named there, and nothing that stands after it.

export interface Room {
  readonly name: string;
  /** Files, without `.ts`, that other rooms may import. */
  readonly doors: readonly string[];
}

export interface House {
  /** Files beside the rooms that put them together: they may import any door, and no room imports them. */
  readonly roof: readonly string[];
  /** From the ground up. The other files beside the rooms are the ground: they import no room. */
  readonly rooms: readonly Room[];
}

const room = (name: string, ...doors: string[]): Room => ({ name, doors });
/** A noun of the control plane: its routes are for the app, its queries for itself. */
const noun = (name: string, ...doors: string[]): Room =>
  room(name, "service", "schema", "lifecycle", "deps", ...doors);

export const HOUSES: Readonly<Record<"cp" | "agent" | "envd", House>> = {
  cp: {
    roof: ["main", "app", "serve", "request-log", "error-response"],
    rooms: [
      room("certificates", "authority", "make-ca", "open-authority", "own-certificate"),
      room("db", "any-of", "answer-watch", "client", "lost-write", "tables", "time", "migrate"),
      room(
        "agents",
        "agent-clients",
        "agent-errors",
        "call-observer",
        "held-answers",
        "host-address",
        "limits",
        "retry",
      ),
      room("openapi", "document", "error-schema"),
      room("mail", "mailer", "messages", "outbox", "smtp"),
      room(
        "auth",
        ...["authenticator", "csrf-tokens", "last-uses", "open-streams", "own-origin", "plugin"],
        ...["queries", "revocable", "session-cookies", "team-requests", "tokens"],
      ),
      noun("audit", "entry", "record"),
      noun("events", "actor", "audited", "event-types", "new-event", "outbox", "payload", "placed"),
      room("outbound", "outbound"),
      noun("channels", "channel", "config-sealing", "sender", "verdict"),
      noun("deliveries", "deliverer", "queries"),
      noun("idempotency", "answer-once"),
      noun("sessions", "session"),
      noun("teams", "invitations", "members", "own-team", "slugs", "team"),
      noun("users"),
      noun("accounts", "account", "administrators", "passwords"),
      noun("oauth", "github", "openid", "provider"),
      noun("api-keys"),
      noun("hosts", "events"),
      room("operations", "deps", "operations", "settle-claimed", "under-way"),
      room("scheduler", "host-loads", "placement"),
      noun("templates", "template"),
      noun("limits", "placing"),
      noun(
        "capsules",
        "capsule",
        "destroy",
        "envd-tokens",
        "events",
        "find-on-host",
        "held-routes",
        "limits",
        "moves",
        "pause",
        "route-errors",
        "settle",
        "snapshotting",
      ),
      noun("exec"),
      noun("streams", "limits"),
      noun("files"),
      noun("capsule-metrics", "save-metrics"),
      noun("usage"),
      noun("snapshots", "remove", "settle"),
      noun("deletion", "purge-accounts", "purge-teams"),
      noun("administration"),
      noun("event-streams"),
      room("volumes"),
      room("monitor", "reconcile", "silence", "unknown"),
      room("metrics", "control-plane-metrics"),
      room(
        "proxy",
        ...["agent-pools", "credentials", "forwarded", "placements", "proxy-router", "refusals"],
      ),
      room(
        "front",
        "api-upstream",
        "forwarded-clients",
        "limits",
        "refusal-log",
        "refusals",
        "tls-listener",
      ),
      room("health"),
      room("docs"),
      room("loops", "driver"),
    ],
  },
  agent: {
    roof: ["main", "open-capsules", "open-host", "host-dir"],
    rooms: [
      room("native", "descriptor-sender", "kernel", "library", "memory-calls", "syscall-error"),
      room("cgroups", "cgroups", "disk-throttle", "hierarchies"),
      room("vmm", "vmm"),
      room("keeper", "connect-in-directory", "kept-process", "process-identity", "start-keeper"),
      room("memory", "guest-ram", "memory-source", "pager", "pager-verdict", "run-dir"),
      room("drivers/guest", "guest-cmdline"),
      room("drivers/api", "read-vmm-file", "vmm-api"),
      room("drivers/qemu", "probe-accel", "qemu"),
      room("drivers/firecracker", "firecracker"),
      room("drivers/cloud-hypervisor", "cloud-hypervisor"),
      room("drivers", "open-vmm"),
      room(
        "rootfs",
        ...["guest-kernel", "images", "mapped-tables", "open-root-disks", "probe-reflink"],
        ...["root-disks", "saved-disk"],
      ),
      room("network", "network-pool", "rules"),
      room(
        "guest",
        ...["exec", "files", "guest", "guest-http", "process-streams", "processes"],
        ...["stream-budget", "terminals"],
      ),
      room("journal", "capsule-spec", "journal", "pause-record"),
      room("snapshots", "durable-files", "host-facts", "snapshot-error", "snapshots", "use-order"),
      room(
        "metrics",
        "metrics-server",
        ...[
          "agent-metrics",
          "capsule-metrics",
          "find-pager-stats",
          "metric-history",
          "metric-store",
        ],
        ...["pager-usage", "sample-ring", "scrape", "sent-bytes"],
      ),
      room(
        "machine",
        ...["available-memory", "build-capsule", "capsule-paths", "hold-shares", "host-parts"],
        ...["host-shares", "live-capsule", "take-down"],
      ),
      room("templates", "memory-templates", "warm-snapshots"),
      room(
        "capsules",
        ...[
          "capsule",
          "capsule-view",
          "capsules",
          "copies",
          "expiry-timer",
          "flush-timer",
          "recover",
        ],
        ...["resumes", "stall-timer"],
      ),
      room("proxy", "guest-router"),
      room("registration", "control-plane", "heartbeat", "host-credentials", "register"),
      room("rpc", "rpc-server"),
      room("doctor", "doctor"),
    ],
  },
  envd: {
    roof: ["main", "server", "rpc"],
    rooms: [
      room("metrics", "sampler"),
      room("ports", "forwarder"),
      room(
        "files",
        "compose",
        "descriptors",
        "file-calls",
        "metadata",
        "path-handle",
        "read",
        "remove",
        "write",
      ),
      room("process", "cgroups", "environment", "launcher", "registry", "service"),
      room("init", "route"),
      room("filesystem", "directory-watch", "service", "watch-budget", "watch-service"),
    ],
  },
};
