import { EventEmitter } from 'node:events';
import { connect } from 'node:net';
import { type INestApplicationContext, Module } from '@nestjs/common';
import { getDataSourceToken, TypeOrmModule } from '@nestjs/typeorm';
import { pino } from 'pino';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AccountSessions, OPEN_SESSION } from '../../src/sessions/account-sessions.js';
import { WebIncompatible } from '../../src/accounts/account-errors.js';
import { Account } from '../../src/accounts/account.entity.js';
import { AccountProxies } from '../../src/accounts/account-proxies.js';
import { WebVersionsService } from '../../src/accounts/web-versions.service.js';
import { SandboxClient } from '../../src/accounts/sandbox-client.js';
import { isOtherNumber, OwnAccounts } from '../../src/sessions/own-accounts.js';
import { markProfile } from '../../src/whatsapp/browser/archive.js';
import { SessionSnapshots } from '../../src/sessions/session-snapshots.js';
import { WebVersionRollout } from '../../src/sessions/web-version-rollout.js';
import { InstanceLease } from '../../src/instances/instance-lease.js';
import { InstancesModule } from '../../src/instances/instances.module.js';
import type { Config } from '../../src/platform/config/config.js';
import { DatabaseModule } from '../../src/platform/database/database.module.js';
import { createLogger, type Logger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import type { SessionEvents, SessionOptions } from '../../src/whatsapp/session-events.js';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { tcpProxy, type TcpProxy } from '../../setup/tcp-proxy.mjs';
import {
  insertAccount,
  insertInstance,
  insertRow,
  insertServer,
  insertWorkspace,
} from '../support/factories.js';
import { httpProxy, rawServer, socksProxy, type TestProxy } from '../support/proxies.js';
import { eventually } from '../support/eventually.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* What an instance does with its accounts, with sessions that need no browser: what the browser does is tested end to end. */

/** A session whose starts and stops the test can see and hold back. */
class StandIn extends EventEmitter<SessionEvents> {
  ready = false;
  bytes = 100;
  stoppedAt: number | null = null;
  /** Whether WhatsApp answers a logout. */
  confirmsLogout = false;
  private begin!: () => void;
  private readonly mayStart = new Promise<void>((resolve) => {
    this.begin = resolve;
  });

  constructor(readonly options: SessionOptions) {
    super();
  }

  async start(): Promise<void> {
    started.push(this);
    if (holdStarts) await this.mayStart;
    if (this.stoppedAt !== null) return;
    const own = { phone: linkedPhone, lid: null };
    const admission = await this.options.admit!(own);
    if (admission !== 'admit') {
      this.emit('closed', admission === 'stop' ? 'number_changed' : 'other_number', '');
      return;
    }
    this.ready = true;
    this.emit('ready', { phoneNumber: own.phone, lid: own.lid });
  }

  goOn(): void {
    this.begin();
  }

  async stop(): Promise<void> {
    this.stoppedAt ??= performance.now();
    this.ready = false;
    this.goOn();
  }

  async logout(): Promise<boolean> {
    await this.stop();
    return this.confirmsLogout;
  }

  takeServedPage(): string | null {
    return null;
  }

  memoryBytes(): Promise<number> {
    return Promise.resolve(this.bytes);
  }
}

const instanceId = 'one.instance_00';
const budget = 1_000;
let started: StandIn[] = [];
let holdStarts = false;
/** The number of the phone that is linked. */
let linkedPhone = '628111';
let database: Awaited<ReturnType<typeof scratchDatabase>>;
let cable: TcpProxy;
let dir: string;
let context: INestApplicationContext | null;
let sql: DataSource;
let workspaceId: string;

@Module({
  imports: [DatabaseModule, InstancesModule, TypeOrmModule.forFeature([Account])],
  providers: [
    InstanceLease,
    OwnAccounts,
    SessionSnapshots,
    AccountProxies,
    SandboxClient,
    WebVersionsService,
    AccountSessions,
    WebVersionRollout,
    { provide: OPEN_SESSION, useValue: (options: SessionOptions) => new StandIn(options) },
  ],
})
class SessionsModule {}

@Module({ imports: [DatabaseModule] })
class ObserverModule {}

let observer: INestApplicationContext;

beforeEach(async () => {
  started = [];
  holdStarts = false;
  linkedPhone = '628111';
  context = null;
  database = await scratchDatabase();
  cable = await tcpProxy(database.config.database.url);
  dir = await mkdtemp(join(tmpdir(), 'flotilla-sessions-'));
  observer = await createContext(ObserverModule, database.config, createLogger('test', 'silent'));
  sql = observer.get<DataSource>(getDataSourceToken());
  workspaceId = await insertWorkspace(sql);
  await insertServer(sql, 'one');
  await addInstance(instanceId, 0);
});

afterEach(async () => {
  await context?.close();
  await observer.close();
  await cable.close();
  await database.drop();
  await rm(dir, { recursive: true, force: true });
});

async function addInstance(id: string, leaseSeconds: number): Promise<void> {
  await insertInstance(sql, id, { leaseMs: leaseSeconds * 1_000 });
}

/** An account that this instance must drive, with a waiting message of the priority, or without one. */
async function addAccount(priority: number | null, heldBy: string | null = null): Promise<string> {
  const id = await insertAccount(sql, workspaceId, {
    environment: 'live',
    status: 'starting',
    desired_state: 'connected',
    instance_id: instanceId,
    epoch: 1,
    held_by: heldBy,
  });
  if (priority !== null) {
    await sql.query(
      `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, status, whatsapp_id)
       values ($1::uuid, $2, $3, 'outgoing', $4, 'text', 'x@c.us', 'x', 'queued', $1::uuid::text)`,
      [uuidv7(), workspaceId, id, priority],
    );
  }
  return id;
}

async function insertMessage(accountId: string, columns: object): Promise<string> {
  const id = uuidv7();
  await insertRow(sql, 'messages', {
    id,
    workspace_id: workspaceId,
    account_id: accountId,
    direction: 'outgoing',
    type: 'text',
    chat_id: 'x@c.us',
    recipient: 'x',
    whatsapp_id: id,
    ...columns,
  });
  return id;
}

async function startInstance({
  store,
  allowedPrivateAddresses = [],
  proxyTimeoutMs = 15_000,
  logger = createLogger('test', 'silent'),
}: {
  store?: Config['sessions']['store'];
  allowedPrivateAddresses?: string[];
  proxyTimeoutMs?: number;
  logger?: Logger;
} = {}): Promise<AccountSessions> {
  const { config } = database;
  const own: Config = {
    ...config,
    allowedPrivateAddresses,
    database: { ...config.database, url: cable.url },
    server: { ...config.server, id: 'one' },
    instance: {
      ...config.instance,
      id: instanceId,
      leaseMs: 3_000,
      renewMs: 300,
      stopMarginMs: 1_500,
      takeoverMarginMs: 500,
    },
    sessions: {
      ...config.sessions,
      dir,
      ...(store ? { store } : {}),
      startConcurrency: 2,
      chromiumPath: '/bin/true',
      memoryBudgetBytes: budget,
      proxyTimeoutMs,
    },
  };
  context = await createContext(SessionsModule, own, logger);
  return context.get(AccountSessions);
}

async function statusOf(
  id: string,
): Promise<{ status: string; held_by: string | null; status_reason: string | null }> {
  const [row] = await sql.query('select status, held_by, status_reason from accounts where id = $1', [id]);
  return row;
}

describe('an instance', () => {
  it('restores accounts with urgent messages first, and limits parallel starts', async () => {
    holdStarts = true;
    const idle = await addAccount(null);
    const normal = await addAccount(1);
    const urgent = await addAccount(3);
    const high = await addAccount(2);
    await startInstance();
    await eventually('two started', () => started.length === 2);
    const order = () => started.map(({ options }) => options.accountId);
    // These two start at the same time.
    expect(new Set(order())).toEqual(new Set([urgent, high]));
    started[0]!.goOn();
    await eventually('the third', () => started.length === 3);
    expect(order()[2]).toBe(normal);
    started[1]!.goOn();
    await eventually('the last', () => started.length === 4);
    expect(order()[3]).toBe(idle);
    started.forEach((session) => session.goOn());
    await eventually('ready', async () => (await statusOf(idle)).status === 'ready');
  });

  it('starts no account that another live instance holds, and starts it after the release', async () => {
    await addInstance('one.instance_01', 60);
    const held = await addAccount(null, 'one.instance_01');
    const free = await addAccount(null);
    await startInstance();
    await eventually('the free one ready', async () => (await statusOf(free)).status === 'ready');
    expect(started.map(({ options }) => options.accountId)).toEqual([free]);
    expect((await statusOf(held)).held_by).toBe('one.instance_01');
    await sql.query('update accounts set held_by = null where id = $1', [held]);
    await eventually('ready', async () => (await statusOf(held)).status === 'ready');
    expect((await statusOf(held)).held_by).toBe(instanceId);
  });

  it('takes over the accounts of an instance whose lease and margin are over', async () => {
    await addInstance('one.instance_01', -2);
    const held = await addAccount(null, 'one.instance_01');
    await startInstance();
    await eventually('ready', async () => (await statusOf(held)).status === 'ready');
  });

  it('stops and releases an account that is assigned to another instance', async () => {
    await addInstance('one.instance_01', 60);
    const id = await addAccount(null);
    await startInstance();
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
    await sql.query(
      `update accounts set instance_id = 'one.instance_01', status = 'starting' where id = $1`,
      [id],
    );
    await eventually('let go', async () => (await statusOf(id)).held_by === null);
    expect(started[0]!.stoppedAt).not.toBeNull();
    expect(await statusOf(id)).toMatchObject({ status: 'starting' });
  });

  it('closes everything before its lease ends if PostgreSQL is away, and drives it again afterwards', async () => {
    const id = await addAccount(null);
    const sessions = await startInstance();
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
    cable.cut();
    const [{ endsInMs }] = await sql.query(
      `select extract(epoch from lease_expires_at - clock_timestamp())::float8 * 1000 as "endsInMs" from instances where id = $1`,
      [instanceId],
    );
    const end = performance.now() + endsInMs;
    await eventually('closed', () => started[0]!.stoppedAt !== null);
    expect(started[0]!.stoppedAt).toBeLessThan(end);
    expect(() => sessions.driver(id)).toThrow(/does not drive/);
    cable.restore();
    await eventually('driven again', () => started.length === 2);
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
  });

  it('restarts a browser that exceeds its memory budget in two checks', async () => {
    const id = await addAccount(null);
    const sessions = await startInstance();
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
    started[0]!.bytes = budget + 1;
    await sessions.checkMemory();
    expect(started).toHaveLength(1);
    expect(started[0]!.stoppedAt).toBeNull();
    await sessions.checkMemory();
    await eventually('restarted', () => started.length === 2);
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
    const [{ reasons }] = await sql.query(
      'select array_agg(reason) as reasons from connection_logs where account_id = $1',
      [id],
    );
    expect(reasons).toContain('memory_budget');
    await sessions.checkMemory();
    expect(started).toHaveLength(2);
  });

  it('keeps the time of the link, however often the browser restarts', async () => {
    const id = await addAccount(null);
    const sessions = await startInstance();
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
    const times = async () => {
      const [row] = await sql.query('select linked_at, last_connected_at from accounts where id = $1', [id]);
      return row as { linked_at: Date; last_connected_at: Date };
    };
    const first = await times();
    sessions.driver(id).restart();
    await eventually('ready again', async () => (await times()).last_connected_at > first.last_connected_at);
    expect((await times()).linked_at).toEqual(first.linked_at);
  });

  it('says which version WhatsApp refuses, and tries no page again before the policy changes', async () => {
    await sql.query(
      `insert into web_versions (environment, version, page) values ('live', '2.3000.1', 'page')`,
    );
    await sql.query(`update web_version_policy set mode = 'pinned', version = '2.3000.1'`);
    const id = await addAccount(null);
    await startInstance();
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
    expect(started[0]!.options.webPage).toEqual({ version: '2.3000.1', html: 'page' });
    started[0]!.emit('closed', 'version_refused', 'WhatsApp no longer accepts it');
    await eventually('reconnecting', async () => (await statusOf(id)).status === 'reconnecting');
    const { status_reason: reason } = await statusOf(id);
    expect(reason).toMatch(/^version_refused: .*the page of 2\.3000\.1, which the policy/);
    await sql.query(`update web_version_policy set mode = 'latest', version = null`);
    await eventually('started again', () => started.length === 2);
    expect(started[1]!.options.webPage).toBeNull();
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
  });

  it('sends nothing through a page that lacks what sending needs, and says why while it is ready', async () => {
    const id = await addAccount(null);
    const sessions = await startInstance();
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
    expect(sessions.sendingDriver(id)).toBe(sessions.readyDriver(id));
    started[0]!.emit('web', { version: '2.3000.1', contract: 'broken', missing: ['WAWebMsgKey', 'WWebJS'] });
    await eventually('the reason', async () => (await statusOf(id)).status_reason !== null);
    expect(await statusOf(id)).toMatchObject({
      status: 'ready',
      status_reason: 'web_incompatible: WAWebMsgKey, WWebJS',
    });
    expect(() => sessions.sendingDriver(id)).toThrow(WebIncompatible);
    expect(sessions.readyDriver(id).ready).toBe(true);
    started[0]!.emit('web', { version: '2.3000.1', contract: 'ok', missing: [] });
    await eventually('no reason', async () => (await statusOf(id)).status_reason === null);
    expect(sessions.sendingDriver(id)).toBe(sessions.readyDriver(id));
  });

  it('deletes the credentials of an account only if WhatsApp has confirmed its logout', async () => {
    const id = await addAccount(null);
    const sessions = await startInstance();
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
    const profile = started[0]!.options.profileDir;
    await mkdir(profile, { recursive: true });
    await writeFile(join(profile, 'credentials'), 'secret');
    expect(await sessions.driver(id).logout()).toBe(false);
    await eventually('ready again', async () => started.length === 2 && sessions.driver(id).ready);
    expect(await readFile(join(profile, 'credentials'), 'utf8')).toBe('secret');
    started[1]!.confirmsLogout = true;
    expect(await sessions.driver(id).logout()).toBe(true);
    await eventually('logged out', async () => (await statusOf(id)).status === 'logged_out');
    await eventually('deleted', async () => !existsSync(profile));
  });

  describe('with another number', () => {
    /** An account that was ready with 628111, and its profile. */
    async function knownAccount(linkedAt: Date | null, refused: string | null = null) {
      const id = await addAccount(null);
      await sql.query(
        `update accounts set phone_number = '628111', linked_at = $2, refused_number = $3 where id = $1`,
        [id, linkedAt, refused],
      );
      const profile = join(dir, `session-${id}`);
      await mkdir(join(profile, 'Default'), { recursive: true });
      await writeFile(join(profile, 'Default', 'credentials'), 'secret');
      return { id, profile };
    }
    const eventsOf = async (id: string, type: string): Promise<object[]> => {
      const rows: { data: object }[] = await sql.query(
        'select data from events where account_id = $1 and type = $2 order by id',
        [id, type],
      );
      return rows.map(({ data }) => data);
    };
    const connectAgain = (id: string, isAllowed: boolean) =>
      sql.query(
        `update accounts set desired_state = 'connected', status = 'starting', refused_number = null,
           allow_number_change = $2 where id = $1`,
        [id, isAllowed],
      );

    it('that its phone has taken while it was linked, it stops and stays linked, until it may change', async () => {
      linkedPhone = '628222';
      const { id, profile } = await knownAccount(new Date());
      const uncertain = await insertMessage(id, { status: 'sending', attempts: 1 });
      const sure = await insertMessage(id, { status: 'queued', attempts: 0 });
      await startInstance();
      await eventually('stopped', async () => (await statusOf(id)).status === 'disconnected');
      expect((await statusOf(id)).status_reason).toMatch(
        /^other_number: the phone of this account has another/,
      );
      expect(await eventsOf(id, 'account.other_number')).toEqual([
        { accountId: id, phoneNumber: '628111', otherPhoneNumber: '628222' },
      ]);
      expect(existsSync(join(profile, 'Default', 'credentials'))).toBe(true);

      await eventually('ended', () => started[0]!.stoppedAt !== null);
      await connectAgain(id, true);
      await eventually('ready', async () => (await statusOf(id)).status === 'ready');
      expect(await eventsOf(id, 'account.number_changed')).toEqual([
        { accountId: id, phoneNumber: '628222', previousPhoneNumber: '628111' },
      ]);
      const [row] = await sql.query('select phone_number, allow_number_change from accounts where id = $1', [
        id,
      ]);
      expect(row).toEqual({ phone_number: '628222', allow_number_change: false });
      // Nobody can tell whether the old number sent it; the new number would send it once more.
      const messages = await sql.query('select id, status, error_code from messages order by id');
      expect(messages).toEqual([
        { id: uncertain, status: 'unknown', error_code: 'account.number_changed' },
        { id: sure, status: 'queued', error_code: null },
      ]);
    });

    it('of a phone that has just linked it, it deletes the credentials, and an earlier copy of the session stays', async () => {
      linkedPhone = '628222';
      const { id, profile } = await knownAccount(null);
      await sql.query(
        `insert into session_snapshots (account_id, workspace_id, epoch, digest, size_bytes, data, taken_at)
         values ($1, $2, 0, 'good', 4, 'copy', now())`,
        [id, workspaceId],
      );
      await markProfile(profile, 1);
      holdStarts = true;
      await startInstance({ store: 'postgres' });
      await eventually('started', () => started.length === 1);
      started[0]!.emit('syncing');
      await eventually('syncing', async () => (await statusOf(id)).status === 'syncing');
      started[0]!.goOn();
      await eventually('released', async () => (await statusOf(id)).held_by === null);
      expect(await statusOf(id)).toMatchObject({ status: 'disconnected' });
      expect(existsSync(profile)).toBe(false);
      expect(await sql.query('select digest from session_snapshots')).toEqual([{ digest: 'good' }]);
    });

    it('that its last owner unlinked before it died, it says the same', async () => {
      const { id, profile } = await knownAccount(null, '628222');
      holdStarts = true;
      await startInstance();
      await eventually('started', () => started.length === 1);
      started[0]!.emit('closed', 'logged_out', 'unlinked from the phone');
      await eventually('refused', async () => (await statusOf(id)).status === 'disconnected');
      expect((await statusOf(id)).status_reason).toMatch(/^other_number: /);
      await eventually('deleted', () => !existsSync(profile));
    });

    it('is not what the same number in another form is, nor a hidden number', () => {
      const account = { phoneNumber: '5511987654321', lid: '1@lid' };
      expect(isOtherNumber(account, { phone: '551187654321', lid: '2@lid' })).toBe(false);
      expect(isOtherNumber(account, { phone: '551187654322', lid: '1@lid' })).toBe(true);
      expect(isOtherNumber(account, { phone: null, lid: '1@lid' })).toBe(false);
      expect(isOtherNumber(account, { phone: null, lid: '2@lid' })).toBe(true);
      expect(isOtherNumber({ phoneNumber: '628111', lid: null }, { phone: null, lid: '2@lid' })).toBeNull();
      expect(isOtherNumber({ phoneNumber: null, lid: null }, { phone: '628222', lid: null })).toBeNull();
    });
  });

  describe('with the proxy of an account', () => {
    const login = 'user:proxy-password';
    const sentence = 'proxy_unreachable: the proxy of this account gives no connection. Check proxyUrl.';
    const allowedPrivateAddresses = ['127.0.0.1/32'];
    let lines: string[];
    let logger: Logger;
    const closers: (() => void)[] = [];
    beforeEach(() => {
      lines = [];
      logger = pino({ level: 'trace' }, { write: (line) => lines.push(line) });
    });
    afterEach(() => closers.splice(0).forEach((close) => close()));

    const proxiesWith = (changes: Partial<Config>) =>
      new AccountProxies({ ...database.config, ...changes }, logger, sql.getRepository(Account));
    const setProxy = (id: string, url: string, changes: Partial<Config> = {}) =>
      sql
        .getRepository(Account)
        .update(id, proxiesWith({ allowedPrivateAddresses: ['127.0.0.0/8'], ...changes }).columns(id, url));
    const addProxied = async (url: string, changes: Partial<Config> = {}) => {
      const id = await addAccount(null);
      await setProxy(id, url, changes);
      return id;
    };
    const open = async (opened: Promise<TestProxy>) => {
      const proxy = await opened;
      closers.push(proxy.close);
      return proxy;
    };
    const isOpen = (port: number) =>
      new Promise<boolean>((resolve) => {
        const socket = connect(port, '127.0.0.1');
        socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
        socket.once('connect', () => socket.destroy());
      });

    it('shows one reason for whatever is wrong with it, starts no browser, and keeps no other account waiting', async () => {
      const right = await open(httpProxy({ user: 'user', password: 'proxy-password' }));
      const wrong = await open(socksProxy({ user: 'user', password: 'other' }));
      const silent = await open(rawServer(() => undefined));
      const noise = await open(rawServer((socket) => socket.end('SSH-2.0-OpenSSH_9.6\r\n')));
      const broken = await Promise.all([
        addProxied(`socks5://${login}@127.0.0.1:${wrong.port}`),
        addProxied(`http://${login}@127.0.0.1:${silent.port}`),
        addProxied(`https://${login}@127.0.0.1:${noise.port}`),
        // Nothing listens there.
        addProxied(`http://${login}@127.0.0.1:1`),
        // The operator does not allow this address.
        addProxied(`http://${login}@127.0.0.2:${right.port}`),
        addProxied(`http://${login}@127.0.0.1:${right.port}`, { appKey: 'x'.repeat(44) }),
      ]);
      const unproxied = await addAccount(null);
      const proxyTimeoutMs = 3_000;
      await startInstance({ allowedPrivateAddresses, proxyTimeoutMs, logger });
      await eventually('ready', async () => (await statusOf(unproxied)).status === 'ready', proxyTimeoutMs);
      for (const id of broken)
        await eventually('the reason', async () => (await statusOf(id)).status_reason === sentence);
      expect(started).toHaveLength(1);
      expect(right.targets).toEqual([]);
      const [events] = await sql.query(
        `select count(*)::int as count, count(distinct data->>'statusReason')::int as reasons from events
         where account_id = any($1) and data->>'statusReason' like 'proxy%'`,
        [broken],
      );
      expect(events).toMatchObject({ count: broken.length, reasons: 1 });
      const [{ all }] = await sql.query(
        `select concat((select json_agg(a) from accounts a), (select json_agg(e) from events e),
           (select json_agg(c) from connection_logs c)) as all`,
      );
      // The operator reads each cause.
      expect(lines.join()).toMatch(/Authentication failed/);
      expect(lines.join()).toMatch(/gave no connection in time/);
      expect(lines.join()).toMatch(/ECONNREFUSED 127\.0\.0\.1:1\b/);
      expect(lines.join()).toMatch(/127\.0\.0\.2 is not an address on the public internet/);
      expect(lines.join()).toMatch(/encrypted with another APP_KEY/);
      expect(`${all} ${lines.join()}`).not.toContain('proxy-password');
    });

    it('has a port for the browser as long as the session, and restarts for another proxy, not for another APP_KEY', async () => {
      const proxy = await open(httpProxy({ user: 'user', password: 'proxy-password' }));
      const url = `http://${login}@127.0.0.1:${proxy.port}`;
      const id = await addProxied(url);
      const sessions = await startInstance({ allowedPrivateAddresses, proxyTimeoutMs: 2_000, logger });
      await eventually('ready', async () => (await statusOf(id)).status === 'ready');
      expect(proxy.targets).toEqual(['web.whatsapp.com:443']);
      const { network } = started[0]!.options;
      const port = network.kind === 'live' ? network.proxyPort! : 0;
      expect(await isOpen(port)).toBe(true);

      // The same proxy, encrypted again, as a rotation of APP_KEY does.
      await setProxy(id, url);
      const same = sessions.driver(id);
      // This account starts after the instance has read all rows again.
      const other = await addAccount(null);
      await eventually('ready', async () => (await statusOf(other)).status === 'ready');
      expect(sessions.driver(id)).toBe(same);
      expect(started).toHaveLength(2);

      await setProxy(id, `http://127.0.0.1:${proxy.port}`);
      await eventually('the reason', async () => (await statusOf(id)).status_reason === sentence);
      expect([started.length, await isOpen(port)]).toEqual([2, false]);

      await setProxy(id, url);
      await eventually('ready', async () => (await statusOf(id)).status === 'ready');
      started[2]!.emit('closed', 'crashed', 'net::ERR_TUNNEL_CONNECTION_FAILED at https://web.whatsapp.com');
      await eventually('the reason', async () => (await statusOf(id)).status_reason === sentence);
    });
  });

  it('leaves a conflict to a person', async () => {
    const id = await addAccount(null);
    await startInstance();
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
    started[0]!.emit('closed', 'conflict', 'another browser uses this session');
    await eventually('conflict', async () => (await statusOf(id)).status === 'conflict');
    await eventually('let go', async () => (await statusOf(id)).held_by === null);
    expect(started).toHaveLength(1);
    await sql.query(`update accounts set status = 'starting' where id = $1`, [id]);
    await eventually('ready', async () => (await statusOf(id)).status === 'ready');
  });
});
