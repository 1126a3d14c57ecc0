import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { browsersOn } from '../../src/whatsapp/browser/processes.js';
import { profileDir } from '../../src/whatsapp/browser/profile.js';
import { eventually } from '../support/eventually.js';
import { type Answer, Flotilla, type Workspace } from '../support/flotilla.js';
import { internals } from '../support/internals.js';

let flotilla: Flotilla;
let workspace: Workspace;
let other: Workspace;
let accountId: string;

beforeAll(async () => {
  flotilla = await Flotilla.start({ instances: 1 });
  workspace = await flotilla.newWorkspace();
  other = await flotilla.newWorkspace();
  accountId = (await workspace.call('POST', '/accounts', { name: 'never connected', environment: 'sandbox' }))
    .body.id;
});
afterAll(() => flotilla?.stop());

const to = '+6281234567890';

describe('bad input is refused with a status and a code, and nothing is written', () => {
  const cases: [what: string, body: unknown, status: number, code: string, path?: string][] = [
    ['an unknown field', { to, text: 'x', colour: 'red' }, 400, 'validation.failed', 'colour'],
    ['a malformed number', { to: '12ab', text: 'x' }, 400, 'validation.failed', 'to'],
    ['a number without country code', { to: '0812345', text: 'x' }, 400, 'validation.failed', 'to'],
    ['a number that is no text', { to: 6281234567890, text: 'x' }, 400, 'validation.failed', 'to'],
    ['no recipient', { text: 'x' }, 400, 'validation.failed', 'to'],
    ['no text', { to }, 400, 'validation.failed', 'text'],
    ['an empty text', { to, text: '' }, 400, 'validation.failed', 'text'],
    ['a blank text', { to, text: ' \n ' }, 400, 'validation.failed', 'text'],
    ['100 kB of text', { to, text: 'x'.repeat(100_000) }, 400, 'validation.failed', 'text'],
    ['a NUL in a text', { to, text: 'a\u0000b' }, 400, 'validation.failed', 'text'],
    [
      'half a surrogate pair',
      { to, text: 'x', metadata: { note: '\ud800' } },
      400,
      'validation.failed',
      'metadata.note',
    ],
    [
      '100,000 levels',
      `{"to":"${to}","text":"x","metadata":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
      400,
      'validation.failed',
      `metadata${'.0'.repeat(31)}`,
    ],
    [
      '17 kB of metadata',
      { to, text: 'x', metadata: { note: 'x'.repeat(17_000) } },
      400,
      'validation.failed',
      'metadata',
    ],
    ['an unknown priority', { to, text: 'x', priority: 'campaign' }, 400, 'validation.failed', 'priority'],
    [
      'a day that is none',
      { to, text: 'x', sendAt: '2027-02-30T10:00:00Z' },
      400,
      'validation.failed',
      'sendAt',
    ],
    ['more emoji than WhatsApp takes', { to, text: '🙂'.repeat(40_000) }, 400, 'validation.failed', 'text'],
    ['a time that is none', { to, text: 'x', sendAt: 'tomorrow' }, 400, 'validation.failed', 'sendAt'],
    ['an account id that is none', { accountId: 'x', to, text: 'x' }, 400, 'validation.failed', 'accountId'],
    [
      'an unknown account',
      { accountId: '01960000-0000-7000-8000-000000000000', to, text: 'x' },
      404,
      'account.not_found',
    ],
    ['no account that is ready', { to, text: 'x' }, 409, 'account.none_ready'],
    [
      'an expiry in the past',
      { accountId: 'own', to, text: 'x', expiresAt: '2020-01-01T00:00:00Z' },
      400,
      'validation.failed',
      'expiresAt',
    ],
    ['a body that is no JSON', '{"to": ', 400, 'request.malformed'],
    ['a body that is a list', [], 400, 'validation.failed'],
  ];

  it.each(cases)('%s', async (_what, body, status, code, path) => {
    const message =
      typeof body === 'object' && body !== null && 'accountId' in body && body.accountId === 'own'
        ? { ...body, accountId }
        : body;
    const answer = await workspace.send(message as object);
    expect(answer.body).toMatchObject({
      status,
      code,
      requestId: expect.any(String),
      title: expect.any(String),
      detail: expect.any(String),
    });
    expect(answer.status).toBe(status);
    expect(answer.headers.get('content-type')).toContain('application/problem+json');
    if (path) expect(answer.body.errors[0].path).toBe(path);
    expect((await workspace.call('GET', '/messages')).body.items).toEqual([]);
  });

  it('9 MB of body', async () => {
    const answer = await workspace.send({ accountId, to, text: 'x'.repeat(9_000_000) });
    expect(answer.body).toMatchObject({ status: 413, code: 'request.too_large' });
  });

  it('no key, a wrong key, a deleted key', async () => {
    expect((await flotilla.call('GET', '/accounts', undefined, null)).body).toMatchObject({
      status: 401,
      code: 'auth.required',
    });
    expect((await flotilla.call('GET', '/accounts', undefined, 'flk_wrong')).body).toMatchObject({
      status: 401,
      code: 'auth.invalid_key',
    });
    const made = await flotilla.call('POST', `/workspaces/${workspace.id}/api-keys`, {
      name: 'x',
      role: 'owner',
    });
    await flotilla.call('DELETE', `/workspaces/${workspace.id}/api-keys/${made.body.id}`);
    expect((await flotilla.call('GET', '/accounts', undefined, made.body.key)).status).toBe(401);
  });

  it('an expired key, and a key that may not be used from here', async () => {
    const make = async (more: object) =>
      (
        await flotilla.call('POST', `/workspaces/${workspace.id}/api-keys`, {
          name: 'x',
          role: 'owner',
          ...more,
        })
      ).body.key;
    const short = await make({ expiresAt: new Date(Date.now() + 1_000).toISOString() });
    await eventually('expired', async () => {
      return (await flotilla.call('GET', '/accounts', undefined, short)).status === 401;
    });
    expect(
      (await flotilla.call('GET', '/accounts', undefined, await make({ allowedIps: ['10.0.0.0/8'] }))).status,
    ).toBe(401);
    expect(
      (await flotilla.call('GET', '/accounts', undefined, await make({ allowedIps: ['127.0.0.0/8', '::1'] })))
        .status,
    ).toBe(200);
  });

  it('a role that does not suffice', async () => {
    const viewer = await workspace.keyFor('viewer');
    const sender = await workspace.keyFor('sender');
    expect(
      (await flotilla.call('POST', '/messages', { accountId, to, text: 'x' }, viewer)).body,
    ).toMatchObject({ status: 403, code: 'auth.insufficient_role' });
    expect((await flotilla.call('POST', '/accounts', { name: 'x' }, sender)).status).toBe(403);
    expect((await flotilla.call('GET', '/workspaces', undefined, sender)).status).toBe(403);
    expect((await flotilla.call('GET', '/accounts', undefined, viewer)).status).toBe(200);
  });

  it("another workspace's account and messages do not exist", async () => {
    for (const [method, path] of [
      ['GET', `/accounts/${accountId}`],
      ['PATCH', `/accounts/${accountId}`],
      ['DELETE', `/accounts/${accountId}`],
      ['GET', `/accounts/${accountId}/qr`],
      ['POST', `/accounts/${accountId}/connect`],
      ['POST', `/accounts/${accountId}/sandbox-scan`],
    ] as const) {
      const answer = await other.call(method, path, method === 'PATCH' ? { name: 'mine now' } : undefined);
      expect(answer.body, `${method} ${path}`).toMatchObject({ status: 404, code: 'account.not_found' });
    }
    expect((await other.send({ accountId, to, text: 'x' })).body).toMatchObject({
      status: 404,
      code: 'account.not_found',
    });
    expect((await workspace.account(accountId)).name).toBe('never connected');
  });

  it('an update changes what it names, and only that', async () => {
    const { body } = await workspace.call('PATCH', `/accounts/${accountId}`, { labels: ['a'] });
    expect(body).toMatchObject({ name: 'never connected', labels: ['a'] });
    expect((await workspace.call('PATCH', `/accounts/${accountId}`, { status: 'ready' })).body).toMatchObject(
      { status: 400, code: 'validation.failed' },
    );
  });

  it('a proxy that is malformed, or is inside the network; user and password of a proxy are never shown', async () => {
    const malformed = [
      'ftp://x',
      'http://x/path',
      'http://x;direct://',
      'http://x, y',
      'socks5://x:0',
      'x:80',
      'a b',
    ];
    const inside = [
      ...[
        'http://10.0.0.1:3128',
        'https://u:secret@192.168.1.1',
        'socks5://169.254.169.254',
        'socks5://2130706433',
      ],
      ...['socks5://0177.0.0.1', 'http://0x7f.1', 'socks5://[::1]', 'socks5://[::ffff:127.0.0.1]'],
      ...['http://[64:ff9b::7f00:1]', 'socks5://168.63.129.16'],
    ];
    const before = (await workspace.call('GET', '/accounts')).body.items;
    for (const [urls, status, code] of [
      [malformed, 400, 'validation.failed'],
      [inside, 422, 'url.address_not_public'],
    ] as const)
      for (const proxyUrl of urls)
        for (const [method, path, body] of [
          ['POST', '/accounts', { name: 'proxied', environment: 'live', proxyUrl }],
          ['PATCH', `/accounts/${accountId}`, { proxyUrl }],
        ] as const) {
          const answer = await workspace.call(method, path, body);
          expect(answer.body, `${method} ${proxyUrl}`).toMatchObject({ status, code });
          expect(JSON.stringify(answer.body)).not.toContain('secret');
          if (code === 'validation.failed') expect(answer.body.errors[0].path).toBe('proxyUrl');
        }
    expect((await workspace.call('GET', '/accounts')).body.items).toEqual(before);

    const path = `/accounts/${accountId}`;
    const proxyUrl = 'SOCKS5://us%65r:s%3Acret@Proxy.example.com';
    const { body } = await workspace.call('PATCH', path, { proxyUrl });
    const masked = 'socks5://********:********@proxy.example.com:1080';
    expect(body.proxyUrl).toBe(masked);
    // An answer that is sent back would overwrite the credentials.
    expect((await workspace.call('PATCH', path, { proxyUrl: masked })).body).toMatchObject({ status: 400 });
    expect((await workspace.call('GET', '/accounts')).body.items[0].proxyUrl).toBe(masked);
    const plain = { proxyUrl: 'http://proxy.example.com:3128' };
    expect((await workspace.call('PATCH', path, plain)).body).toMatchObject(plain);
    expect((await workspace.call('PATCH', path, { proxyUrl: null })).body.proxyUrl).toBeNull();
  });

  it('an admin key without a workspace, and with one', async () => {
    expect((await flotilla.call('GET', '/accounts')).body).toMatchObject({
      status: 400,
      code: 'validation.failed',
    });
    expect((await flotilla.call('GET', `/accounts?workspaceId=${workspace.id}`)).body.items).toHaveLength(1);
  });

  it('a QR code or a scan of an account that is not being linked', async () => {
    expect((await workspace.call('GET', `/accounts/${accountId}/qr`)).body).toMatchObject({
      status: 409,
      code: 'account.no_qr',
    });
    expect((await workspace.call('GET', `/accounts/${accountId}/pairing-code`)).body).toMatchObject({
      status: 409,
      code: 'account.no_pairing_code',
    });
    expect((await workspace.call('POST', `/accounts/${accountId}/sandbox-scan`, {})).body).toMatchObject({
      status: 409,
      code: 'account.no_qr',
    });
    const live = (await workspace.call('POST', '/accounts', { name: 'live' })).body;
    expect(live.environment).toBe('live');
    expect((await workspace.call('POST', `/accounts/${live.id}/sandbox-scan`, {})).body).toMatchObject({
      status: 409,
      code: 'account.not_sandbox',
    });
    expect(
      (await workspace.call('POST', `/accounts/${accountId}/connect`, { method: 'code' })).body,
    ).toMatchObject({ status: 400, code: 'validation.failed' });
  });

  it('an unknown workspace, an invalid address, an event id from elsewhere', async () => {
    const nobody = '01960000-0000-7000-8000-000000000000';
    expect(
      (await flotilla.call('POST', `/accounts?workspaceId=${nobody}`, { name: 'x' })).body,
    ).toMatchObject({ status: 404, code: 'workspace.not_found' });
    for (const ip of ['999.1.1.1', '10.0.0.0/99', 'x']) {
      const answer = await flotilla.call('POST', `/workspaces/${workspace.id}/api-keys`, {
        name: 'x',
        role: 'owner',
        allowedIps: [ip],
      });
      expect(answer.body).toMatchObject({ status: 400, code: 'validation.failed' });
    }
    for (const id of ['x', '1-9999999999999999999']) {
      const answer = await workspace.call('GET', '/events', undefined, { 'last-event-id': id });
      expect(answer.body).toMatchObject({ status: 400, code: 'events.invalid_cursor' });
    }
  });

  it('null times of a message are none', async () => {
    const { status, body } = await workspace.send({
      accountId,
      to,
      text: 'x',
      sendAt: null,
      expiresAt: null,
    });
    expect([status, body.status, body.scheduledFor]).toEqual([202, 'queued', null]);
    const batch = { messages: [{ accountId, to, text: 'x', expiresAt: null }] };
    const answer = await workspace.call('POST', '/messages/batch', batch);
    const [{ message }] = answer.body.items;
    for (const { id } of [body, message]) {
      expect((await workspace.call('GET', `/messages/${id}`)).body.status).toBe('queued');
      expect((await workspace.call('DELETE', `/messages/${id}`)).status).toBe(200);
    }
  });

  it('an Idempotency-Key of a batch, which would not be kept', async () => {
    const response = await fetch(`${flotilla.stack.urls.api}/api/v1/messages/batch`, {
      method: 'POST',
      headers: {
        authorization: `Bearer ${workspace.key}`,
        'content-type': 'application/json',
        'idempotency-key': 'batch-1',
      },
      body: JSON.stringify({ messages: [{ accountId, to, text: 'x' }] }),
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ errors: [{ path: 'Idempotency-Key' }] });
  });

  it.each([
    ['GET', '/messages?limit=abc', undefined, 'limit must be an integer number'],
    ['POST', '/accounts', { name: 'x', labels: 'a' }, 'labels must be an array'],
    [
      'POST',
      '/webhooks',
      { url: 'https://flotilla.invalid', events: 'message.*' },
      'events must be an array',
    ],
    ['POST', '/messages/batch', { messages: 'x' }, 'messages must be an array'],
  ])(
    '%s %s with something of another type, and says which it should be',
    async (method, path, body, text) => {
      const answer = await workspace.call(method, path, body);
      expect(answer.status).toBe(400);
      expect(answer.body.errors).toEqual([{ path: expect.any(String), message: text }]);
    },
  );

  it('a route that does not exist', async () => {
    for (const url of [`${flotilla.stack.urls.api}/nothing`, `${flotilla.stack.urls.api}/api/v1/nothing`]) {
      const answer = await fetch(url, { headers: { authorization: `Bearer ${workspace.key}` } });
      expect(answer.headers.get('content-type')).toContain('application/problem+json');
      expect(await answer.json()).toMatchObject({ status: 404, code: 'route.not_found' });
    }
  });
});

describe('what the contract says is queued, is queued', () => {
  it('a message for an account that is not ready waits, can be cancelled once, and is listed', async () => {
    const { status, body } = await workspace.send({ accountId, to, text: 'patience' });
    expect([status, body.status]).toEqual([202, 'queued']);
    const scheduled = await workspace.send({
      accountId,
      to,
      text: 'later',
      sendAt: new Date(Date.now() + 3_600_000).toISOString(),
    });
    expect(scheduled.body.status).toBe('scheduled');
    expect(
      (await workspace.call('GET', '/messages?status=queued')).body.items.map(({ id }: { id: string }) => id),
    ).toEqual([body.id]);
    expect((await workspace.call('DELETE', `/messages/${body.id}`)).body.status).toBe('cancelled');
    expect((await other.call('GET', `/messages/${body.id}`)).status).toBe(404);
  });

  it('the same Idempotency-Key gives the same message; another body does not', async () => {
    const message = { accountId, to, text: 'once' };
    const answers = await Promise.all(
      Array.from({ length: 5 }, () => workspace.send(message, { 'idempotency-key': 'order-1' })),
    );
    const accepted = answers.filter(({ status }) => status === 202);
    expect(new Set(accepted.map(({ body }) => body.id)).size).toBe(1);
    // Those that came while the first one was still running.
    for (const { body } of answers.filter(({ status }) => status !== 202))
      expect(body).toMatchObject({ status: 409, code: 'idempotency.in_progress' });
    expect(
      (await workspace.send({ ...message, text: 'twice' }, { 'idempotency-key': 'order-1' })).body,
    ).toMatchObject({ status: 422, code: 'idempotency.mismatch' });
  });

  it('a slow reader of the events gets all of them, and a reader that goes away harms no other', async () => {
    const big = await flotilla.newWorkspace();
    const { body: account } = await big.call('POST', '/accounts', { name: 'big' });
    const messages = Array.from({ length: 120 }, () => ({
      accountId: account.id,
      to,
      text: 'x'.repeat(60_000),
    }));
    expect((await big.call('POST', '/messages/batch', { messages })).status).toBe(200);
    const open = async () => {
      const { hostname, port } = new URL(flotilla.stack.urls.api);
      const socket = connect(Number(port), hostname);
      socket.write(
        `GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${big.key}\r\nLast-Event-ID: 0-0\r\n\r\n`,
      );
      await once(socket, 'readable');
      return socket;
    };
    const leaver = await open();
    leaver.destroy();
    const reader = await open();
    let events = 0;
    for await (const chunk of reader) {
      events += String(chunk).split('event: message.queued').length - 1;
      // Reads a little at a time, as a slow network does.
      if (events >= messages.length - 1) break;
    }
    reader.destroy();
    expect(events).toBeGreaterThanOrEqual(messages.length - 1);
    expect((await flotilla.call('GET', '/health/live')).status).toBe(200);
  });

  it('a batch tells the outcome of each', async () => {
    const { status, body } = await workspace.call('POST', '/messages/batch', {
      messages: [
        { accountId, to, text: 'one' },
        { accountId, to: 'nobody', text: 'two' },
        { accountId: '01960000-0000-7000-8000-000000000000', to, text: 'three' },
      ],
    });
    expect(status).toBe(200);
    expect(body.items.map((item: { index: number; status: number }) => [item.index, item.status])).toEqual([
      [0, 202],
      [1, 400],
      [2, 404],
    ]);
    expect((await workspace.call('POST', '/messages/batch', { messages: [] })).status).toBe(400);
  });
});

describe('a simulated phone', () => {
  it('belongs to the workspace that first linked it, also after a restart', async () => {
    const scan = (who: Workspace, id: string, phone: string) =>
      who.call('POST', `/accounts/${id}/sandbox-scan`, { phone });
    const waiting = async (who: Workspace) => {
      const id = await who.newAccount();
      await who.untilStatus(id, 'qr');
      return id;
    };
    const [account] = await workspace.linkedAccounts(1);
    const free = await flotilla.newPhone();
    const [stranger, own] = await Promise.all([waiting(other), waiting(workspace)]);
    for (const restart of [false, true]) {
      if (restart) {
        await flotilla.stack.ctl('restart', 'flotilla:sandbox');
        await eventually('back', async () => (await fetch(`${flotilla.stack.urls.sandbox}/stats`)).ok);
      }
      await other.untilStatus(stranger, 'qr');
      const refused = await scan(other, stranger, `+${account.phoneNumber}`);
      expect([refused.status, refused.body.code]).toEqual([404, 'sandbox.phone_not_found']);
    }
    // Linked by the operator, so that the sandbox does not know whose it is.
    const operated = await waiting(workspace);
    const { qr } = (await workspace.call('GET', `/accounts/${operated}/qr`)).body;
    const byOperator = await flotilla.newPhone();
    await flotilla.sandbox('POST', `/phones/${byOperator}/scan`, { qr });
    await workspace.untilStatus(operated, 'ready');
    expect((await scan(other, stranger, byOperator)).body.code).toBe('sandbox.phone_not_found');
    // A phone of nobody is free for the first, and a workspace may link its own phone again.
    await eventually('linked', async () => (await scan(other, stranger, free)).status === 200);
    expect((await scan(workspace, own, free)).body.code).toBe('sandbox.phone_not_found');
    await eventually('linked', async () => (await scan(workspace, own, account.phoneNumber)).status === 200);
    expect((await workspace.untilStatus(own, 'ready')).phoneNumber).toBe(account.phoneNumber);
  });
});

describe('nothing of the inside', () => {
  it('is in what a tenant gets to know of failures', async () => {
    const own = await flotilla.newWorkspace();
    const [account, second] = await own.linkedAccounts(2);
    const unlinked = await own.newAccount();
    await own.untilStatus(unlinked, 'qr');
    const { urls, env, varDir } = flotilla.stack;
    const secrets = [
      varDir,
      process.cwd(),
      ...['INSTANCE_BASE_PORT', 'SANDBOX_PORT', 'SANDBOX_CONTROL_PORT'].map((name) => env[name]!),
      ...[urls.sandbox, ...urls.instances, env.DATABASE_URL, env.REDIS_URL].map((url) => new URL(url!).host),
    ];
    const seen: string[] = [];
    const codes = new Set<string>();
    const note = async (answer: Answer | Promise<Answer>) => {
      const { body, headers } = await answer;
      seen.push(JSON.stringify(body), JSON.stringify([...headers]));
      if (body?.code) codes.add(body.code);
      return body;
    };
    const at = (id: string, what: string) => `/accounts/${id}/${what}`;
    // The status itself may be over before anybody asks for it.
    const told = (id: string, reason: string) =>
      eventually(reason, async () => {
        const { items } = (await own.call('GET', at(id, 'events'))).body;
        return items.some((entry: { reason: string | null }) => entry.reason?.startsWith(`${reason}: `));
      });
    const phone = await flotilla.newPhone();

    // WhatsApp fails, with an upload and without an answer.
    await flotilla.sandbox('PUT', '/faults', { uploadFailRate: 1 });
    const media = { data: Buffer.from('x').toString('base64'), mimetype: 'text/plain', filename: 'x.txt' };
    const { id } = await note(own.send({ accountId: account.id, to: phone, type: 'document', media }));
    await eventually('tried', async () => (await own.call('GET', `/messages/${id}`)).body.error !== null);
    await note(own.call('GET', `/messages/${id}`));
    await flotilla.sandbox('DELETE', '/faults');

    // The sandbox is gone: a start fails, and a scan.
    await flotilla.stack.ctl('stop', 'flotilla:sandbox');
    await note(own.call('POST', at(unlinked, 'sandbox-scan'), {}));
    await own.call('POST', at(second.id, 'restart'));
    await told(second.id, 'sandbox_unreachable');
    await flotilla.stack.ctl('start', 'flotilla:sandbox');
    await own.untilStatus(second.id, 'ready', 90_000);

    // A browser dies.
    const [browser] = await browsersOn(profileDir(join(varDir, 'sessions'), second.id));
    process.kill(-browser!.group, 'SIGKILL');
    await told(second.id, 'crashed');
    await own.untilStatus(second.id, 'ready', 90_000);

    // The instance does not answer, and is gone.
    const everything = () =>
      Promise.all([
        note(own.call('GET', at(account.id, 'screenshot'))),
        note(own.call('GET', at(account.id, 'chats'))),
        note(own.call('POST', at(account.id, 'groups'), { name: 'x', participants: [phone] })),
        note(own.call('POST', at(account.id, 'restart'))),
        note(own.call('POST', at(account.id, 'logout'))),
      ]);
    const instance = (await flotilla.stack.status()).get('flotilla:instance_00')!;
    process.kill(instance.pid, 'SIGSTOP');
    const lost = everything();
    await eventually('asked', async () => {
      const { body } = await own.call('GET', at(account.id, 'screenshot'));
      codes.add(body?.code);
      return body?.code !== undefined;
    });
    process.kill(instance.pid, 'SIGKILL');
    await lost;
    await everything();
    await flotilla.stack.ctl('stop', 'flotilla:instance_00');
    await everything();
    await flotilla.stack.ctl('start', 'flotilla:instance_00');
    await own.untilStatus(account.id, 'ready', 90_000);

    for (const path of [
      '/accounts',
      '/messages',
      '/workspace',
      ...[account.id, second.id, unlinked].flatMap((account) => [
        `/accounts/${account}`,
        at(account, 'events'),
      ]),
    ])
      await note(own.call('GET', path));
    seen.push(JSON.stringify(await own.events(['account.*'], 12)));
    await note(flotilla.call('GET', '/health/ready', undefined, null));
    expect(seen.flatMap((text) => internals(text, secrets))).toEqual([]);
    expect([...codes]).toEqual(
      expect.arrayContaining(['sandbox.unreachable', 'instance.answer_lost', 'instance.unreachable']),
    );
    // The operator finds it in the logs.
    const logs = (await Promise.all(['api', 'instance_00'].map((name) => flotilla.stack.logs(name)))).join(
      '',
    );
    expect(logs).toContain(new URL(urls.instances[0]!).host);
    expect(logs).toContain(`ECONNREFUSED`);
  }, 240_000);
});
