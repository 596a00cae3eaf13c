// The migrations, imported as text so that a compiled binary carries them.

import initial from "../../migrations/0000_initial.sql" with { type: "text" };
import triggersAndSeeds from "../../migrations/0001_triggers-and-seeds.sql" with { type: "text" };
import privatePorts from "../../migrations/0002_private-ports.sql" with { type: "text" };
import pauseAndSnapshots from "../../migrations/0003_pause-and-snapshots.sql" with { type: "text" };
import metricsSaved from "../../migrations/0004_metrics-saved.sql" with { type: "text" };
import defaultsOfCode from "../../migrations/0005_defaults-of-code.sql" with { type: "text" };
import unknownHostsAndCapsules from "../../migrations/0006_unknown-hosts-and-capsules.sql" with {
  type: "text",
};
import outcomesOfKeys from "../../migrations/0007_outcomes-of-keys.sql" with { type: "text" };
import labels from "../../migrations/0008_labels.sql" with { type: "text" };
import templateSharing from "../../migrations/0009_template-sharing-and-disk-use.sql" with {
  type: "text",
};
import defaultUser from "../../migrations/0010_default-user.sql" with { type: "text" };
import reasonsOfKeys from "../../migrations/0011_reasons-of-keys.sql" with { type: "text" };
import snapshotting from "../../migrations/0012_snapshotting.sql" with { type: "text" };
import usage from "../../migrations/0013_usage.sql" with { type: "text" };
import sessions from "../../migrations/0014_sessions.sql" with { type: "text" };
import keyScopes from "../../migrations/0015_key-scopes.sql" with { type: "text" };
import teamSlugs from "../../migrations/0016_team-slugs.sql" with { type: "text" };
import outgoingMails from "../../migrations/0017_outgoing-mails.sql" with { type: "text" };
import teamInvitations from "../../migrations/0018_team-invitations.sql" with { type: "text" };
import auditLogs from "../../migrations/0019_audit-logs.sql" with { type: "text" };
import deletion from "../../migrations/0020_deletion.sql" with { type: "text" };
import teamLimits from "../../migrations/0021_team-limits.sql" with { type: "text" };
import capsuleUsage from "../../migrations/0022_capsule-usage.sql" with { type: "text" };
import eventPositions from "../../migrations/0023_event-positions.sql" with { type: "text" };
import channelDeliveries from "../../migrations/0024_channel-deliveries.sql" with { type: "text" };
import hostCertificates from "../../migrations/0025_host-certificates.sql" with { type: "text" };
import sentBytes from "../../migrations/0026_sent-bytes.sql" with { type: "text" };

export interface Migration {
  /** The file's name without `.sql`. */
  readonly name: string;
  readonly sql: string;
}

/** Oldest first. A test holds this list against the `migrations` folder. */
export const MIGRATIONS: readonly Migration[] = [
  { name: "0000_initial", sql: initial },
  { name: "0001_triggers-and-seeds", sql: triggersAndSeeds },
  { name: "0002_private-ports", sql: privatePorts },
  { name: "0003_pause-and-snapshots", sql: pauseAndSnapshots },
  { name: "0004_metrics-saved", sql: metricsSaved },
  { name: "0005_defaults-of-code", sql: defaultsOfCode },
  { name: "0006_unknown-hosts-and-capsules", sql: unknownHostsAndCapsules },
  { name: "0007_outcomes-of-keys", sql: outcomesOfKeys },
  { name: "0008_labels", sql: labels },
  { name: "0009_template-sharing-and-disk-use", sql: templateSharing },
  { name: "0010_default-user", sql: defaultUser },
  { name: "0011_reasons-of-keys", sql: reasonsOfKeys },
  { name: "0012_snapshotting", sql: snapshotting },
  { name: "0013_usage", sql: usage },
  { name: "0014_sessions", sql: sessions },
  { name: "0015_key-scopes", sql: keyScopes },
  { name: "0016_team-slugs", sql: teamSlugs },
  { name: "0017_outgoing-mails", sql: outgoingMails },
  { name: "0018_team-invitations", sql: teamInvitations },
  { name: "0019_audit-logs", sql: auditLogs },
  { name: "0020_deletion", sql: deletion },
  { name: "0021_team-limits", sql: teamLimits },
  { name: "0022_capsule-usage", sql: capsuleUsage },
  { name: "0023_event-positions", sql: eventPositions },
  { name: "0024_channel-deliveries", sql: channelDeliveries },
  { name: "0025_host-certificates", sql: hostCertificates },
  { name: "0026_sent-bytes", sql: sentBytes },
];
