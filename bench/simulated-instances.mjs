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
import { EventEmitter } from 'node:events';
import { existsSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { DataSource } from 'typeorm';
import { AccountSessions } from '../dist/src/accounts/account-sessions.service.js';
import { Account } from '../dist/src/accounts/account.entity.js';
import { SandboxClient } from '../dist/src/accounts/sandbox-client.js';
import { OwnAccounts } from '../dist/src/accounts/own-accounts.service.js';
import { SessionSnapshots } from '../dist/src/accounts/session-snapshots.service.js';
import { InstanceLease } from '../dist/src/instances/instance-lease.service.js';
import { Server } from '../dist/src/instances/server.entity.js';
import { ServersService } from '../dist/src/instances/servers.service.js';
import { dataSourceOptions } from '../dist/src/platform/database/data-source.js';
import { createLogger } from '../dist/src/platform/logging/logger.js';

/** How long the stand-in for a browser takes, in milliseconds: to come up, to become ready then, and to close. */
const openMs = 5;
const syncMs = 5;
const closeMs = 2;

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

/** What an AccountDriver needs of a WhatsAppSession. Its credentials are a file in the profile, as a browser's are. */
class SimulatedSession extends EventEmitter {
  ready = false;
  ended = false;
  isOpen = false;
  closing = null;

  constructor(instanceId, { accountId, profileDir, canStart }) {
    super();
    Object.assign(this, { instanceId, accountId, profileDir, canStart });
  }

  async start() {
    if (this.ended) return;
    if (!this.canStart()) throw new Error('the lease of this instance does not hold');
    this.isOpen = true;
    note('open', this.accountId, this.instanceId);
    await delay(openMs);
    if (this.ended) return;
    this.useCredentials();
    this.emit('syncing');
    setTimeout(() => this.becomeReady(), syncMs);
  }

  /** Ends the session; returns when its browser would be gone. */
  async stop() {
    this.ended = true;
    this.ready = false;
    if (this.isOpen) await (this.closing ??= this.close());
  }

  async memoryBytes() {
    return 0;
  }

  async close() {
    await delay(closeMs);
    note('close', this.accountId, this.instanceId);
  }

  /** Without its credentials an account has to be linked by a person: that is to happen once. */
  useCredentials() {
    const credentials = join(this.profileDir, 'Default', 'credentials');
    if (existsSync(credentials)) return;
    mkdirSync(join(this.profileDir, 'Default'), { recursive: true });
    writeFileSync(credentials, this.accountId);
    note('linked', this.accountId, this.instanceId);
  }

  becomeReady() {
    if (this.ended) return;
    this.ready = true;
    note('ready', this.accountId, this.instanceId);
    this.emit('ready', { phoneNumber: null, lid: null });
  }
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
    (session) => new SimulatedSession(id, session),
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
