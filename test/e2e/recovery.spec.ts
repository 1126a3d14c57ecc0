import { Redis } from 'ioredis';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { files } from '../sandbox/media-files.js';
import { browsersBelow, descendantsOf, isAlive, killNow } from '../support/processes.js';
import { eventually } from '../support/eventually.js';
import { Flotilla, type LedgerEntry, type Workspace } from '../support/flotilla.js';

let flotilla: Flotilla;
let workspace: Workspace;
let accounts: { id: string; phoneNumber: string; instanceId: string }[];
let phone: string;

beforeAll(async () => {
  flotilla = await Flotilla.start({ instances: 2, postgres: 'own' });
  workspace = await flotilla.newWorkspace();
  accounts = await workspace.linkedAccounts(2);
  phone = await flotilla.newPhone();
});
afterAll(() => flotilla?.stop());

/** The message of that number: its text or its caption tells its place in the order of its account and priority. */
function message(run: string, number: number, isPicture = false) {
  const priority = ['normal', 'high', 'urgent'][Math.floor(number / accounts.length) % 3]!;
  const text = `${run}/${priority}/${String(number).padStart(4, '0')}`;
  const data = files.png.toString('base64');
  const picture = { type: 'image', media: { data, mimetype: 'image/png', caption: text } };
  const content = isPicture ? picture : { text };
  return { accountId: accounts[number % accounts.length]!.id, to: phone, priority, ...content };
}

/** The last entry of the ledger when the test began: a test reads the ledger many times. */
let start = 0;
beforeEach(async () => {
  start = (await flotilla.ledger()).at(-1)?.seq ?? 0;
});

/** What has arrived of a run. */
async function arrivedOf(run: string): Promise<LedgerEntry[]> {
  return (await flotilla.ledger(start)).filter(({ text }) => text.startsWith(`${run}/`));
}

/** Accepts `count` messages, spread over the accounts and three priorities, in an order that the ledger can be held against. */
async function accept(run: string, count: number): Promise<void> {
  for (let number = 0; number < count; number += 1) {
    const wanted = message(run, number);
    // A call that the killed API did not answer is made again, as a client would, with its key.
    const answer = await eventually(
      'accepted',
      async () => {
        const tried = await workspace.send(wanted, { 'idempotency-key': `${run}/${number}` });
        return tried.status === 202 ? tried : Promise.reject(new Error(JSON.stringify(tried.body)));
      },
      15_000,
    );
    expect(answer.status).toBe(202);
  }
}

/** What a run left in the ledger: all of it, none received twice, in order per account and priority, and nothing unknown. */
async function expectComplete(run: string, count: number): Promise<void> {
  const entries = await eventually(
    `all ${count} of ${run}`,
    async () => {
      const found = await arrivedOf(run);
      const distinct = new Set(found.map(({ text }) => text)).size;
      return distinct >= count ? found : Promise.reject(new Error(`${distinct} of ${count} arrived`));
    },
    90_000,
  );
  await workspace.untilAllSent();
  expect(entries).toHaveLength(count);
  expect(entries.filter(({ duplicate }) => duplicate)).toEqual([]);
  const lanes = new Map<string, LedgerEntry[]>();
  for (const entry of entries) {
    const lane = `${entry.from} ${entry.text.split('/')[1]}`;
    lanes.set(lane, [...(lanes.get(lane) ?? []), entry]);
  }
  expect(lanes.size).toBe(accounts.length * 3);
  for (const lane of lanes.values()) {
    const texts = lane.map(({ text }) => text);
    expect(texts).toEqual([...texts].sort());
  }
  expect((await workspace.call('GET', '/messages?status=unknown&limit=1')).body.items).toEqual([]);
  const inbox: { text: string }[] = (await flotilla.sandbox('GET', `/phones/${phone}/inbox`)).items;
  expect(inbox.filter(({ text }) => text.startsWith(`${run}/`))).toHaveLength(count);
}

describe('kill -9', () => {
  it.each(['flotilla:worker_00', 'flotilla:scheduler', 'flotilla:api'])(
    'of %s while 100 messages are being sent',
    async (name) => {
      const accepting = accept(`kill ${name}`, 100);
      await eventually('some have been sent', async () => (await arrivedOf(`kill ${name}`)).length > 0);
      const pid = await flotilla.stack.kill(name);
      const { afterMs } = await flotilla.stack.waitUntilRunning(name, { notPid: pid });
      expect(afterMs).toBeLessThan(3_000);
      await accepting;
      await expectComplete(`kill ${name}`, 100);
    },
  );

  it('of an instance while 100 messages are being sent', async () => {
    const name = `flotilla:${accounts[0]!.instanceId.split('.').at(-1)}`;
    const qrsBefore = await qrEvents();
    const accepting = accept('kill instance', 100);
    await eventually('some have been sent', async () => (await arrivedOf('kill instance')).length > 0);
    const browsers = await descendantsOf((await flotilla.stack.status()).get(name)!.pid);
    expect(browsers.length).toBeGreaterThan(1);
    const pid = await flotilla.stack.kill(name);
    await eventually(
      'no browser of the dead instance',
      async () => !(await Promise.all(browsers.map(isAlive))).includes(true),
      3_000,
    );
    const { afterMs } = await flotilla.stack.waitUntilRunning(name, { notPid: pid });
    expect(afterMs).toBeLessThan(3_000);
    await accepting;
    await eventually(
      'ready after a restart',
      async () => {
        const { body } = await workspace.call('GET', `/accounts/${accounts[0]!.id}/events`);
        const statuses = body.items.map(({ data }: { data: { status?: string } }) => data.status);
        const isReadyAgain =
          statuses.indexOf('ready') < statuses.indexOf('starting') &&
          statuses.lastIndexOf('ready') !== statuses.indexOf('ready');
        return isReadyAgain || Promise.reject(new Error(statuses.join(', ')));
      },
      60_000,
    );
    await expectComplete('kill instance', 100);
    expect(await qrEvents()).toBe(qrsBefore);
    expect((await flotilla.sandbox('GET', '/stats')).conflicts).toBe(0);
  });
});

describe.each([
  { page: 'marks what it left as failed', resumesSends: false },
  { page: 'sends by itself what it left', resumesSends: true },
])('kill -9 of browsers with messages in flight, if the next page $page', ({ resumesSends }) => {
  const killBrowsers = async () => {
    const browsers = await browsersBelow(flotilla.stack.varDir);
    expect(browsers.length).toBeGreaterThanOrEqual(accounts.length);
    for (const pid of browsers) killNow(pid);
  };

  it('texts and pictures arrive once, in order, and none is unknown', async () => {
    const run = `browsers ${resumesSends}`;
    const { unheard: before } = await flotilla.sandbox('GET', '/stats');
    // The message in flight of each account is in its page and does not reach WhatsApp: one is a text, the other a picture.
    await flotilla.sandbox('PUT', '/faults', { resumesSends, silent: true });
    const count = 40;
    const messages = Array.from({ length: count }, (_message, number) =>
      message(run, number, number % 4 < 2),
    );
    for (const number of [0, 3]) {
      const { status, body } = await workspace.send(message(run, number, number === 0));
      expect(status, JSON.stringify(body)).toBe(202);
    }
    await eventually(
      'both on their way',
      async () => (await flotilla.sandbox('GET', '/stats')).unheard >= before + 2,
    );
    await killBrowsers();
    // WhatsApp accepts the next ones, and their browsers die before the ack. Receipts come when the browsers are back.
    await flotilla.sandbox('PUT', '/faults', { resumesSends, ackDelayMs: 150, receiptDelayMs: 50 });
    const others = messages.filter((_message, number) => number !== 0 && number !== 3);
    expect((await workspace.call('POST', '/messages/batch', { messages: others })).status).toBe(200);
    for (const share of [0.2, 0.5]) {
      await eventually(
        'more have arrived',
        async () => (await arrivedOf(run)).length > count * share,
        60_000,
      );
      await killBrowsers();
    }
    await expectComplete(run, count);
    await flotilla.sandbox('DELETE', '/faults');
  }, 180_000);
});

async function qrEvents(): Promise<number> {
  const logs = await Promise.all(
    accounts.map(({ id }) => workspace.call('GET', `/accounts/${id}/events?limit=200`)),
  );
  return logs.flatMap(({ body }) => body.items).filter(({ type }: { type: string }) => type === 'account.qr')
    .length;
}

describe('Redis', () => {
  it('is flushed in the middle of 300 queued messages', async () => {
    const messages = Array.from({ length: 300 }, (_message, number) => message('flush', number));
    expect((await workspace.call('POST', '/messages/batch', { messages })).status).toBe(200);
    await eventually('some have been sent', async () => (await arrivedOf('flush')).length > 0);
    const { body: queues } = await flotilla.call('GET', '/admin/queues');
    const backlog = queues.items.reduce((sum: number, queue: { backlog: number }) => sum + queue.backlog, 0);
    expect(backlog).toBeGreaterThan(100);
    const redis = new Redis(flotilla.stack.env.REDIS_URL!);
    await redis.flushall();
    await redis.quit();
    await expectComplete('flush', 300);
  });

  it('is away: the API accepts, and everything is sent when it is back', async () => {
    await flotilla.stack.ctl('stop', 'flotilla-data:redis');
    await accept('away', 30);
    await flotilla.stack.ctl('start', 'flotilla-data:redis');
    await expectComplete('away', 30);
  });
});

describe('PostgreSQL', () => {
  it('dies while 100 messages are being sent: callers are told to try again, and nothing is lost', async () => {
    const accepting = accept('postgres', 100);
    await eventually('some have been sent', async () => (await arrivedOf('postgres')).length > 0);
    const pid = await flotilla.stack.kill('flotilla-data:postgres', 'SIGQUIT');
    const refused = await eventually('refused', async () => {
      const answer = await workspace.call('GET', '/messages');
      return answer.status !== 200 && answer;
    });
    expect(refused.body).toMatchObject({ status: 503, code: 'service.unavailable' });
    expect(refused.headers.get('retry-after')).toBe('1');
    await flotilla.stack.waitUntilRunning('flotilla-data:postgres', { notPid: pid });
    await accepting;
    await expectComplete('postgres', 100);
  });
});

describe('after all that died', () => {
  /** All outgoing messages of the workspace. */
  const outgoing = async () => {
    const found: { whatsappId: string; origin: string; text: string }[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const query: string = `direction=outgoing&limit=200${cursor && `&cursor=${cursor}`}`;
      const { body } = await workspace.call('GET', `/messages?${query}`);
      found.push(...body.items);
      cursor = body.nextCursor;
    }
    return found;
  };

  it('each message of the ledger is one of ours, and only what the owner wrote on the phone is from there', async () => {
    const [first, second] = accounts;
    const write = async (text: string) =>
      (await flotilla.sandbox('POST', `/phones/${first!.phoneNumber}/messages`, { to: phone, text }))
        .whatsappId;
    const byHand = [await write('by hand, before')];
    // Its snapshot goes to the other server, whose page has neither sent nor seen most of the messages of this account.
    const target = second!.instanceId;
    expect(
      (await workspace.call('POST', `/accounts/${first!.id}/migrate`, { instanceId: target })).status,
    ).toBe(202);
    byHand.push(await write('by hand, on the way'));
    await eventually(
      'moved',
      async () => {
        const { status, instanceId } = await workspace.account(first!.id);
        return status === 'ready' && instanceId === target;
      },
      60_000,
    );
    byHand.push(await write('by hand, after'));
    const found = await eventually('all that was written by hand', async () => {
      const all = await outgoing();
      const ids = new Set(all.map(({ whatsappId }) => whatsappId));
      return byHand.every((id) => ids.has(id)) && all;
    });
    const fromPhone = found.filter(({ origin }) => origin === 'device').map(({ whatsappId }) => whatsappId);
    expect(fromPhone.sort()).toEqual([...byHand].sort());
    const sent = (await flotilla.ledger()).filter(({ from }) =>
      accounts.some(({ phoneNumber }) => phoneNumber === from),
    );
    expect(sent.length).toBeGreaterThan(500);
    const rows = found.map(({ whatsappId }) => whatsappId);
    expect(new Set(rows).size).toBe(rows.length);
    expect([...new Set(sent.map(({ whatsappId }) => whatsappId))].sort()).toEqual(rows.sort());
  }, 120_000);
});

describe('urgent', () => {
  it('is the next or next but one to be sent, behind 1,000 normal ones of the same account', async () => {
    const [account] = accounts;
    const messages = Array.from({ length: 1000 }, (_message, number) => ({
      accountId: account!.id,
      to: phone,
      text: `backlog/${number}`,
    }));
    await workspace.call('POST', '/messages/batch', { messages });
    await eventually('the backlog moves', async () =>
      (await flotilla.ledger()).some(({ text }) => text.startsWith('backlog/')),
    );
    const ledgerBefore = (await flotilla.ledger()).length;
    const { body } = await workspace.send({
      accountId: account!.id,
      to: phone,
      text: 'urgent/now',
      priority: 'urgent',
    });
    const acceptedAt = Date.parse(body.createdAt);
    const ledger = await eventually('the urgent one', async () => {
      const entries = await flotilla.ledger();
      return entries.some(({ text }) => text === 'urgent/now') && entries;
    });
    const position = ledger.findIndex(({ text }) => text === 'urgent/now');
    const overtaken = ledger.slice(ledgerBefore, position).filter(({ at }) => Date.parse(at) > acceptedAt);
    expect(overtaken.length).toBeLessThanOrEqual(2);
    for (const { body: queued } of [await workspace.call('GET', '/messages?status=queued&limit=1')])
      expect(queued.items.length).toBe(1);
  });
});
