// The control plane's program: `migrate` brings the database up to date, no argument serves.

import { writeSync } from "node:fs";
import { resolve } from "node:path";
import packageJson from "../package.json" with { type: "json" };
import { raiseFetchLimit } from "../proto/fetch-limit.ts";
import { Passwords } from "./accounts/passwords.ts";
import { Accounts } from "./accounts/service.ts";
import { AddressGuard } from "./address-guard.ts";
import { Administration } from "./administration/service.ts";
import { AgentClients } from "./agents/agent-clients.ts";
import { ApiKeys } from "./api-keys/service.ts";
import { createApp } from "./app.ts";
import { Audit } from "./audit/service.ts";
import { Authenticator } from "./auth/authenticator.ts";
import { CsrfTokens } from "./auth/csrf-tokens.ts";
import { LastUses } from "./auth/last-uses.ts";
import { OpenStreams } from "./auth/open-streams.ts";
import { TeamRequests } from "./auth/team-requests.ts";
import { createTokens } from "./auth/tokens.ts";
import { CapsuleMetricsService } from "./capsule-metrics/service.ts";
import { EnvdTokens } from "./capsules/envd-tokens.ts";
import { Capsules } from "./capsules/service.ts";
import { makeCa } from "./certificates/make-ca.ts";
import { openAuthority } from "./certificates/open-authority.ts";
import { OwnCertificate } from "./certificates/own-certificate.ts";
import { ConfigSealing } from "./channels/config-sealing.ts";
import { Sender } from "./channels/sender.ts";
import { Channels } from "./channels/service.ts";
import { TrustedProxies } from "./client-address.ts";
import { systemClock } from "./clock.ts";
import { type Config, loadConfig, loadDatabaseUrl } from "./config.ts";
import { type Db, openDatabase } from "./db/client.ts";
import { isLostWrite } from "./db/lost-write.ts";
import { migrate, pendingMigrations } from "./db/migrate.ts";
import { Deletions } from "./deletion/service.ts";
import { Deliverer } from "./deliveries/deliverer.ts";
import { queueDeliveries } from "./deliveries/queries.ts";
import { Deliveries } from "./deliveries/service.ts";
import { EventStreams } from "./event-streams/service.ts";
import { Events } from "./events/service.ts";
import { answerHelp } from "./help.ts";
import { Hosts } from "./hosts/service.ts";
import { Limits } from "./limits/service.ts";
import { createLog, type Log } from "./log.ts";
import { expireAuditLogsLoop, placeAuditLogsLoop } from "./loops/audit-logs.ts";
import {
  DELIVER_CHANNELS,
  deliverChannelsLoop,
  expireDeliveriesLoop,
  resealChannelsLoop,
} from "./loops/deliver-channels.ts";
import { deliverEventsLoop } from "./loops/deliver-events.ts";
import { deliverMailsLoop } from "./loops/deliver-mails.ts";
import { LoopDriver } from "./loops/driver.ts";
import { endRevokedStreamsLoop } from "./loops/end-revoked-streams.ts";
import { expireEventsLoop } from "./loops/expire-events.ts";
import { expireIdempotencyKeysLoop } from "./loops/expire-idempotency-keys.ts";
import { expireInvitationsLoop } from "./loops/expire-invitations.ts";
import { expireSessionsLoop } from "./loops/expire-sessions.ts";
import { MONITOR_HOSTS, monitorHostsLoop } from "./loops/monitor-hosts.ts";
import { placeEventsLoop } from "./loops/place-events.ts";
import { PUBLISH_EVENTS, publishEventsLoop } from "./loops/publish-events.ts";
import { PURGE_TEAMS, purgeAccountsLoop, purgeTeamsLoop } from "./loops/purge.ts";
import { renewCertificateLoop } from "./loops/renew-certificate.ts";
import { compactUsageLoop, countUsageLoop, sampleUsageLoop } from "./loops/sample-usage.ts";
import { saveMetricsLoop } from "./loops/save-metrics.ts";
import { settleOperationsLoop } from "./loops/settle-operations.ts";
import { settleTemplatesLoop } from "./loops/settle-templates.ts";
import { writeLastUsesLoop } from "./loops/write-last-uses.ts";
import { createFileMailer, createNullMailer, type Mailer } from "./mail/mailer.ts";
import { Outbox } from "./mail/outbox.ts";
import { openSmtp } from "./mail/smtp.ts";
import { ControlPlaneMetrics } from "./metrics/control-plane-metrics.ts";
import { openGithub } from "./oauth/github.ts";
import { openOpenid } from "./oauth/openid.ts";
import { Oauth } from "./oauth/service.ts";
import { OneTimeTokens } from "./one-time-tokens.ts";
import { Operations } from "./operations/operations.ts";
import { Outbound } from "./outbound/outbound.ts";
import {
  checkMailDir,
  checkRedis,
  checkTls,
  databaseFailure,
  readMailCa,
} from "./prerequisites.ts";
import { AgentPools } from "./proxy/agent-pools.ts";
import { OwnCredentials } from "./proxy/credentials.ts";
import { Placements } from "./proxy/placements.ts";
import { ProxyRouter } from "./proxy/proxy-router.ts";
import { RateLimiter } from "./rate-limiter.ts";
import { openRedis } from "./redis.ts";
import { serveUntilSignal } from "./serve.ts";
import { Sessions } from "./sessions/service.ts";
import { Snapshots } from "./snapshots/service.ts";
import { Streams } from "./streams/service.ts";
import { Invitations } from "./teams/invitations.ts";
import { Members } from "./teams/members.ts";
import { Teams } from "./teams/service.ts";
import { Slugs } from "./teams/slugs.ts";
import { TeamUsage } from "./usage/service.ts";
import { Users } from "./users/service.ts";

const [command, ...rest] = process.argv.slice(2);
const help = answerHelp(process.argv.slice(2));
if (help !== null) {
  writeSync(1, help);
  process.exit(0);
}
try {
  if (command === "migrate" && rest.length === 0) await runMigrations();
  else if (command === "make-ca" && rest.length === 1) {
    writeSync(1, await makeCa(resolve(rest[0] ?? "")));
  } else if (command === undefined) {
    raiseFetchLimit(process.env);
    await serve();
  } else {
    const known = '"migrate" and "make-ca <directory>" are known';
    throw new Error(`unknown argument ${JSON.stringify(command)}: ${known}`);
  }
} catch (error) {
  process.stderr.write(`Cannot start: ${error instanceof Error ? error.message : error}\n`);
  // Whatever was opened before: a program that can't start must not seem to run.
  process.exit(1);
}

async function runMigrations(): Promise<void> {
  await using resources = new AsyncDisposableStack();
  const url = loadDatabaseUrl(process.env);
  const database = openDatabase(url, { connectionsMax: 1 });
  resources.defer(database.close);
  const applied = await migrate(database.sql).catch((error) => {
    throw databaseFailure(url, error);
  });
  process.stdout.write(applied.map((name) => `applied ${name}\n`).join("") || "up to date\n");
}

async function serve(): Promise<void> {
  const config = loadConfig(process.env);
  const log = createLog(config.logLevel, (line) => process.stderr.write(`${line}\n`));
  // A disk that is full, or a reader of the log that is gone, costs lines.
  process.stderr.on("error", () => {});
  // The driver leaves one behind when the database goes away: that must not end everybody's requests.
  process.on("unhandledRejection", (error) => log.error("unhandled rejection", { error }));
  process.on("uncaughtException", (error) => {
    log.error("uncaught exception", { error });
    if (!isLostWrite(error)) process.exit(1);
  });
  await using resources = new AsyncDisposableStack();

  const { db, sql, close } = openDatabase(config.databaseUrl, {
    told: (isSilent) =>
      isSilent ? log.warn("the database does not answer") : log.info("the database answers again"),
  });
  resources.defer(close);
  const pending = await pendingMigrations(sql).catch((error) => {
    throw databaseFailure(config.databaseUrl, error);
  });
  if (pending.length > 0) {
    throw new Error(`the database is not migrated (${pending.join(", ")} missing): run migrate`);
  }
  await checkRedis(config.redisUrl);
  const redis = resources.adopt(openRedis(config.redisUrl, log), (redis) => redis.disconnect());
  if (config.tls !== null) await checkTls(config.tls);
  if (config.mail.kind === "files") await checkMailDir(config.mail.dir);
  const authority = await openAuthority(config.authority);
  const ownCertificate = await OwnCertificate.make(authority);
  const mailer = await openMailer(config, { db, log, resources });

  const clock = systemClock;
  const tokens = createTokens({ secret: config.jwtSecret, clock });
  const oneTimeTokens = new OneTimeTokens({ redis });
  const rateLimiter = new RateLimiter({ redis });
  const csrfTokens = new CsrfTokens(config.jwtSecret);
  const lastUses = resources.adopt(new LastUses({ db }), async (uses) => void (await uses.write()));
  const { ownOrigins, publicUrl, teamLimits } = config;
  const { requestsPerMinute } = teamLimits;
  const teamRequests = new TeamRequests({ rateLimiter, requestsPerMinute });
  const authDeps = { db, clock, tokens, csrfTokens, lastUses, teamRequests, ownOrigins };
  const authenticator = new Authenticator(authDeps);
  const openStreams = new OpenStreams({ authenticator });
  const { auditRetentionDays: retentionDays } = config;
  const audit = new Audit({ db, authenticator, retentionDays });
  const sessions = new Sessions({ db, csrfTokens });
  const teams = new Teams({ db, clock, mailer });
  const members = new Members({ db, clock, mailer, rateLimiter });
  const invitations = new Invitations({ db, clock, mailer, rateLimiter, publicUrl });
  const slugs = new Slugs({ db });
  const users = new Users({ db, rateLimiter });
  const accountParts = { db, mailer, teams, invitations, sessions, tokens, oneTimeTokens };
  const { firstAdministrator } = config;
  const accountDeps = { ...accountParts, rateLimiter, publicUrl, firstAdministrator };
  const accounts = new Accounts(accountDeps);
  await accounts.appointFirstAdministrator();
  const passwords = resources.use(new Passwords({ ...accountParts, rateLimiter, publicUrl, log }));
  const { pagesUrl, github, openid } = config.oauth;
  const oauth = new Oauth({
    ...{ db, accounts, mailer, oneTimeTokens, rateLimiter, log, publicUrl },
    providers: [...(github === null ? [] : [openGithub(github)]), ...openid.map(openOpenid)],
  });
  const apiKeys = new ApiKeys({ db, clock });
  const hosts = new Hosts({ db, clock, tokens, oneTimeTokens, teams, authority });

  const operations = resources.use(await Operations.open(config.databaseUrl));
  const envdTokens = new EnvdTokens(config.encryptionKey);
  const defaults = {
    template: config.defaultTemplate,
    vcpus: config.defaultVcpus,
    memoryMb: config.defaultMemoryMb,
  };
  const { version } = packageJson;
  const loops = resources.use(new LoopDriver(log));
  const metrics = resources.use(
    new ControlPlaneMetrics({
      ...{ db, version, connectionsMax: sql.options.max },
      loops: () => loops.statuses(),
      monotonicMs: () => performance.now(),
    }),
  );
  const agents = new AgentClients(ownCertificate.current, (call) => metrics.observeAgentCall(call));
  const wakeMonitor = () => loops.wake(MONITOR_HOSTS);
  const capsuleParts = { db, agents, operations, envdTokens, defaults };
  const capsuleDeps = { ...capsuleParts, log, teamLimits, wakeMonitor };
  const capsules = resources.use(new Capsules(capsuleDeps));
  const capsuleMetrics = new CapsuleMetricsService({ db, capsules });
  const snapshots = resources.use(new Snapshots({ ...capsuleDeps, capsules }));
  const wakePurge = () => loops.wake(PURGE_TEAMS);
  const deletions = new Deletions({ db, sessions, mailer, wakePurge });
  const administration = new Administration({ db, sessions, deletions, operations });
  const monotonicMs = () => performance.now();
  const usage = new TeamUsage({ db, log, monotonicMs });
  const { eventRetentionDays } = config;
  const events = new Events({
    ...{ db, redis, retentionDays: eventRetentionDays },
    placed: queueDeliveries,
  });
  const { allowedNetworks, keys, telegramUrl } = config.channels;
  const outbound = new Outbound({ guard: new AddressGuard(allowedNetworks) });
  const sender = new Sender({ db, clock, mailer, outbound, telegramUrl });
  const sealing = new ConfigSealing(keys);
  const channels = new Channels({ db, sealing, sender, rateLimiter });
  const wakeDeliverer = () => loops.wake(DELIVER_CHANNELS);
  const deliverer = new Deliverer({ db, channels, sender, log, wake: wakeDeliverer });
  resources.use(deliverer);
  const eventStreams = new EventStreams({ db, events, openStreams, monotonicMs });
  if (mailer instanceof Outbox) loops.start(deliverMailsLoop(mailer));
  loops.start(settleOperationsLoop(capsuleDeps));
  loops.start(settleTemplatesLoop(capsuleDeps));
  loops.start(monitorHostsLoop(capsuleDeps, config.unknownCapsules));
  loops.start(purgeTeamsLoop(capsuleDeps));
  loops.start(purgeAccountsLoop({ db, mailer }));
  loops.start(saveMetricsLoop(capsuleDeps));
  loops.start(expireIdempotencyKeysLoop(db));
  loops.start(publishEventsLoop(events));
  loops.start(deliverChannelsLoop(deliverer));
  loops.start(
    placeEventsLoop(events, () => {
      loops.wake(PUBLISH_EVENTS);
      wakeDeliverer();
    }),
  );
  loops.start(expireDeliveriesLoop(deliverer));
  loops.start(resealChannelsLoop(channels));
  loops.start(expireEventsLoop(events));
  loops.start(deliverEventsLoop(eventStreams));
  loops.start(endRevokedStreamsLoop(openStreams));
  loops.start(writeLastUsesLoop(lastUses));
  loops.start(expireSessionsLoop(sessions));
  loops.start(renewCertificateLoop(ownCertificate));
  loops.start(expireInvitationsLoop(invitations));
  loops.start(placeAuditLogsLoop(audit));
  loops.start(expireAuditLogsLoop(audit));
  loops.start(sampleUsageLoop(usage));
  loops.start(countUsageLoop(usage));
  loops.start(compactUsageLoop(usage));

  const streams = new Streams({ openStreams, capsules, log });
  const services = {
    authenticator,
    audit,
    accounts,
    passwords,
    ...{ oauth, pagesUrl },
    sessions,
    users,
    ...{ teams, members, invitations, slugs },
    apiKeys,
    ...{ deletions, administration },
    hosts,
    limits: new Limits({ db, teamLimits }),
    capsules,
    capsuleMetrics,
    ...{ channels, deliveries: new Deliveries({ db, channels }) },
    ...{ events, eventStreams, openStreams },
    snapshots,
    streams,
    usage,
  };
  const { metricsToken } = config;
  const app = createApp({ log, version, metrics, metricsToken, ...services });
  const pools = resources.adopt(new AgentPools(ownCertificate.current), (pools) => pools.close());
  const proxies = new TrustedProxies(config.trustedProxies);
  const proxy = new ProxyRouter({
    domain: config.proxyDomain,
    placements: new Placements(db),
    pools,
    envdTokens,
    ownCredentials: new OwnCredentials(config.jwtSecret),
    proxies,
  });
  const sweep = () => pools.sweep();
  const stopping = () => {
    streams.closeAll();
    eventStreams.closeAll();
  };
  await serveUntilSignal(app, {
    ...config.listen,
    ...{ tls: config.tls, proxies, proxy, sweep, stopping, log },
  });
}

async function openMailer(
  { mail, encryptionKey }: Config,
  { db, log, resources }: { db: Db; log: Log; resources: AsyncDisposableStack },
): Promise<Mailer> {
  switch (mail.kind) {
    case "smtp": {
      const ca = mail.smtp.caFile === null ? null : await readMailCa(mail.smtp.caFile);
      const smtp = resources.adopt(openSmtp(mail.smtp, ca), (smtp) => smtp.close());
      return new Outbox({ db, smtp, encryptionKey, log });
    }
    case "files":
      return createFileMailer({ dir: mail.dir, clock: systemClock });
    case "none":
      return createNullMailer(log);
  }
}
