import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { Flotilla, type Workspace } from '../support/flotilla.js';

let flotilla: Flotilla;
let workspace: Workspace;

beforeAll(async () => {
  flotilla = await Flotilla.start();
  workspace = await flotilla.newWorkspace();
});
afterAll(() => flotilla?.stop());

describe('a message from REST to read', () => {
  it('runs on the build that SANDBOX_BUILD names, or on the newest', async () => {
    const { items } = await flotilla.sandbox('GET', '/builds');
    const current = items.find((build: { isCurrent: boolean }) => build.isCurrent);
    expect(current.name).toBe(process.env.SANDBOX_BUILD || items.at(-1).name);
  });

  it('links an account by QR code, and the image says what the text says', async () => {
    const id = await workspace.newAccount();
    const { body } = await eventually('a QR code', async () => {
      const answer = await workspace.call('GET', `/accounts/${id}/qr`);
      return answer.status === 200 && answer;
    });
    expect(body.qr.split(',')).toHaveLength(5);
    expect(body.image).toMatch(/^data:image\/png;base64,/);
    expect(new Date(body.expiresAt).getTime()).toBeGreaterThan(Date.now());
    const png = await workspace.call('GET', `/accounts/${id}/qr`, undefined, { accept: 'image/png' });
    expect(png.headers.get('content-type')).toBe('image/png');

    const scan = await workspace.call('POST', `/accounts/${id}/sandbox-scan`, {});
    expect(scan.status).toBe(200);
    const account = await workspace.untilStatus(id, 'ready');
    expect(account).toMatchObject({
      phoneNumber: scan.body.phone,
      desiredState: 'connected',
      epoch: 1,
      environment: 'sandbox',
    });
    expect((await workspace.call('GET', `/accounts/${id}/qr`)).body.code).toBe('account.no_qr');

    const screenshot = await workspace.call('GET', `/accounts/${id}/screenshot`);
    expect(screenshot.status).toBe(200);
    expect(screenshot.headers.get('content-type')).toBe('image/png');
    expect(screenshot.headers.get('cache-control')).toBe('no-store');
    expect(screenshot.body).toMatch(/^.PNG\r\n/);
  });

  it('links an account by pairing code', async () => {
    const phone = await flotilla.newPhone();
    const id = await workspace.newAccount({ method: 'code', phoneNumber: `+${phone}` });
    const { body } = await eventually('a pairing code', async () => {
      const answer = await workspace.call('GET', `/accounts/${id}/pairing-code`);
      return answer.status === 200 && answer;
    });
    await flotilla.sandbox('POST', `/phones/${phone}/enter-code`, { code: body.code });
    expect((await workspace.untilStatus(id, 'ready')).phoneNumber).toBe(phone);
  });

  it('sends in each priority, up to read, and the phone has each exactly once', async () => {
    const [account] = (await workspace.call('GET', '/accounts?status=ready')).body.items;
    const phone = await flotilla.newPhone();
    const sent = [];
    for (const priority of ['urgent', 'high', 'normal']) {
      const answer = await workspace.send({
        accountId: account.id,
        to: `+${phone}`,
        text: `A ${priority} one ✓`,
        priority,
        metadata: { order: 7 },
      });
      expect(answer.status).toBe(202);
      expect(answer.headers.get('location')).toBe(`/api/v1/messages/${answer.body.id}`);
      expect(answer.body).toMatchObject({
        status: 'queued',
        priority,
        to: phone,
        direction: 'outgoing',
        metadata: { order: 7 },
      });
      sent.push(answer.body);
    }
    for (const { id, text, whatsappId } of sent) {
      const message = await eventually('read', async () => {
        const { body } = await workspace.call('GET', `/messages/${id}`);
        return body.status === 'read' && body;
      });
      for (const time of ['sentAt', 'deliveredAt', 'readAt'])
        expect(Date.parse(message[time])).toBeGreaterThan(0);
      expect(message.error).toBeNull();
      expect((await flotilla.ledger()).filter((entry) => entry.text === text)).toEqual([
        expect.objectContaining({
          to: phone,
          from: account.phoneNumber,
          whatsappId,
          duplicate: false,
          type: 'text',
        }),
      ]);
    }
    const inbox = (await flotilla.sandbox('GET', `/phones/${phone}/inbox`)).items;
    expect(inbox.map((item: { text: string }) => item.text).sort()).toEqual(
      sent.map(({ text }) => text).sort(),
    );
  });

  it('answers with the message once it is delivered, when asked to wait', async () => {
    const phone = await flotilla.newPhone();
    const answer = await workspace.call('POST', '/messages?wait=delivered&timeoutMs=15000', {
      to: phone,
      text: 'waited for',
    });
    expect(answer.status).toBe(200);
    expect(['delivered', 'read']).toContain(answer.body.status);
  });

  it('answers with what the message is by then, when it has not got that far in time', async () => {
    const answer = await workspace.call('POST', '/messages?wait=sent&timeoutMs=500', {
      to: await flotilla.newPhone(),
      text: 'for tomorrow',
      sendAt: new Date(Date.now() + 86_400_000).toISOString(),
    });
    expect([answer.status, answer.body.status]).toEqual([202, 'scheduled']);
  });

  it('fails a message to a number without WhatsApp, with the reason', async () => {
    const answer = await workspace.call('POST', '/messages', { to: '+6281100000001', text: 'nobody there' });
    const message = await eventually('failed', async () => {
      const { body } = await workspace.call('GET', `/messages/${answer.body.id}`);
      return body.status === 'failed' && body;
    });
    expect(message.error.code).toBe('recipient.not_registered');
    expect(message.failedAt).not.toBeNull();
  });

  it('stores an incoming message once, and tells the number check', async () => {
    const [account] = (await workspace.call('GET', '/accounts?status=ready')).body.items;
    const phone = await flotilla.newPhone();
    await flotilla.sandbox('POST', `/phones/${phone}/messages`, {
      to: account.phoneNumber,
      text: 'hello there',
    });
    const message = await eventually('received', async () => {
      const { body } = await workspace.call('GET', '/messages?direction=incoming');
      return body.items.find((item: { text: string }) => item.text === 'hello there');
    });
    expect(message).toMatchObject({
      status: 'received',
      from: phone,
      to: account.phoneNumber,
      type: 'text',
      accountId: account.id,
    });
    expect((await workspace.account(account.id)).lid).toBe(
      `1${[...account.phoneNumber].reverse().join('')}@lid`,
    );
    expect((await workspace.call('GET', `/accounts/${account.id}/numbers/+${phone}`)).body).toEqual({
      phone,
      registered: true,
      chatId: `${phone}@c.us`,
      lid: `1${[...phone].reverse().join('')}@lid`,
    });
    expect(
      (await workspace.call('GET', `/accounts/${account.id}/numbers/+6281100000002`)).body.registered,
    ).toBe(false);
  });

  it('streams events in order, and resumes after Last-Event-ID without a gap', async () => {
    const phone = await flotilla.newPhone();
    const first = await readEvents(
      flotilla,
      workspace,
      {},
      async () => {
        await workspace.call('POST', '/messages?wait=delivered', { to: phone, text: 'streamed' });
      },
      (events) => events.some(({ type }) => type === 'message.read'),
    );
    const types = first.map(({ type }) => type);
    expect(types.filter((type) => type.startsWith('message.'))).toEqual([
      'message.queued',
      'message.sent',
      'message.delivered',
      'message.read',
    ]);
    const { body } = await workspace.call('GET', `/messages/${first[0]!.data.id}`);
    const read = first.find(({ type }) => type === 'message.read')!.data;
    expect(body).toMatchObject(read);

    const again = await readEvents(
      flotilla,
      workspace,
      { 'last-event-id': first[0]!.id },
      async () => undefined,
      (events) => events.length >= 3,
      'message.*',
    );
    expect(again.map(({ id }) => id).slice(0, 3)).toEqual(
      first
        .slice(1)
        .filter(({ type }) => type.startsWith('message.'))
        .map(({ id }) => id)
        .slice(0, 3),
    );
  });

  it('leaves no browser when it is disconnected while it starts, and connects after all when asked again', async () => {
    const id = await workspace.newAccount();
    await eventually('its browser', async () => (await browsersOf(flotilla, id)) > 0);
    await workspace.call('POST', `/accounts/${id}/disconnect`);
    await eventually('no browser', async () => (await browsersOf(flotilla, id)) === 0);
    expect((await workspace.account(id)).status).toBe('disconnected');
    for (let round = 0; round < 3; round += 1) {
      await workspace.call('POST', `/accounts/${id}/connect`);
      await workspace.call('POST', `/accounts/${id}/disconnect`);
    }
    await workspace.call('POST', `/accounts/${id}/connect`);
    await workspace.untilStatus(id, 'qr');
    // A helper that has not become itself yet looks like another browser, for a moment.
    await eventually('one browser', async () => (await browsersOf(flotilla, id)) === 1, 5_000);
    await workspace.call('DELETE', `/accounts/${id}`);
    await eventually('no browser', async () => (await browsersOf(flotilla, id)) === 0);
  });

  it('disconnects and reconnects without a QR code, logs out for good', async () => {
    const [account] = (await workspace.call('GET', '/accounts?status=ready')).body.items;
    expect((await workspace.call('POST', `/accounts/${account.id}/disconnect`)).body.status).toBe(
      'disconnected',
    );
    const phone = await flotilla.newPhone();
    const queued = await workspace.send({ accountId: account.id, to: phone, text: 'for later' });
    expect(queued.body.status).toBe('queued');
    await workspace.call('POST', `/accounts/${account.id}/connect`);
    await workspace.untilStatus(account.id, 'ready');
    await eventually(
      'the queued message sent',
      async () => (await workspace.call('GET', `/messages/${queued.body.id}`)).body.status === 'read',
    );

    expect((await workspace.call('POST', `/accounts/${account.id}/restart`)).status).toBe(202);
    await eventually('restarted', async () => (await workspace.account(account.id)).status !== 'ready');
    await workspace.untilStatus(account.id, 'ready');
    const log = (await workspace.call('GET', `/accounts/${account.id}/events`)).body.items;
    const since = log.findIndex(
      (event: { data: { status: string } }) => event.data.status === 'disconnected',
    );
    expect(log.slice(0, since).filter((event: { type: string }) => event.type === 'account.qr')).toEqual([]);

    const number = account.phoneNumber;
    await flotilla.sandbox('PUT', '/faults', { phone: number, offline: true });
    expect(await workspace.call('POST', `/accounts/${account.id}/logout`)).toMatchObject({
      status: 504,
      body: { code: 'account.logout_not_confirmed' },
    });
    await flotilla.sandbox('DELETE', '/faults');
    // Its credentials are still there: it comes back without a QR code.
    await workspace.untilStatus(account.id, 'ready');
    expect((await workspace.call('POST', `/accounts/${account.id}/logout`)).status).toBe(202);
    expect((await workspace.untilStatus(account.id, 'logged_out')).desiredState).toBe('disconnected');
    await workspace.call('POST', `/accounts/${account.id}/connect`);
    await workspace.untilStatus(account.id, 'qr');
  });
});

describe('a sandbox that does not do its part', () => {
  it('is told as what it is: away, broken, or asked what makes no sense there', async () => {
    const id = await workspace.newAccount();
    await workspace.untilStatus(id, 'qr');
    const scan = () => workspace.call('POST', `/accounts/${id}/sandbox-scan`, {});
    await flotilla.stack.ctl('stop', 'flotilla:sandbox');
    const away = await scan();
    expect(away).toMatchObject({ status: 503, body: { code: 'sandbox.unreachable' } });
    expect(away.headers.get('retry-after')).toBe('1');

    // In its place: one that answers each call as the tests want it.
    let status = 500;
    const { port, hostname } = new URL(flotilla.stack.urls.sandbox);
    const other = createServer((request, response) => {
      request.resume();
      response.writeHead(status, { 'content-type': 'application/json' }).end('{"detail":"because"}');
    });
    await once(other.listen(Number(port), hostname), 'listening');
    try {
      for (const [answer, expected, code] of [
        [500, 502, 'sandbox.broken'],
        [401, 502, 'sandbox.broken'],
        [409, 409, 'sandbox.refused'],
      ] as const) {
        status = answer;
        const refused = await scan();
        expect(refused).toMatchObject({ status: expected, body: { code } });
        // What a broken sandbox says is for the log.
        expect(refused.body.detail.includes('because')).toBe(code === 'sandbox.refused');
        if (code === 'sandbox.broken') expect(await flotilla.stack.logs('api')).toContain('because');
      }
    } finally {
      await new Promise((resolve) => {
        other.close(resolve);
        other.closeAllConnections();
      });
    }
  });
});

/** How many browsers run with an account's profile; Debian starts each from a shell script, which stays its parent. */
async function browsersOf(target: Flotilla, id: string): Promise<number> {
  const profile = `--user-data-dir=${target.stack.varDir}/sessions/session-${id}`;
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const parents = new Map<string, string>();
  for (const pid of pids) {
    const commandLine = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
    if (!commandLine.includes(profile) || commandLine.includes('--type=')) continue;
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    parents.set(pid, /^PPid:\s+(\d+)/m.exec(status)?.[1] ?? '');
  }
  return [...parents.values()].filter((parent) => !parents.has(parent)).length;
}

interface ReadEvent {
  id: string;
  type: string;
  data: any; // eslint-disable-line @typescript-eslint/no-explicit-any -- what a caller of the API sees
}

/** Follows the stream while `act` runs, until `isEnough`. */
async function readEvents(
  target: Flotilla,
  owner: Workspace,
  headers: Record<string, string>,
  act: () => Promise<void>,
  isEnough: (events: ReadEvent[]) => boolean,
  types = 'message.*',
): Promise<ReadEvent[]> {
  const stop = new AbortController();
  const response = await fetch(`${target.stack.urls.api}/api/v1/events?types=${types}`, {
    headers: { authorization: `Bearer ${owner.key}`, ...headers },
    signal: AbortSignal.any([stop.signal, AbortSignal.timeout(30_000)]),
  });
  expect(response.headers.get('content-type')).toContain('text/event-stream');
  const acting = act();
  const events: ReadEvent[] = [];
  let text = '';
  for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    const blocks = text.split('\n\n');
    text = blocks.pop()!;
    for (const block of blocks) {
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data) events.push(JSON.parse(data) as ReadEvent);
    }
    if (isEnough(events)) break;
  }
  stop.abort();
  await acting;
  return events;
}
