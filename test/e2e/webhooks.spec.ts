import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { generate } from 'selfsigned';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { findFreePorts } from '../../setup/ports.mjs';
import { Receiver } from '../support/webhooks.js';
import { eventually } from '../support/eventually.js';
import { Flotilla, type Workspace } from '../support/flotilla.js';

const project = join(import.meta.dirname, '../..');
let flotilla: Flotilla;
let database: pg.Client;
let workspace: Workspace;
let receiver: Receiver;

beforeAll(async () => {
  flotilla = await Flotilla.start({
    programs: ['api', 'worker', 'scheduler'],
    env: { ALLOW_PRIVATE_ADDRESSES: '127.0.0.0/8,::1/128' },
  });
  database = new pg.Client({ connectionString: flotilla.stack.env.DATABASE_URL });
  await database.connect();
});
afterAll(async () => {
  await database?.end();
  await flotilla?.stop();
});
beforeEach(async () => {
  receiver = await Receiver.start();
  workspace = await flotilla.newWorkspace();
});
afterEach(() => receiver?.stop());

const newWebhook = async (more: object = {}) => {
  const { status, body } = await workspace.call('POST', '/webhooks', {
    url: receiver.url,
    events: ['message.*'],
    ...more,
  });
  expect(status).toBe(201);
  return body;
};
const emit = (accountId: string, from: number, count = 1) =>
  database.query(
    `insert into events (workspace_id, account_id, type, data)
     select $1, $2, 'message.sent', jsonb_build_object('n', n) from generate_series($3::int, $3::int + $4::int - 1) n`,
    [workspace.id, accountId, from, count],
  );
const received = (count: number, timeoutMs?: number) =>
  eventually(`${count} received`, async () => receiver.received.length >= count, timeoutMs);
const newAccount = async (labels: string[] = []) =>
  (await workspace.call('POST', '/accounts', { name: 'test', environment: 'sandbox', labels })).body
    .id as string;
/** Of a server inside of a company: no public authority knows it, and it is for another name. */
const { private: key, cert } = await generate([{ name: 'commonName', value: 'hooks.intern' }], {
  keyType: 'ec',
  curve: 'P-256',
  algorithm: 'sha256',
});
const certificates = { key, cert };

describe('webhooks through the API', () => {
  it('tell of a message what the API tells of it', async () => {
    const { secret } = await newWebhook();
    const accountId = await newAccount();
    const { body: message } = await workspace.send({ accountId, to: '+6281234567890', text: 'Hello' });
    await received(1);
    const [{ body, headers }] = receiver.received as [(typeof receiver.received)[0]];
    expect(new StandardWebhook(secret).verify(body, headers as Record<string, string>)).toMatchObject({
      type: 'message.queued',
      workspaceId: workspace.id,
      accountId,
      data: { id: message.id, text: 'Hello', status: 'queued' },
    });
    expect(headers).toMatchObject({ 'content-type': 'application/json', 'webhook-id': JSON.parse(body).id });
  });

  it.each(['account', 'workspace'])(
    'hear what became of the messages of an %s that is deleted',
    async (what) => {
      await newWebhook({ events: ['message.cancelled', 'message.unknown'] });
      const accountIds = [await newAccount(), await newAccount()];
      const sendAt = new Date(Date.now() + 3_600_000).toISOString();
      const wanted = [{}, { priority: 'urgent' }, { sendAt }];
      const ids: string[] = [];
      for (const accountId of accountIds)
        for (const more of wanted)
          ids.push(
            (await workspace.send({ accountId, to: '+6281234567890', text: 'never', ...more })).body.id,
          );
      // Its outcome is not known, and nobody can find it out any more.
      await database.query('update messages set attempts = 1 where id = $1', [ids[0]]);
      if (what === 'workspace')
        expect((await flotilla.call('DELETE', `/workspaces/${workspace.id}`)).status).toBe(204);
      else
        for (const id of accountIds)
          expect((await workspace.call('DELETE', `/accounts/${id}`)).status).toBe(204);
      await received(ids.length);
      const told = receiver.received.map(({ data }) => data as { id: string; status: string; error: object });
      expect(told.map(({ id, status }) => [id, status]).sort()).toEqual(
        ids.map((id, number) => [id, number === 0 ? 'unknown' : 'cancelled']).sort(),
      );
      for (const { error } of told) expect(error).toMatchObject({ code: 'account.deleted' });
    },
  );

  it('show their secret once, and are listed, changed and deleted', async () => {
    const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
    const made = await newWebhook({ secret, description: 'CRM' });
    expect(made).toMatchObject({ secret, description: 'CRM', isEnabled: true, disabledReason: null });
    const { body: list } = await workspace.call('GET', '/webhooks');
    expect(list.items.map(({ id }: { id: string }) => id)).toEqual([made.id]);
    const { body: shown } = await workspace.call('GET', `/webhooks/${made.id}`);
    expect(JSON.stringify([list, shown])).not.toContain('whsec_');
    const { body: changed } = await workspace.call('PATCH', `/webhooks/${made.id}`, {
      events: ['account.status'],
      isEnabled: false,
    });
    expect(changed).toMatchObject({
      events: ['account.status'],
      isEnabled: false,
      disabledReason: 'owner',
      secret: null,
    });
    const { body: rotated } = await workspace.call('PATCH', `/webhooks/${made.id}`, { rotateSecret: true });
    expect(rotated.secret).toMatch(/^whsec_/);
    expect(Date.parse(rotated.previousSecretExpiresAt)).toBeGreaterThan(Date.now() + 23 * 3_600_000);
    expect((await workspace.call('DELETE', `/webhooks/${made.id}`)).status).toBe(204);
    expect((await workspace.call('GET', `/webhooks/${made.id}`)).body.code).toBe('webhook.not_found');
  });

  it.each([
    ['no URL', { url: undefined }, 400, 'validation.failed'],
    ['no events', { events: [] }, 400, 'validation.failed'],
    ['an event that is none', { events: ['message.*', 'message.sendt'] }, 400, 'validation.failed'],
    ['a weak secret', { secret: 'whsec_c2hvcnQ=' }, 400, 'validation.failed'],
    ['an unknown field', { colour: 'red' }, 400, 'validation.failed'],
    ['an account that is no id', { accountIds: ['x'] }, 400, 'validation.failed'],
    ['an account that is not there', { accountIds: [randomUUID()] }, 404, 'account.not_found'],
    ['another scheme', { url: 'ftp://example.com/' }, 422, 'url.not_usable'],
    ['a masked login', { url: 'https://********:********@example.com/' }, 400, 'validation.failed'],
    ['a login that is not UTF-8', { url: 'https://me:%ff@example.com/' }, 422, 'url.not_usable'],
    ['a masked header', { headers: { 'X-Key': '********' } }, 400, 'validation.failed'],
    ['a header of its own', { headers: { 'Webhook-Id': '1' } }, 400, 'validation.failed'],
    ['a header that splits the request', { headers: { 'X-A': 'b\r\nX-C: d' } }, 400, 'validation.failed'],
    ['a header with a wrong name', { headers: { 'X A': 'b' } }, 400, 'validation.failed'],
    ['a header twice', { headers: { 'X-A': 'b', 'x-a': 'c' } }, 400, 'validation.failed'],
    ['headers that are a list', { headers: [['X-A', 'b']] }, 400, 'validation.failed'],
    [
      'two authorizations',
      { url: 'https://me:secret@example.com/', headers: { authorization: 'Bearer x' } },
      400,
      'validation.failed',
    ],
    ['a certificate that is none', { caCertificate: 'x' }, 400, 'validation.failed'],
    ['a certificate without TLS', { caCertificate: certificates.cert }, 400, 'validation.failed'],
    [
      'a private key',
      { url: 'https://example.com/', caCertificate: certificates.cert + certificates.key },
      400,
      'validation.failed',
    ],
    ['an empty label', { labels: [''] }, 400, 'validation.failed'],
    ['a private address', { url: 'http://10.0.0.1/' }, 422, 'url.address_not_public'],
    ['the metadata service', { url: 'http://169.254.169.254/' }, 422, 'url.address_not_public'],
    ['an address in disguise', { url: 'http://[::ffff:10.0.0.1]/' }, 422, 'url.address_not_public'],
  ])('are refused with %s', async (_what, wrong, status, code) => {
    const answer = await workspace.call('POST', '/webhooks', { url: receiver.url, events: ['*'], ...wrong });
    expect([answer.status, answer.body.code]).toEqual([status, code]);
    expect((await workspace.call('GET', '/webhooks')).body.items).toEqual([]);
  });

  it('reach a server inside, and keep its secrets', async () => {
    const inside = await Receiver.start(0, { host: '::1', tls: certificates });
    try {
      const [plain, login] = [inside.url, '://me:s3cret@'];
      const made = await newWebhook({
        url: plain.replace('://', login),
        headers: { 'X-Api-Key': 'k3y' },
        caCertificate: `A comment\n${certificates.cert}`,
        labels: ['vip'],
      });
      const maskedUrl = plain.replace('://', '://********:********@');
      expect(made).toMatchObject({
        url: maskedUrl,
        headers: { 'X-Api-Key': '********' },
        caCertificate: certificates.cert.trim() + '\n',
        labels: ['vip'],
      });
      const path = `/webhooks/${made.id}`;
      const { body: shown } = await workspace.call('GET', path);
      expect(JSON.stringify(shown)).not.toMatch(/k3y|s3cret/);
      const accountId = await newAccount(['vip']);
      await emit(await newAccount(['other']), 1);
      await emit(accountId, 2);
      const got = async (count: number) => {
        await eventually('delivered', () => inside.received.length >= count);
        return inside.received[count - 1]!;
      };
      const authorization = (text: string) => `Basic ${Buffer.from(text).toString('base64')}`;
      const first = { 'x-api-key': 'k3y', authorization: authorization('me:s3cret') };
      expect(await got(1)).toMatchObject({ accountId, data: { n: 2 }, headers: first });
      // What an answer shows can be sent back, and changes nothing.
      const { url, headers, caCertificate, labels } = shown;
      const change = (more: object) => workspace.call('PATCH', path, more);
      expect((await change({ url, headers, caCertificate, labels })).status).toBe(200);
      expect((await workspace.call('POST', `${path}/test`)).body).toMatchObject({ isDelivered: true });
      expect(await got(2)).toMatchObject({ type: 'webhook.test', headers: first });
      await change({
        headers: { 'x-api-key': '********', 'X-More': 'y' },
        url: plain.replace('://', '://you:n3w@'),
      });
      await workspace.call('POST', `${path}/test`);
      const second = { 'x-api-key': 'k3y', 'x-more': 'y', authorization: authorization('you:n3w') };
      expect((await got(3)).headers).toMatchObject(second);
      // Without its certificate the server is a stranger.
      await change({ caCertificate: null });
      const { body: refused } = await workspace.call('POST', `${path}/test`);
      expect(refused).toMatchObject({
        isDelivered: false,
        error: expect.stringContaining('url.unreachable'),
      });
      // Another server gets no secret of this one.
      for (const [more, field] of [
        [{ url: receiver.url }, 'headers'],
        [{ url: receiver.url, headers: { 'X-Api-Key': '********' } }, 'headers'],
        [{ url: receiver.url.replace('://', '://********:********@'), headers: {} }, 'url'],
      ] as const) {
        const { status, body } = await change(more);
        expect([status, body.errors[0].path]).toEqual([400, field]);
      }
      await change({ url: receiver.url, headers: null, labels: null });
      await workspace.call('POST', `${path}/test`);
      await received(1);
      const { headers: bare } = receiver.received[0]!;
      expect([bare.authorization, bare['x-api-key'], bare['x-more']]).toEqual([
        undefined,
        undefined,
        undefined,
      ]);
    } finally {
      await inside.stop();
    }
  });

  it('are twenty at the most', async () => {
    const answers = await Promise.all(
      Array.from({ length: 21 }, () =>
        workspace.call('POST', '/webhooks', { url: receiver.url, events: ['account.*'] }),
      ),
    );
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(20);
    expect(answers.find(({ status }) => status !== 201)).toMatchObject({
      status: 409,
      body: { code: 'webhook.limit_reached' },
    });
  });

  it('are for owners, and of one workspace', async () => {
    const { id } = await newWebhook();
    const accountId = await newAccount();
    await emit(accountId, 1);
    const delivery = await eventually('listed', async () => {
      const { body } = await workspace.call('GET', `/webhooks/${id}/deliveries?status=delivered`);
      return body.items[0];
    });
    const other = await flotilla.newWorkspace();
    const [viewer, sender] = [await workspace.keyFor('viewer'), await workspace.keyFor('sender')];
    const calls: [method: string, path: string, body?: object][] = [
      ['GET', `/webhooks/${id}`],
      ['PATCH', `/webhooks/${id}`, { description: 'x' }],
      ['POST', `/webhooks/${id}/test`],
      ['GET', `/webhooks/${id}/deliveries`],
      ['POST', `/webhooks/${id}/deliveries/${delivery.id}/redeliver`],
      ['POST', `/webhooks/${id}/replay`, { since: '2026-01-01T00:00:00Z' }],
      ['DELETE', `/webhooks/${id}`],
    ];
    for (const [method, path, body] of calls) {
      expect((await flotilla.call(method, path, body, null)).status, path).toBe(401);
      for (const key of [viewer, sender]) {
        const answer = await flotilla.call(method, path, body, key);
        expect([answer.status, answer.body.code], path).toEqual([403, 'auth.insufficient_role']);
      }
      const answer = await other.call(method, path, body);
      expect([answer.status, answer.body.code], path).toEqual([404, 'webhook.not_found']);
    }
    expect((await other.call('GET', '/webhooks')).body.items).toEqual([]);
    expect((await flotilla.call('GET', '/webhooks', undefined, viewer)).status).toBe(403);
    expect(receiver.received).toHaveLength(1);
    expect(
      (await workspace.call('POST', `/webhooks/${id}/deliveries/${randomUUID()}/redeliver`)).body.code,
    ).toBe('webhook.delivery_not_found');
  });

  it('are tested, redelivered and replayed', async () => {
    const { id } = await newWebhook();
    receiver.answer = (response, { type }) =>
      response.writeHead(type === 'webhook.test' ? 418 : 200).end('ok');
    const { body: tested } = await workspace.call('POST', `/webhooks/${id}/test`);
    expect(tested).toMatchObject({ isDelivered: false, statusCode: 418, response: 'ok' });
    const accountId = await newAccount();
    await emit(accountId, 1, 3);
    await received(4);
    const { body: page } = await eventually('delivered', async () => {
      const answer = await workspace.call('GET', `/webhooks/${id}/deliveries?status=delivered&limit=2`);
      return answer.body.items.length === 2 && answer.body.nextCursor && answer;
    });
    const [latest] = page.items;
    expect(latest).toMatchObject({ type: 'message.sent', status: 'delivered', attempts: 1, statusCode: 200 });
    expect(
      (await workspace.call('POST', `/webhooks/${id}/deliveries/${latest.id}/redeliver`)).body,
    ).toMatchObject({ id: latest.id, status: 'pending' });
    await received(5);
    expect(receiver.received.at(-1)!.id).toBe(latest.eventId);
    const replay = await workspace.call('POST', `/webhooks/${id}/replay`, {
      since: new Date(Date.now() - 3_600_000).toISOString(),
      types: ['message.sent'],
    });
    expect([replay.status, replay.body]).toEqual([202, { count: 3, nextAfter: null }]);
    await received(8);
  });

  it('are tested four at the same time in one workspace', async () => {
    const { id } = await newWebhook();
    const waiting: (() => void)[] = [];
    receiver.answer = (response) => waiting.push(() => response.end());
    const test = () => workspace.call('POST', `/webhooks/${id}/test`);
    const running = Array.from({ length: 4 }, test);
    await eventually('four are running', () => waiting.length === 4);
    const refused = await test();
    expect(refused).toMatchObject({ status: 429, body: { code: 'webhook.too_many_tests' } });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
    for (const answer of waiting) answer();
    for (const tested of await Promise.all(running)) expect(tested.body.isDelivered).toBe(true);
    receiver.answer = (response) => response.end();
    expect((await test()).status).toBe(200);
  });

  it('are counted among the queues and metrics, and seen to on the command line', async () => {
    const { id } = await newWebhook();
    receiver.answer = (response) => response.writeHead(500).end();
    await emit(randomUUID(), 1, 3);
    await eventually('a backlog', async () => {
      const { body } = await flotilla.call('GET', '/admin/queues');
      const queue = body.items.find(({ name }: { name: string }) => name === 'webhooks');
      return queue.delayed === 3 && queue.backlog === 3;
    });
    await database.query(`update webhook_deliveries set status = 'dead' where webhook_id = $1`, [id]);
    const { stdout } = await flotilla.stack.cli('webhook:list', '--workspace', workspace.id, '--json');
    expect(JSON.parse(stdout)).toMatchObject([{ id, dead: 3, open: 0, isEnabled: true }]);
    expect((await flotilla.stack.cli('webhook:failed', '--webhook', id)).stdout).toContain('message.sent');
    receiver.answer = (response) => response.end();
    const before = receiver.received.length;
    expect((await flotilla.stack.cli('webhook:retry', 'all', '--webhook', id)).stdout).toContain(
      'Trying 3 deliveries again',
    );
    await received(before + 3);
    const unknown = await flotilla.stack.cli('webhook:retry', randomUUID());
    expect([unknown.code, unknown.output]).toEqual([1, expect.stringContaining('is not a dead delivery')]);
    const metrics = await eventually('metrics', async () => {
      const response = await fetch(`${flotilla.stack.urls.api}/metrics`, {
        headers: { authorization: `Bearer ${flotilla.adminKey}` },
      });
      const text = await response.text();
      return /flotilla_webhook_attempts\{outcome="delivered"\} [1-9]/.test(text) && text;
    });
    expect(metrics).toContain('flotilla_webhook_deliveries{status="dead"} 0');
  });
});

describe('killed in the middle', () => {
  it('worker and scheduler lose nothing, and keep the order of each account', async () => {
    await newWebhook();
    const accounts = Array.from({ length: 5 }, () => randomUUID());
    receiver.answer = (response) => setTimeout(() => response.end(), 5);
    const emitting = (async () => {
      for (let from = 1; from <= 200; from += 10) {
        for (const account of accounts) await emit(account, from, 10);
      }
    })();
    // What a worker had begun is another's after half a minute.
    for (const [at, victim] of [
      [50, 'scheduler'],
      [250, 'worker_00'],
    ] as const) {
      await received(at, 60_000);
      const name = `flotilla:${victim}`;
      const pid = await flotilla.stack.kill(name);
      await flotilla.stack.waitUntilRunning(name, { notPid: pid });
    }
    await emitting;
    await eventually(
      'everything received',
      async () => accounts.every((account) => new Set(receiver.numbers(account)).size === 200),
      90_000,
    );
    for (const account of accounts) {
      const firsts = [...new Set(receiver.numbers(account))];
      expect(firsts).toEqual(Array.from({ length: 200 }, (_, index) => index + 1));
    }
    // At least once: only what was under way at a kill comes twice.
    expect(receiver.received.length).toBeLessThanOrEqual(1_000 + 2 * accounts.length);
  }, 180_000);
});

describe('docs/webhooks.md', () => {
  let child: ChildProcess | undefined;
  afterEach(() => void child?.kill());

  it('has a receiver that works as it stands', async () => {
    const docs = await readFile(join(project, 'docs/webhooks.md'), 'utf8');
    const code = /```js receiver\n([\s\S]*?)```/.exec(docs)![1]!;
    expect(code.trim().split('\n').length).toBeLessThanOrEqual(10);
    const port = await findFreePorts(1);
    const { id, secret } = await newWebhook({ url: `http://127.0.0.1:${port}/` });
    child = spawn(process.execPath, ['--input-type=module', '-e', code], {
      cwd: project,
      env: { ...process.env, PORT: String(port), WEBHOOK_SECRET: secret },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout!.on('data', (chunk: Buffer) => (output += chunk.toString()));
    await eventually('tested', async () => {
      const { body } = await workspace.call('POST', `/webhooks/${id}/test`);
      return body.statusCode === 204;
    });
    await emit(randomUUID(), 42);
    await eventually('printed', async () => /message\.sent \{ n: 42 \}/.test(output));
    const forged = await fetch(`http://127.0.0.1:${port}/`, {
      method: 'POST',
      headers: {
        'webhook-id': '1',
        'webhook-timestamp': String(Math.floor(Date.now() / 1_000)),
        'webhook-signature': 'v1,AAAA',
      },
      body: '{}',
    });
    expect(forged.status).toBe(400);
    child.kill();
    await once(child, 'exit');
  });
});
