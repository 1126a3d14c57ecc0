import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createStack, type Stack } from '../../setup/stack.mjs';
import { browsersBelow, descendantsOf, isAlive, killNow } from '../support/processes.js';
import { tcpProxy, type TcpProxy } from '../../setup/tcp-proxy.mjs';
import { eventually } from '../support/eventually.js';
import { Flotilla, type LedgerEntry, type Workspace } from '../support/flotilla.js';

/** Short, so that the tests are: what matters is their order. */
const times = { leaseMs: 5_000, renewMs: 700, stopMarginMs: 2_000, takeoverMarginMs: 1_500 };
const fleetSettings = {
  SESSION_STORE: 'postgres',
  SESSION_SNAPSHOT_DELAY_MS: '500',
  INSTANCE_LEASE_MS: String(times.leaseMs),
  INSTANCE_RENEW_MS: String(times.renewMs),
  INSTANCE_STOP_MARGIN_MS: String(times.stopMarginMs),
  INSTANCE_TAKEOVER_MARGIN_MS: String(times.takeoverMarginMs),
  INSTANCE_RESTART_GRACE_MS: '4000',
  INSTANCE_MAX_ACCOUNTS: '10',
};

/** The first server has everything; the second only instances, and a way to PostgreSQL that can be cut. */
let flotilla: Flotilla;
let second: Stack;
let cable: TcpProxy;
let workspace: Workspace;
let accounts: { id: string; phoneNumber: string; instanceId: string }[];
let sql: Client;

beforeAll(async () => {
  flotilla = await Flotilla.start({
    instances: 2,
    postgres: 'own',
    env: { ...fleetSettings, SERVER_ID: 'server-1', SERVER_NAME: 'Singapore', SERVER_REGION: 'singapore' },
  });
  const { env } = flotilla.stack;
  cable = await tcpProxy(env.DATABASE_URL!);
  second = await createStack({
    instances: 2,
    programs: ['instance'],
    env: {
      ...fleetSettings,
      SERVER_ID: 'server-2',
      DATABASE_URL: cable.url,
      ...Object.fromEntries(
        [
          'REDIS_URL',
          'ADMIN_API_KEY',
          'INTERNAL_API_KEY',
          'APP_KEY',
          'SANDBOX_PORT',
          'SANDBOX_CONTROL_PORT',
        ].map((name) => [name, env[name]!]),
      ),
    },
  });
  await second.start();
  sql = new Client({ connectionString: env.DATABASE_URL! });
  sql.on('error', () => undefined);
  await sql.connect();
  workspace = await flotilla.newWorkspace();
  accounts = await workspace.linkedAccounts(4);
  await untilCopied();
}, 180_000);

afterAll(async () => {
  await sql?.end().catch(() => undefined);
  cable?.restore();
  await second?.stop();
  await cable?.close();
  await flotilla?.stop();
}, 120_000);

async function instancesOf(): Promise<Map<string, string>> {
  const found = await Promise.all(accounts.map(({ id }) => workspace.account(id)));
  return new Map(found.map(({ id, instanceId }) => [id, instanceId]));
}

async function qrsShown(): Promise<number> {
  const { rows } = await sql.query(
    `select count(*)::int as count from connection_logs where event_type = 'qr_generated'`,
  );
  return rows[0].count;
}

async function untilAllReady(timeoutMs = 60_000): Promise<void> {
  await Promise.all(accounts.map(({ id }) => workspace.untilStatus(id, 'ready', timeoutMs)));
}

/** Every account has a copy of its session, under its present epoch. */
async function untilCopied(): Promise<void> {
  await eventually('copies of all sessions', async () => {
    const { rows } = await sql.query(
      `select count(*)::int as missing from accounts a left join session_snapshots s on s.account_id = a.id
       where s.epoch is distinct from a.epoch`,
    );
    return rows[0].missing === 0;
  });
}

async function instanceStatus(id: string): Promise<string> {
  const { body } = await flotilla.call('GET', '/admin/instances');
  return body.items.find((instance: { id: string }) => instance.id === id).status;
}

/** When the lease of an instance ends, by PostgreSQL's clock, which is this machine's. */
async function leaseEnd(instanceId: string): Promise<number> {
  const { rows } = await sql.query(
    'select extract(epoch from lease_expires_at) * 1000 as at from instances where id = $1',
    [instanceId],
  );
  return Number(rows[0].at);
}

/** WhatsApp never saw two browsers with one credential, and no two instances ever had an account under one epoch. */
async function expectOneOwner(): Promise<void> {
  expect((await flotilla.sandbox('GET', '/stats')).conflicts).toBe(0);
  const { rows } = await sql.query(
    `select account_id, epoch from connection_logs where event_type in ('claimed', 'connected')
     group by account_id, epoch having count(distinct instance_id) > 1`,
  );
  expect(rows).toEqual([]);
}

/**
 * Sends while `work` is done, and expects every message to arrive once and in order. A copy of a session does not know what
 * was sent after it was taken: such a message may be sent again, under its one id, and the recipient drops the second.
 */
async function expectDeliveredThroughout(run: string, work: () => Promise<void>): Promise<void> {
  const phone = await flotilla.newPhone();
  let sent = 0;
  let isOver = false;
  const sending = (async () => {
    while (!isOver || sent % accounts.length !== 0) {
      const answer = await workspace.send({
        accountId: accounts[sent % accounts.length]!.id,
        to: phone,
        text: `${run}/${String(sent).padStart(5, '0')}`,
      });
      expect(answer.status).toBe(202);
      sent += 1;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  })();
  try {
    await work();
  } finally {
    isOver = true;
  }
  await sending;
  await workspace.untilAllSent(90_000);
  const ofThisRun = ({ text }: { text: string }) => text.startsWith(`${run}/`);
  const arrived = (await flotilla.ledger()).filter(({ duplicate }) => !duplicate).filter(ofThisRun);
  expect(arrived).toHaveLength(sent);
  const inbox: { text: string }[] = (await flotilla.sandbox('GET', `/phones/${phone}/inbox`)).items;
  expect(inbox.filter(ofThisRun)).toHaveLength(sent);
  for (const { phoneNumber } of accounts) {
    const texts = arrived.filter(({ from }: LedgerEntry) => from === phoneNumber).map(({ text }) => text);
    expect(texts).toEqual([...texts].sort());
  }
}

describe('a fleet of two servers with two instances each', () => {
  it('gives four accounts that connect at once an instance each', async () => {
    const { body } = await flotilla.call('GET', '/admin/distribution');
    expect(body).toMatchObject({ spread: 0, balanced: true });
    expect(body.instances.map(({ connected }: { connected: number }) => connected)).toEqual([1, 1, 1, 1]);
    const { body: servers } = await flotilla.call('GET', '/admin/servers');
    expect(servers.items).toHaveLength(2);
    expect(servers.items.find(({ id }: { id: string }) => id === 'server-1')).toMatchObject({
      name: 'Singapore',
      region: 'singapore',
      isHealthy: true,
      reserved: 2,
      connected: 2,
    });
    await expectOneOwner();
  });

  it('moves an account to the other server and back without a QR code, while it sends', async () => {
    const qrs = await qrsShown();
    const account = accounts[0]!;
    const home = (await workspace.account(account.id)).instanceId;
    const away = home.startsWith('server-1') ? 'server-2.instance_00' : 'server-1.instance_00';
    await expectDeliveredThroughout('migrate', async () => {
      for (const target of [away, home]) {
        const { status, body } = await workspace.call('POST', `/accounts/${account.id}/migrate`, {
          instanceId: target,
        });
        expect({ status, instanceId: body.instanceId }).toEqual({ status: 202, instanceId: target });
        await eventually('ready there', async () => {
          const seen = await workspace.account(account.id);
          return seen.status === 'ready' && seen.instanceId === target;
        });
      }
    });
    expect(await workspace.account(account.id)).toMatchObject({ phoneNumber: account.phoneNumber });
    expect(await qrsShown()).toBe(qrs);
    await expectOneOwner();
  });

  it('takes over from an instance that hangs, whose browsers end before its lease does', async () => {
    const qrs = await qrsShown();
    const [id, instanceId] = [...(await instancesOf())].find(([, owner]) => owner.startsWith('server-1'))!;
    const program = `flotilla:${instanceId.split('.').at(-1)}`;
    await untilCopied();
    await expectDeliveredThroughout('hang', async () => {
      const pid = await flotilla.stack.kill(program, 'SIGSTOP');
      const browsers = await descendantsOf(pid);
      expect(browsers.length).toBeGreaterThan(0);
      const end = await leaseEnd(instanceId);
      try {
        await eventually(
          'no browser of the instance that hangs',
          async () => !(await Promise.all(browsers.map(isAlive))).includes(true),
        );
        expect(Date.now()).toBeLessThan(end);
        await eventually('ready elsewhere', async () => {
          const account = await workspace.account(id);
          return account.status === 'ready' && account.instanceId !== instanceId;
        });
        expect(Date.now()).toBeGreaterThan(end + times.takeoverMarginMs);
      } finally {
        await flotilla.stack.kill(program, 'SIGCONT');
      }
      await eventually('active again', async () => (await instanceStatus(instanceId)) === 'active');
    });
    expect(await qrsShown()).toBe(qrs);
    await expectOneOwner();
  });

  it('takes over from a server whose way to PostgreSQL is cut, and lets it back in', async () => {
    const qrs = await qrsShown();
    await untilCopied();
    const before = await instancesOf();
    const lost = [...before].filter(([, owner]) => owner.startsWith('server-2')).map(([id]) => id);
    expect(lost.length).toBeGreaterThan(0);
    await expectDeliveredThroughout('cut', async () => {
      cable.cut();
      const end = Math.max(await leaseEnd('server-2.instance_00'), await leaseEnd('server-2.instance_01'));
      await eventually('no browser on it', async () => (await browsersBelow(second.varDir)).length === 0);
      expect(Date.now()).toBeLessThan(end);
      await eventually('ready on the other server', async () => {
        const now = await Promise.all(lost.map((id) => workspace.account(id)));
        return now.every(({ status, instanceId }) => status === 'ready' && instanceId.startsWith('server-1'));
      });
      cable.restore();
      await eventually(
        'active again',
        async () => (await instanceStatus('server-2.instance_00')) === 'active',
      );
    });
    expect(await qrsShown()).toBe(qrs);
    await expectOneOwner();
  });

  it('evens the load out again, after saying how', async () => {
    const { body: plan } = await flotilla.call('POST', '/admin/rebalance', { dryRun: true });
    expect(plan.moves.length).toBeGreaterThan(0);
    const { body: done } = await flotilla.call('POST', '/admin/rebalance', {});
    expect(done.moves).toEqual(plan.moves);
    await eventually(
      'even',
      async () => (await flotilla.call('GET', '/admin/distribution')).body.spread === 0,
    );
    await untilAllReady();
    await expectOneOwner();
  });

  it('drains an instance, and gives it accounts again when it is activated', async () => {
    const id = 'server-1.instance_01';
    await untilCopied();
    const { status, body } = await flotilla.call('POST', `/admin/instances/${id}/drain`);
    expect({ status, state: body.status }).toEqual({ status: 200, state: 'draining' });
    await eventually('empty', async () => ![...(await instancesOf()).values()].includes(id));
    await untilAllReady();
    const newcomer = await workspace.newAccount();
    expect((await workspace.account(newcomer)).instanceId).not.toBe(id);
    await workspace.call('DELETE', `/accounts/${newcomer}`);
    expect((await flotilla.call('POST', `/admin/instances/${id}/activate`)).body.status).toBe('active');
    const next = await workspace.newAccount();
    expect((await workspace.account(next)).instanceId).toBe(id);
    await workspace.call('DELETE', `/accounts/${next}`);
    await expectOneOwner();
  });

  it('stops all driving in time when PostgreSQL is away for longer than leases last, and comes back by itself', async () => {
    const qrs = await qrsShown();
    const before = await instancesOf();
    const ends: number[] = [];
    for (const owner of new Set(before.values())) ends.push(await leaseEnd(owner));
    await flotilla.stack.ctl('stop', 'flotilla-data:postgres');
    const stoppedAt = Date.now();
    await eventually('no browser anywhere', async () => {
      const browsers = await Promise.all([flotilla.stack, second].map(({ varDir }) => browsersBelow(varDir)));
      return browsers.flat().length === 0;
    });
    // The leases were renewed at the latest when PostgreSQL went.
    const lastEnd = Math.max(...ends, stoppedAt + times.leaseMs);
    expect(Date.now()).toBeLessThan(lastEnd);
    // By now another instance would take over, if it could.
    const takenOverAt = lastEnd + times.takeoverMarginMs + times.renewMs;
    await eventually('the leases have ended', () => Date.now() > takenOverAt);
    await flotilla.stack.ctl('start', 'flotilla-data:postgres');
    await eventually('all ready again', async () => {
      await untilAllReady(5_000);
      return (await Promise.all([flotilla.stack, second].map(({ varDir }) => browsersBelow(varDir)))).every(
        (browsers) => browsers.length > 0,
      );
    });
    sql = new Client({ connectionString: flotilla.stack.env.DATABASE_URL! });
    sql.on('error', () => undefined);
    await sql.connect();
    // Everybody has what they had: an outage is no reason to move anything.
    expect(await instancesOf()).toEqual(before);
    expect(await qrsShown()).toBe(qrs);
    await expectOneOwner();
  });

  it('refuses a second process under the id of a live instance', async () => {
    const child = spawn(process.execPath, ['dist/programs/instance.mjs'], {
      env: {
        ...process.env,
        ...flotilla.stack.env,
        INSTANCE_NUMBER: '0',
        INSTANCE_BASE_PORT: String(Number(flotilla.stack.env.INSTANCE_BASE_PORT) + 50),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += String(data)));
    const [code] = await once(child, 'exit');
    expect(code).toBe(1);
    expect(output).toContain('server-1.instance_00 already runs');
    expect(output).toContain('its own SERVER_ID');
    await untilAllReady(5_000);
    await expectOneOwner();
  });

  it('takes the accounts of a machine that dies to the other one, without a QR code', async () => {
    const qrs = await qrsShown();
    await untilCopied();
    const lost = [...(await instancesOf())].filter(([, owner]) => owner.startsWith('server-2'));
    expect(lost.length).toBeGreaterThan(0);
    // The phone of their recipient is off, and no copy of the sessions knows these messages.
    await flotilla.sandbox('PUT', '/faults', { deliverAcks: false });
    const phoneOff = await flotilla.newPhone();
    const sent = await Promise.all(
      lost.map(async ([accountId]) => {
        const { body } = await workspace.call('POST', '/messages?wait=sent&timeoutMs=10000', {
          accountId,
          to: phoneOff,
          text: 'after the copy',
        });
        expect(body).toMatchObject({ status: 'sent', inQuestionSince: null });
        return body.id as string;
      }),
    );
    await flotilla.sandbox('DELETE', '/faults');
    await expectDeliveredThroughout('machine', async () => {
      const everything = [second.supervisordPid!, ...(await descendantsOf(second.supervisordPid!))];
      for (const pid of everything) killNow(pid);
      await eventually('ready on the other server', async () => {
        const now = await Promise.all(lost.map(([id]) => workspace.account(id)));
        return now.every(({ status, instanceId }) => status === 'ready' && instanceId.startsWith('server-1'));
      });
    });
    for (const id of sent) {
      const { body: message } = await workspace.call('GET', `/messages/${id}`);
      expect(message).toMatchObject({ status: 'sent', inQuestionSince: expect.any(String) });
    }
    expect(await qrsShown()).toBe(qrs);
    const { body } = await flotilla.call('GET', '/admin/logs?serverId=server-1&limit=200');
    const taken = body.items.filter(
      ({ details }: { details: { reason?: string } }) => details.reason === 'failover',
    );
    expect(taken.length).toBeGreaterThanOrEqual(lost.length);
    expect(taken[0].details.epoch).toBe(taken[0].details.old_epoch + 1);
    await expectOneOwner();
  });
});
