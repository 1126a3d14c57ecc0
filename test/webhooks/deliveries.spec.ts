import { Webhook as StandardWebhook } from 'standardwebhooks';
import { v4 as uuidv4 } from 'uuid';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { QueuesService } from '../../src/queues/queues.service.js';
import type { CreateWebhookDto } from '../../src/webhooks/webhooks.dto.js';
import { WebhookRunner } from '../../src/webhooks/webhook-runner.js';
import { WebhookSequences } from '../../src/webhooks/webhook-sequences.js';
import { changed } from '../support/fake.js';
import { eventually } from '../support/eventually.js';
import { Receiver, WebhookSystem } from '../support/webhooks.js';

let system: WebhookSystem;
let receiver: Receiver;
let workspaceId: string;
let accountId: string;

beforeAll(async () => {
  system = await WebhookSystem.start(5);
}, 60_000);
afterAll(() => system?.stop());
beforeEach(async () => {
  receiver = await Receiver.start();
  workspaceId = await system.newWorkspace();
  accountId = uuidv4();
});
afterEach(async () => {
  // The next test must not see retries of this test.
  await system.database.query('delete from workspaces where id = $1', [workspaceId]);
  await receiver.stop();
});

const create = async (wanted: Partial<CreateWebhookDto> = {}) => {
  const { webhook, secret } = await system.webhooks.create(workspaceId, {
    url: receiver.url,
    events: ['*'],
    ...wanted,
  });
  return { id: webhook.id, secret };
};
const got = (count: number, from = receiver) =>
  eventually(`${count} received`, async () => from.received.length >= count && from.received);
const listed = async (id: string) =>
  (await system.deliveries.list(workspaceId, id, { limit: 200 })).reverse();
const untilStatus = (id: string, status: string, count = 1) =>
  eventually(`${count} ${status}`, async () => {
    const rows = (await listed(id)).filter((row) => row.status === status);
    return rows.length >= count && rows;
  });
/** The parts of a claimed sequence that say how an endpoint is called: a late answer needs none of them. */
const noAccess = {
  url: '',
  secret: Buffer.alloc(0),
  previousSecret: null,
  headers: null,
  login: null,
  caCertificate: null,
};
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

describe('a delivery', () => {
  it('passes the check of the Standard Webhooks library, and has the id that the event has everywhere', async () => {
    const { id, secret } = await create();
    await system.emit(workspaceId, { accountId, from: 7 });
    const [delivery] = await got(1);
    const verified = new StandardWebhook(secret).verify(
      delivery!.body,
      delivery!.headers as Record<string, string>,
    );
    expect(verified).toEqual({
      id: delivery!.headers['webhook-id'],
      type: 'message.sent',
      createdAt: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      workspaceId,
      accountId,
      data: { n: 7 },
    });
    const [row] = await untilStatus(id, 'delivered');
    expect(`${row!.transactionId}-${row!.eventId}`).toBe(delivery!.id);
    expect(row).toMatchObject({ attempts: 1, statusCode: 200, error: null, responseExcerpt: 'thanks' });
    expect(() =>
      new StandardWebhook(secret).verify(`${delivery!.body} `, delivery!.headers as Record<string, string>),
    ).toThrow();
  });

  it('is made only of events that the endpoint wants', async () => {
    accountId = await system.newAccount(workspaceId);
    await create({
      events: ['account.status', 'message.*', 'message.*'],
      accountIds: [accountId, accountId],
    });
    expect((await system.webhooks.list(workspaceId, { limit: 1 }))[0]).toMatchObject({
      events: ['account.status', 'message.*'],
      accountIds: [accountId],
    });
    await system.emit(workspaceId, { accountId, type: 'campaign.status', from: 1 });
    await system.emit(workspaceId, { accountId: uuidv4(), from: 2 });
    await system.emit(await system.newWorkspace(), { accountId, from: 3 });
    await system.emit(workspaceId, { accountId, type: 'messages', from: 4 });
    await system.emit(workspaceId, { accountId, type: 'account.status', from: 5 });
    await system.emit(workspaceId, { accountId, type: 'message.read', from: 6 });
    await got(2);
    expect(receiver.received.map(({ data }) => data.n)).toEqual([5, 6]);
  });

  it('is made only of events of accounts with one of its labels, at that time', async () => {
    const [vip, other, third] = [
      await system.newAccount(workspaceId, ['vip', 'berlin']),
      await system.newAccount(workspaceId, ['rome']),
      await system.newAccount(workspaceId),
    ];
    await create({ events: ['message.*'], labels: ['vip', 'oslo', 'vip'] });
    const [both, everything] = [await Receiver.start(), await Receiver.start()];
    try {
      await create({ url: everything.url, events: ['message.*'] });
      const { id } = await create({
        url: both.url,
        events: ['message.*'],
        labels: ['vip', 'rome'],
        accountIds: [other, third],
      });
      for (const [index, account] of [vip, other, third, null].entries())
        await system.emit(workspaceId, { accountId: account, from: index + 1 });
      // The deliveries of these events are made before the labels change.
      await got(4, everything);
      await system.database.query(`update accounts set labels = '{oslo}' where id = $1`, [third]);
      await system.emit(workspaceId, { accountId: third, from: 5 });
      await got(2);
      await got(1, both);
      expect(receiver.received.map(({ data }) => data.n)).toEqual([1, 5]);
      expect(both.received.map(({ data }) => data.n)).toEqual([2]);
      // A replay chooses by the labels of now.
      await system.webhooks.update(workspaceId, id, { labels: null });
      await system.deliveries.replay(id, { since: new Date(Date.now() - 60_000) });
      await eventually('replayed', () => both.received.length === 4);
      expect(both.received.map(({ data }) => data.n).sort()).toEqual([2, 2, 3, 5]);
    } finally {
      await both.stop();
      await everything.stop();
    }
  });

  it('has the headers of its endpoint and the login of its URL, which the database does not show', async () => {
    const url = receiver.url.replace('://', '://j%C3%BCrgen:p%40ss-word@');
    const { id } = await create({ url, headers: { 'X-Api-Key': 'k3y-value', 'User-Agent': 'Mine/1' } });
    await system.emit(workspaceId, { accountId });
    const [delivery] = await got(1);
    expect(delivery!.headers).toMatchObject({
      'x-api-key': 'k3y-value',
      'user-agent': 'Mine/1',
      authorization: `Basic ${Buffer.from('jürgen:p@ss-word').toString('base64')}`,
      'content-type': 'application/json',
      'webhook-id': delivery!.id,
    });
    const [{ text }] = await system.database.query(
      `select w::text || encode(w.headers || w.login, 'escape') as text from webhooks w where id = $1`,
      [id],
    );
    for (const secret of ['k3y-value', 'ss-word', 'jürgen', 'rgen']) expect(text).not.toContain(secret);
  });

  it('holds a code for linking only if the webhook names the event type in full', async () => {
    const named = await Receiver.start();
    try {
      await create({ events: ['*', 'account.*'] });
      await create({ url: named.url, events: ['account.qr'] });
      await system.emit(workspaceId, { accountId, type: 'account.qr', from: 1 });
      await system.emit(workspaceId, { accountId, type: 'account.pairing_code', from: 2 });
      await system.emit(workspaceId, { accountId, type: 'account.status', from: 3 });
      await got(1);
      await got(1, named);
      expect(receiver.received.map(({ type }) => type)).toEqual(['account.status']);
      expect(named.received.map(({ type }) => type)).toEqual(['account.qr']);
    } finally {
      await named.stop();
    }
  });

  it('is not made of an event before the webhook', async () => {
    await system.emit(workspaceId, { accountId, from: 1 });
    await create();
    await system.emit(workspaceId, { accountId, from: 2 });
    await got(1);
    expect(receiver.numbers(accountId)).toEqual([2]);
  });

  it('keeps the order of its account, while accounts run in parallel', async () => {
    await create();
    const other = uuidv4();
    for (let from = 1; from <= 181; from += 20) {
      await system.emit(workspaceId, { accountId, from, count: 20 });
      await system.emit(workspaceId, { accountId: other, from, count: 20 });
    }
    await got(400);
    expect(receiver.numbers(accountId)).toEqual(upTo(200));
    expect(receiver.numbers(other)).toEqual(upTo(200));
  });

  it('of a transaction that commits late is not lost', async () => {
    await create();
    const late = system.database.createQueryRunner();
    await late.startTransaction();
    await late.query(
      `insert into events (workspace_id, account_id, type, data) values ($1, $2, 'message.sent', '{"n": 1}')`,
      [workspaceId, accountId],
    );
    await system.emit(workspaceId, { accountId, from: 2 });
    await late.commitTransaction();
    await late.release();
    await got(2);
    expect(receiver.numbers(accountId)).toEqual([1, 2]);
  });

  it('survives a Redis that loses everything', async () => {
    await create();
    for (let from = 1; from <= 10; from += 1) {
      await system.emit(workspaceId, { accountId, from });
      await system.redis.flushdb();
    }
    await got(10);
    expect(receiver.numbers(accountId)).toEqual(upTo(10));
  });
});

describe('an endpoint that fails', () => {
  it('is tried again: later deliveries of the account wait, other accounts and other endpoints go on', async () => {
    const healthy = await Receiver.start();
    try {
      const other = uuidv4();
      const { id } = await create();
      await create({ url: healthy.url });
      receiver.answer = (response, { accountId: account }) =>
        response.writeHead(account === accountId ? 500 : 200).end('oh no');
      await system.emit(workspaceId, { accountId, from: 1, count: 3 });
      await system.emit(workspaceId, { accountId: other, from: 1, count: 3 });
      await got(6, healthy);
      await untilStatus(id, 'delivered', 3);
      const [failed] = await untilStatus(id, 'failed');
      expect(failed).toMatchObject({ attempts: 1, statusCode: 500, responseExcerpt: 'oh no' });
      expect(failed!.error).toContain('webhook.refused');
      const waitMs = failed!.nextAttemptAt!.getTime() - failed!.lastAttemptAt!.getTime();
      expect(waitMs).toBeGreaterThanOrEqual(5_000);
      expect(waitMs).toBeLessThan(6_000);
      expect(receiver.numbers(accountId)).toEqual([1]);

      // The endpoint is down for an hour: the test moves the times of the rows, not the clock.
      await system.pass(id, 1);
      await eventually('second attempt', async () => (await listed(id))[0]!.attempts === 2);
      expect((await listed(id)).map(({ status }) => status).sort()).toEqual([
        ...['delivered', 'delivered', 'delivered', 'failed', 'pending', 'pending'],
      ]);
      receiver.answer = (response) => response.end();
      await system.pass(id, 1);
      await untilStatus(id, 'delivered', 6);
      expect(receiver.numbers(accountId)).toEqual([1, 1, 1, 2, 3]);
      expect(new Set(receiver.received.filter(({ data }) => data.n === 1).map((one) => one.id)).size).toBe(2);
      expect((await system.webhooks.get(workspaceId, id)).failingSince).toBeNull();
    } finally {
      await healthy.stop();
    }
  });

  it('gets an event eight times over more than a day; then the delivery is dead, the next has its turn, and a person can redeliver it', async () => {
    const { id } = await create();
    receiver.answer = (response, { data }) => response.writeHead(data.n === 1 ? 503 : 200).end();
    await system.emit(workspaceId, { accountId, count: 2 });
    let hours = 0;
    for (let attempts = 1; attempts < 8; attempts += 1) {
      const row = await eventually(`attempt ${attempts}`, async () => {
        const [first] = await listed(id);
        return first?.status === 'failed' && first.attempts === attempts && first;
      });
      const wait = (row.nextAttemptAt!.getTime() - Date.now()) / 3_600_000;
      hours += wait;
      await system.pass(id, wait + 0.01);
    }
    expect(hours).toBeGreaterThan(24);
    const [dead] = await untilStatus(id, 'dead');
    expect(dead).toMatchObject({ attempts: 8, nextAttemptAt: null, statusCode: 503 });
    await untilStatus(id, 'delivered', 1);
    expect(receiver.numbers(accountId)).toEqual([1, 1, 1, 1, 1, 1, 1, 1, 2]);

    receiver.answer = (response) => response.end();
    expect((await system.deliveries.listDead(10, id)).map((row) => row.id)).toEqual([dead!.id]);
    await system.deliveries.redeliver(workspaceId, id, dead!.id);
    await untilStatus(id, 'delivered', 2);
    expect(receiver.received.at(-1)!.id).toBe(receiver.received[0]!.id);
  });

  it('may ask for a longer wait', async () => {
    const { id } = await create();
    receiver.answer = (response) => response.writeHead(429, { 'retry-after': '600' }).end();
    await system.emit(workspaceId, { accountId });
    const [row] = await untilStatus(id, 'failed');
    expect(row!.nextAttemptAt!.getTime() - row!.lastAttemptAt!.getTime()).toBeGreaterThanOrEqual(600_000);
  });

  it.each([
    [
      'redirects to a private address',
      'webhook.redirected',
      (receiver: Receiver) => {
        receiver.answer = (response) =>
          response.writeHead(302, { location: 'http://169.254.169.254/latest/meta-data/' }).end();
      },
    ],
    [
      'breaks off',
      'url.unreachable',
      (receiver: Receiver) => {
        receiver.answer = (response) => response.destroy();
      },
    ],
  ])('and %s is tried again', async (_what, code, misbehave) => {
    const { id } = await create();
    misbehave(receiver);
    await system.emit(workspaceId, { accountId });
    const [row] = await untilStatus(id, 'failed');
    expect(row!.error).toContain(code);
    expect(receiver.received).toHaveLength(1);
    receiver.answer = (response) => response.end();
    await system.pass(id, 1);
    await untilStatus(id, 'delivered');
  });

  it('has received an event if it answers 200, even if the body has a wrong length', async () => {
    const { id } = await create();
    receiver.answer = (response, { data }) => {
      response.writeHead(200, { 'content-length': data.n === 1 ? '500' : '5' });
      response.write('short');
      response.socket?.end();
    };
    await system.emit(workspaceId, { accountId, count: 2 });
    const rows = await untilStatus(id, 'delivered', 2);
    expect(rows.map(({ responseExcerpt }) => responseExcerpt)).toEqual(['short', 'short']);
    expect(receiver.numbers(accountId)).toEqual([1, 2]);
  });

  it('and sends an endless answer is read only in part', async () => {
    const { id } = await create();
    receiver.answer = (response) => {
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(16_384)));
      };
      response.on('drain', more);
      more();
    };
    await system.emit(workspaceId, { accountId });
    const [row] = await untilStatus(id, 'delivered');
    expect(row!.responseExcerpt).toHaveLength(1_024);
  });

  it('and hangs delays no other endpoint, and at most ten of its sequences run at once', async () => {
    const healthy = await Receiver.start();
    const runner = system.worker.get(WebhookRunner);
    const usualMs = runner['timeoutMs'];
    runner['timeoutMs'] = 6_000;
    try {
      let hung = 0;
      receiver.answer = (response) => {
        if (hung++ >= 10) setTimeout(() => response.writeHead(500).end(), 100);
      };
      const { id } = await create();
      await create({ url: healthy.url });
      for (let account = 0; account < 15; account += 1) {
        await system.emit(workspaceId, { accountId: uuidv4(), count: 2 });
      }
      await got(30, healthy);
      expect((await listed(id)).filter(({ attempts }) => attempts > 0)).toEqual([]);
      const rows = await eventually(
        'the first attempts are given up',
        async () => {
          const failed = (await listed(id)).filter(({ status }) => status === 'failed');
          return failed.length >= 10 && failed;
        },
        15_000,
      );
      expect(rows[0]!.error).toContain('url.timed_out');
      expect(rows[0]!.durationMs).toBeGreaterThanOrEqual(6_000);
      expect(receiver.maxOpen).toBe(10);
      // The endpoint is failing now, so one sequence at a time runs, although five were not tried yet.
      receiver.maxOpen = 0;
      const before = receiver.received.length;
      await eventually('probed', async () => receiver.received.length >= before + 4);
      expect(receiver.maxOpen).toBe(1);
    } finally {
      runner['timeoutMs'] = usualMs;
      await healthy.stop();
    }
  }, 60_000);

  it('and answers 410 is disabled at once, and another endpoint gets the event of that', async () => {
    const other = await Receiver.start();
    try {
      const { id } = await create({ events: ['message.*'] });
      await create({ url: other.url, events: ['webhook.*'] });
      receiver.answer = (response) => response.writeHead(410).end();
      await system.emit(workspaceId, { accountId, count: 2 });
      const [told] = await got(1, other);
      expect(told).toMatchObject({ type: 'webhook.disabled', data: { webhookId: id, reason: 'gone' } });
      expect(await system.webhooks.get(workspaceId, id)).toMatchObject({
        isEnabled: false,
        disabledReason: 'gone',
      });
      await system.pass(id, 1);
      await system.emit(workspaceId, { accountId, from: 3 });

      receiver.answer = (response) => response.end();
      await system.webhooks.update(workspaceId, id, { isEnabled: true });
      await system.emit(workspaceId, { accountId, from: 4 });
      await untilStatus(id, 'delivered', 3);
      // Waiting deliveries arrive. Events while the webhook was disabled need a replay.
      expect(receiver.numbers(accountId)).toEqual([1, 1, 2, 4]);
    } finally {
      await other.stop();
    }
  });

  it('leaves slots for other workspaces, even if all of its own endpoints hang', async () => {
    const healthy = await Receiver.start();
    const neighbour = await system.newWorkspace();
    try {
      receiver.answer = () => undefined;
      for (let count = 0; count < 6; count += 1) await create();
      for (let account = 0; account < 10; account += 1)
        await system.emit(workspaceId, { accountId: uuidv4() });
      await got(48);
      await system.webhooks.create(neighbour, { url: healthy.url, events: ['*'] });
      await system.emit(neighbour, { accountId });
      await got(1, healthy);
      expect(receiver.maxOpen).toBe(48);
    } finally {
      await system.database.query('delete from workspaces where id = $1', [neighbour]);
      await healthy.stop();
    }
  });

  it('for five days is disabled', async () => {
    const { id } = await create();
    receiver.answer = (response) => response.writeHead(500).end();
    await system.emit(workspaceId, { accountId });
    await untilStatus(id, 'failed');
    await system.pass(id, 5 * 24 + 1);
    await eventually('disabled', async () => !(await system.webhooks.get(workspaceId, id)).isEnabled);
    expect((await system.webhooks.get(workspaceId, id)).disabledReason).toBe('failing');
    const [event] = await system.database.query(
      `select data from events where workspace_id = $1 and type = 'webhook.disabled'`,
      [workspaceId],
    );
    expect(event.data).toMatchObject({ webhookId: id, reason: 'failing' });
  });
});

describe('a person', () => {
  it('rotates the secret: both secrets sign until the old one expires', async () => {
    const { id, secret: first } = await create();
    const { secret: second } = await system.webhooks.update(workspaceId, id, { rotateSecret: true });
    expect(second).not.toBe(first);
    await system.emit(workspaceId, { accountId });
    const [delivery] = await got(1);
    for (const secret of [first, second!]) {
      expect(
        new StandardWebhook(secret).verify(delivery!.body, delivery!.headers as Record<string, string>),
      ).toMatchObject({ id: delivery!.id });
    }
    await system.database.query(`update webhooks set previous_secret_expires_at = now() where id = $1`, [id]);
    await system.emit(workspaceId, { accountId });
    const [, later] = await got(2);
    expect(() =>
      new StandardWebhook(first).verify(later!.body, later!.headers as Record<string, string>),
    ).toThrow('No matching signature');
    new StandardWebhook(second!).verify(later!.body, later!.headers as Record<string, string>);
  });

  it('changes the URL, which gets waiting deliveries at once, and can name only existing accounts', async () => {
    const { id } = await create();
    receiver.answer = (response) => response.writeHead(500).end();
    await system.emit(workspaceId, { accountId });
    await untilStatus(id, 'failed');
    await system.pass(id, -1);
    const moved = await Receiver.start();
    try {
      const { webhook } = await system.webhooks.update(workspaceId, id, {
        url: moved.url,
        events: ['message.*', 'message.*'],
      });
      expect(webhook).toMatchObject({ events: ['message.*'], failingSince: null, isEnabled: true });
      await got(1, moved);
      await untilStatus(id, 'delivered');
    } finally {
      await moved.stop();
    }
    const foreign = await system.newAccount(await system.newWorkspace());
    await expect(system.webhooks.update(workspaceId, id, { accountIds: [foreign] })).rejects.toMatchObject({
      code: 'account.not_found',
    });
  });

  it('finds no secret in the database', async () => {
    const { id, secret } = await create();
    const [row] = await system.database.query('select * from webhooks where id = $1', [id]);
    expect(JSON.stringify(row)).not.toContain(secret);
    expect(row.secret.includes(Buffer.from(secret.slice(6), 'base64'))).toBe(false);
    expect(row.secret.includes(secret)).toBe(false);
  });

  it('tests an endpoint, even if it is disabled', async () => {
    const { id, secret } = await create();
    await system.webhooks.update(workspaceId, id, { isEnabled: false });
    receiver.answer = (response) => response.writeHead(202).end('seen');
    const outcome = await system.webhooks.test(workspaceId, id);
    expect(outcome).toMatchObject({ statusCode: 202, error: null, excerpt: 'seen' });
    const [delivery] = receiver.received;
    expect(
      new StandardWebhook(secret).verify(delivery!.body, delivery!.headers as Record<string, string>),
    ).toMatchObject({ type: 'webhook.test', id: outcome.eventId });
    expect(await listed(id)).toEqual([]);
  });

  it('replays a period, only the named types, in order, each event under its old id', async () => {
    const { id } = await create();
    await system.emit(workspaceId, { accountId, from: 1, count: 3 });
    await system.emit(workspaceId, { accountId, type: 'message.read', from: 4 });
    await untilStatus(id, 'delivered', 4);
    const [{ at }] = await system.database.query('select now() as at');
    await system.emit(workspaceId, { accountId, from: 5 });
    await untilStatus(id, 'delivered', 5);
    const ids = receiver.received.map((one) => one.id);

    const hourAgo = new Date(Date.now() - 3_600_000);
    const replay = await system.deliveries.replay(id, { since: hourAgo, until: at, types: ['message.sent'] });
    expect(replay).toEqual({ count: 3, nextAfter: null });
    await got(8);
    expect(receiver.received.slice(5).map((one) => one.id)).toEqual(ids.slice(0, 3));
    await untilStatus(id, 'delivered', 5);
    expect(await system.deliveries.replay(id, { since: new Date(Date.now() + 60_000) })).toMatchObject({
      count: 0,
    });
  });

  it('replays events from before the webhook was created', async () => {
    await system.emit(workspaceId, { accountId, from: 1, count: 20 });
    const { id } = await create();
    // Readers of the log stop at the oldest running transaction, which may belong to another test.
    await eventually(
      'replayed',
      async () => (await system.deliveries.replay(id, { since: new Date(Date.now() - 60_000) })).count === 20,
    );
    await got(20);
    expect(receiver.numbers(accountId)).toEqual(upTo(20));
  });

  it('replays more than ten thousand events in steps, in a log full of events of another workspace', async () => {
    await system.emit(workspaceId, { accountId, count: 10_002 });
    await system.emit(await system.newWorkspace(), { count: 50_000 });
    const { id } = await create({ events: ['message.sent'] });
    // This test checks that deliveries are created, not that they arrive.
    await system.webhooks.update(workspaceId, id, { isEnabled: false });
    const since = new Date(Date.now() - 3_600_000);
    const first = await eventually('the log is settled', async () => {
      const replay = await system.deliveries.replay(id, { since });
      return replay.count > 0 && replay;
    });
    expect(first).toEqual({ count: 10_000, nextAfter: expect.stringMatching(/^\d+-\d+$/) });
    const second = await system.deliveries.replay(id, { since, after: first.nextAfter! });
    expect(second).toEqual({ count: 2, nextAfter: null });

    await system.database.query('analyze events');
    const plan: { 'QUERY PLAN': string }[] = await system.database.query(
      `explain select * from events where workspace_id = $1 and (transaction_id, id) > ('0'::xid8, 0)
       order by transaction_id, id limit 500`,
      [workspaceId],
    );
    expect(plan.map((line) => line['QUERY PLAN']).join('\n')).toContain('events_workspace');
  });

  it('redelivers beside waiting deliveries, and uses up none of their attempts', async () => {
    const { id } = await create();
    receiver.answer = (response, { data }) => response.writeHead(data.n === 2 ? 500 : 200).end();
    await system.emit(workspaceId, { accountId, count: 1 });
    await untilStatus(id, 'delivered');
    await system.emit(workspaceId, { accountId, from: 2, count: 2 });
    await untilStatus(id, 'failed');
    await system.pass(id, -1);
    // An earlier delivery comes at once, although its sequence waits for the next attempt of a later one.
    const [first, failed] = await listed(id);
    await system.deliveries.redeliver(workspaceId, id, first!.id);
    await got(3);
    await untilStatus(id, 'delivered');
    expect(receiver.numbers(accountId)).toEqual([1, 2, 1]);
    // A later delivery comes when it has its turn.
    const [, , last] = await listed(id);
    await system.database.query(`update webhook_deliveries set status = 'dead' where id = $1`, [last!.id]);
    expect(await system.deliveries.retry(last!.id)).toBe(true);
    await eventually('given back', async () => (await system.deliveries.backlog()).active === 0);
    expect((await listed(id))[1]).toMatchObject({ attempts: 1, nextAttemptAt: failed!.nextAttemptAt });
    const [row] = await system.database.query<{ next_attempt_at: Date }[]>(
      'select next_attempt_at from webhook_lanes where webhook_id = $1',
      [id],
    );
    expect(row!.next_attempt_at).toEqual(failed!.nextAttemptAt);
  });

  it('is not overwritten by a worker that writes too late', async () => {
    const { id } = await create();
    receiver.answer = () => undefined;
    await system.emit(workspaceId, { accountId });
    await got(1);
    const [delivery] = await listed(id);
    const [{ claim }] = await system.database.query('select claim from webhook_lanes where webhook_id = $1', [
      id,
    ]);
    const sequences = system.worker.get(WebhookSequences);
    const sequence = { webhookId: id, laneId: accountId, workspaceId, ...noAccess };
    const late = (claimed: string, attempts: number) =>
      sequences.recordFailure(
        { ...sequence, claim: claimed },
        { id: delivery!.id, attempts },
        { statusCode: 410, durationMs: 1, error: 'late', excerpt: null, retryAfterMs: 0 },
      );
    expect(await late(uuidv4(), 0)).toBeNull();
    expect(await late(claim, 3)).toBeNull();
    await system.database.query(`update webhook_deliveries set status = 'delivered' where id = $1`, [
      delivery!.id,
    ]);
    expect(await late(claim, 0)).toBeNull();
    expect(await listed(id)).toMatchObject([{ status: 'delivered', attempts: 0, error: null }]);
    expect(await system.webhooks.get(workspaceId, id)).toMatchObject({ isEnabled: true, failingSince: null });
  });

  it('gets a failure recorded without a scan of other open deliveries, even if the statistics say that there are none', async () => {
    const { id } = await create();
    receiver.answer = () => undefined;
    await system.emit(workspaceId, { accountId });
    await got(1);
    const [delivery] = await listed(id);
    const waiting = 5_000;
    const add = (status: string) =>
      system.database.query(
        `insert into webhook_deliveries (id, workspace_id, webhook_id, transaction_id, event_id, type, status)
         select gen_random_uuid(), $1, $2, '1', -row_number() over () - (select count(*) from webhook_deliveries), 'x', $3
         from generate_series(1, ${waiting})`,
        [workspaceId, id, status],
      );
    await system.database.query(`update webhook_deliveries set status = 'delivered'`);
    await add('delivered');
    await system.database.query('vacuum analyze webhook_deliveries');
    await add('pending');
    await system.database.query(`update webhook_deliveries set status = 'pending' where id = $1`, [
      delivery!.id,
    ]);
    const [{ claim }] = await system.database.query('select claim from webhook_lanes where webhook_id = $1', [
      id,
    ]);
    const sequence = { webhookId: id, laneId: accountId, workspaceId, ...noAccess };
    // In a transaction, pg_stat_xact_user_tables counts only the rows that its own connection has read.
    await system.database.transaction(async (manager) => {
      const inTransaction = changed(system.database, { transaction: manager.transaction.bind(manager) });
      const rowsRead = async () => {
        const [{ rows }] = await manager.query(
          `select (seq_tup_read + idx_tup_fetch)::int as rows from pg_stat_xact_user_tables
           where relname = 'webhook_deliveries'`,
        );
        return rows as number;
      };
      const sequences = new WebhookSequences(inTransaction, system.worker.get(QueuesService));
      const before = await rowsRead();
      const failure = await sequences.recordFailure(
        { ...sequence, claim },
        { id: delivery!.id, attempts: 0 },
        { statusCode: 500, durationMs: 1, error: 'full', excerpt: null, retryAfterMs: 0 },
      );
      expect(failure).not.toBeNull();
      expect((await rowsRead()) - before).toBeLessThan(waiting / 10);
    });
  });

  it('creates at most twenty webhooks, even with concurrent requests', async () => {
    const outcomes = await Promise.allSettled(
      Array.from({ length: 25 }, () => create({ events: ['none.such'] })),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(20);
    expect(outcomes.find((one) => one.status === 'rejected')?.reason).toMatchObject({
      code: 'webhook.limit_reached',
    });
  });

  it('deletes a webhook and its waiting deliveries', async () => {
    receiver.answer = (response) => response.writeHead(500).end();
    const { id } = await create();
    await system.emit(workspaceId, { accountId, count: 50 });
    await untilStatus(id, 'failed');
    await system.webhooks.delete(workspaceId, id);
    expect(await listed(id)).toEqual([]);
  });
});

describe('the log of deliveries', () => {
  it('loses old deliveries', async () => {
    const { id } = await create();
    await system.emit(workspaceId, { accountId, count: 3 });
    const rows = await untilStatus(id, 'delivered', 3);
    const now = Date.now();
    const aged = (days: number) =>
      Math.floor(now - days * 24 * 3_600_000)
        .toString(16)
        .padStart(12, '0')
        .replace(/^(.{8})(.{4})$/, '$1-$2-7000-8000-000000000001');
    await system.database.query(`update webhook_deliveries set id = $2 where id = $1`, [
      rows[0]!.id,
      aged(8),
    ]);
    await system.database.query(`update webhook_deliveries set id = $2, status = 'dead' where id = $1`, [
      rows[1]!.id,
      aged(29),
    ]);
    await system.deliveries.prune();
    expect((await listed(id)).map((row) => row.status).sort()).toEqual(['dead', 'delivered']);
    await system.database.query(`update webhook_deliveries set id = $2 where status = 'dead' and id = $1`, [
      aged(29),
      aged(31),
    ]);
    await system.deliveries.prune();
    expect((await listed(id)).map((row) => row.status)).toEqual(['delivered']);
  });

  it('is counted', async () => {
    receiver.answer = (response) => response.writeHead(500).end();
    const { id } = await create();
    await system.emit(workspaceId, { accountId, count: 5 });
    await untilStatus(id, 'failed');
    await eventually('given back', async () => (await system.deliveries.backlog()).active === 0);
    expect(await system.deliveries.backlog()).toMatchObject({ waiting: 0, delayed: 5, active: 0 });
    expect(await system.deliveries.count()).toMatchObject({ pending: 4, failed: 1 });
  });
});

it('a worker that stops ends its running attempt, and starts no other', async () => {
  const { id } = await create();
  const answers: (() => void)[] = [];
  receiver.answer = (response) => answers.push(() => response.end());
  await system.emit(workspaceId, { accountId, count: 2 });
  await got(1);
  const ended = system.stopWorker();
  await eventually(
    'stopping',
    async () => (await system.database.query(`select from workers where status = 'stopping'`)).length,
  );
  answers[0]!();
  await ended;
  expect((await listed(id)).map(({ status }) => status)).toEqual(['delivered', 'pending']);
  expect(await system.deliveries.backlog()).toMatchObject({ active: 0 });
  expect(receiver.numbers(accountId)).toEqual([1]);
});
