/**
 * One server of the simulated fleet: several instances in one process. The lease, sessions, snapshots and guardian are real
 * and run on a real PostgreSQL; only the browser sessions are simulated. fleet-simulation.mjs forks it with one JSON argument.
 */
/**
 * @typedef {object} ServerOptions
 * @property {import('#dist/src/platform/config/config.js').Config} config the common configuration of all instances
 * @property {string} serverId
 * @property {number} instances how many
 * @property {string} dir where this server keeps its profiles; no other server sees them
 * @property {string} ledger the file to which sessions write when they open and close
 * @property {number} poolSize connections that all instances share; each lease has one more
 */
/** @typedef {import('#dist/src/platform/config/config.js').Config} Config */
import 'reflect-metadata';
import { openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { DataSource } from 'typeorm';
import { AccountSessions } from '#dist/src/sessions/account-sessions.js';
import { Account } from '#dist/src/accounts/account.entity.js';
import { AccountProxies } from '#dist/src/accounts/account-proxies.js';
import { WebVersionsService } from '#dist/src/accounts/web-versions.service.js';
import { SandboxClient } from '#dist/src/accounts/sandbox-client.js';
import { OwnAccounts } from '#dist/src/sessions/own-accounts.js';
import { SessionSnapshots } from '#dist/src/sessions/session-snapshots.js';
import { InstanceLease } from '#dist/src/instances/instance-lease.js';
import { Server } from '#dist/src/instances/server.entity.js';
import { ServersService } from '#dist/src/instances/servers.service.js';
import { dataSourceOptions } from '#dist/src/platform/database/data-source.js';
import { createLogger } from '#dist/src/platform/logging/logger.js';
import { parseJson } from '../setup/json.mjs';
import { openSimulatedSession } from './simulated-session.mjs';

const options = /** @type {ServerOptions} */ (parseJson(process.argv[2] ?? ''));
const logger = createLogger('simulated-server', 'warn');
// As in the real instance, an error of one account must not end the others.
process.on('unhandledRejection', (reason) => logger.error({ err: reason }, 'an unhandled rejection'));
process.on('disconnect', () => process.exit(1));

const ledger = openSync(options.ledger, 'a');

/**
 * Writes a line at once, so that it survives a kill -9.
 *
 * @param {import('./simulated-session.mjs').Noted} event
 * @param {string} accountId
 * @param {string} instanceId
 */
function note(event, accountId, instanceId) {
  // CLOCK_MONOTONIC: all processes of a machine share this clock.
  writeSync(ledger, `${process.hrtime.bigint()} ${event} ${accountId} ${instanceId}\n`);
}

const database = await new DataSource({
  ...dataSourceOptions(options.config),
  poolSize: options.poolSize,
  entities: [Account, Server],
}).initialize();

/** @type {Map<string, AccountSessions>} */
const instances = new Map();
for (let number = 0; number < options.instances; number += 1) {
  const config = configOf(number);
  const { id } = config.instance;
  const lease = new InstanceLease(config, logger);
  const sessions = new AccountSessions(
    config,
    logger,
    new OwnAccounts(database.getRepository(Account), config, lease),
    lease,
    new ServersService(database.getRepository(Server), database, config),
    new SessionSnapshots(config, database, logger),
    new SandboxClient(config),
    new WebVersionsService(database),
    new AccountProxies(config, logger, database.getRepository(Account)),
    (session) => openSimulatedSession(session, (event, accountId) => note(event, accountId, id)),
  );
  instances.set(id, sessions);
}
await Promise.all([...instances.values()].map((sessions) => sessions.onApplicationBootstrap()));

process.on('message', (message) => {
  const { retire } = /** @type {{ retire: string }} */ (message);
  void instances
    .get(retire)
    ?.onModuleDestroy()
    .then(() => process.send?.({ retired: retire }));
});
process.send?.({ started: [...instances.keys()] });

/** The configuration of one instance. @param {number} number @returns {Config} */
function configOf(number) {
  const { config, serverId, instances: count, dir } = options;
  const id = `${serverId}.instance_${String(number).padStart(2, '0')}`;
  return {
    ...config,
    server: { ...config.server, id: serverId },
    // Nobody calls this URL: there is nothing to send.
    instance: { ...config.instance, id, number, count, url: `http://127.0.0.1:1/${id}` },
    sessions: { ...config.sessions, dir: join(dir, 'sessions'), chromiumPath: '/simulated' },
  };
}
