/**
 * One server of the simulated fleet: several instances in one process, with everything real but the browser. The real lease,
 * sessions, snapshots and guardian run on the real PostgreSQL; only `OPEN_SESSION` is a stand-in. Forked by
 * fleet-simulation.mjs with one JSON argument, see {@link ServerOptions}.
 *
 * @typedef {object} ServerOptions
 * @property {import('../dist/src/platform/config/config.js').Config} config of every instance, but for what is its own
 * @property {string} serverId
 * @property {number} instances how many
 * @property {string} dir where this server keeps its profiles; no other server sees them
 * @property {string} ledger the file in which sessions write down when they open and close
 * @property {number} poolSize connections that all instances share; each lease has one of its own besides
 */
import 'reflect-metadata';
import { openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { DataSource } from 'typeorm';
import { AccountSessions } from '../dist/src/sessions/account-sessions.js';
import { Account } from '../dist/src/accounts/account.entity.js';
import { SandboxClient } from '../dist/src/accounts/sandbox-client.js';
import { OwnAccounts } from '../dist/src/sessions/own-accounts.js';
import { SessionSnapshots } from '../dist/src/sessions/session-snapshots.js';
import { InstanceLease } from '../dist/src/instances/instance-lease.js';
import { Server } from '../dist/src/instances/server.entity.js';
import { ServersService } from '../dist/src/instances/servers.service.js';
import { dataSourceOptions } from '../dist/src/platform/database/data-source.js';
import { createLogger } from '../dist/src/platform/logging/logger.js';
import { SimulatedSession } from './simulated-session.mjs';

/** @type {ServerOptions} */
const options = JSON.parse(process.argv[2]);
const logger = createLogger('simulated-server', 'warn');
// As the real instance does: one account must not take the others with it.
process.on('unhandledRejection', (reason) => logger.error({ err: reason }, 'an unhandled rejection'));
process.on('disconnect', () => process.exit(1));

const ledger = openSync(options.ledger, 'a');

/**
 * Writes a line at once: what was written outlives a kill -9.
 * @param {'open' | 'linked' | 'ready' | 'close'} event
 */
function note(event, accountId, instanceId) {
  // One clock for all processes of a machine: CLOCK_MONOTONIC.
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
    (session) => new SimulatedSession(session, (event, accountId) => note(event, accountId, id)),
  );
  instances.set(id, sessions);
}
await Promise.all([...instances.values()].map((sessions) => sessions.onApplicationBootstrap()));

process.on('message', async ({ retire }) => {
  await instances.get(retire).onModuleDestroy();
  process.send({ retired: retire });
});
process.send({ started: [...instances.keys()] });

/** The configuration of one instance, as its own process would read it. @param {number} number */
function configOf(number) {
  const { config, serverId, instances: count, dir } = options;
  const id = `${serverId}.instance_${String(number).padStart(2, '0')}`;
  return {
    ...config,
    server: { ...config.server, id: serverId },
    // Nobody calls it: there is nothing to send.
    instance: { ...config.instance, id, number, count, url: `http://127.0.0.1:1/${id}` },
    sessions: { ...config.sessions, dir: join(dir, 'sessions'), chromiumPath: '/simulated' },
  };
}
