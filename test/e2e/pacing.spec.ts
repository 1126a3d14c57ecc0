import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { Flotilla, type LedgerEntry, type Workspace } from '../support/flotilla.js';

/** A gap is counted from the claim, and what lies between that and the ledger takes more time for one than for another. */
const unevenMs = 400;
/** How long number checks pause after WhatsApp has throttled one. */
const checkPauseMs = 4_000;

let flotilla: Flotilla;
let workspace: Workspace;
let accountId: string;
let phoneNumber: string;

beforeAll(async () => {
  flotilla = await Flotilla.start({ instances: 1, env: { NUMBER_CHECK_PAUSE_MS: String(checkPauseMs) } });
  workspace = await flotilla.newWorkspace();
  const [account] = await workspace.linkedAccounts(1);
  accountId = account.id;
  phoneNumber = account.phoneNumber;
});
afterAll(() => flotilla?.stop());

/** Small gaps, and what the sandbox's page cannot show left out: a test is about one thing. */
const quick = {
  enabled: true,
  gapSeconds: { urgent: 0, high: 0, normal: 0, campaign: 0 },
  jitter: 0,
  burst: { size: 1_000, pauseSeconds: 0 },
  typing: false,
  checkNumbers: false,
  warmUp: { days: 0 },
};

async function pace(pacing: object | null): Promise<void> {
  const answer = await workspace.call('PATCH', `/accounts/${accountId}`, { pacing });
  expect(answer.status).toBe(200);
}

/** Each test starts with an account that has sent nothing by its settings. */
beforeEach(async () => {
  await flotilla.sandbox('DELETE', '/faults');
  await pace(null);
  await workspace.untilAllSent();
});

async function send(to: string, text: string, priority = 'normal'): Promise<string> {
  const answer = await workspace.send({ accountId, to: `+${to}`, text, priority });
  expect(answer.status).toBe(202);
  return answer.body.id;
}

async function statusOf(id: string): Promise<string> {
  return (await workspace.call('GET', `/messages/${id}`)).body.status;
}

async function untilSent(id: string): Promise<void> {
  await eventually(`message ${id} sent`, async () =>
    ['sent', 'delivered', 'read'].includes(await statusOf(id)),
  );
}

/** A phone whose owner has written to the account. */
async function newFriend(): Promise<string> {
  const phone = await flotilla.newPhone();
  await flotilla.sandbox('POST', `/phones/${phone}/messages`, {
    to: phoneNumber,
    text: `hello from ${phone}`,
  });
  await eventually('heard', async () => {
    const { body } = await workspace.call('GET', `/messages?direction=incoming&accountId=${accountId}`);
    return body.items.some((item: { from: string }) => item.from === phone);
  });
  return phone;
}

/** What the phones received, in order, of texts that begin so. */
async function arrived(beginning: string): Promise<LedgerEntry[]> {
  return (await flotilla.ledger()).filter(({ text }) => text.startsWith(beginning));
}

describe('an account whose pacing is on', () => {
  it('leaves a gap between two messages, and sends urgent ones meanwhile', async () => {
    await pace({ ...quick, gapSeconds: { urgent: 0, high: 0, normal: 2, campaign: 2 } });
    const to = await flotilla.newPhone();
    const ids = [];
    for (const number of [1, 2, 3, 4]) ids.push(await send(to, `gap ${number}`));
    await untilSent(ids[0]!);
    expect((await workspace.account(accountId)).sending.nextSendAt).not.toBeNull();
    await untilSent(await send(to, 'gap urgent', 'urgent'));
    expect(await statusOf(ids[3]!)).toBe('queued');
    await untilSent(ids[3]!);
    const entries = await arrived('gap');
    const normal = entries.filter(({ text }) => text !== 'gap urgent');
    expect(normal.map(({ text }) => text)).toEqual(['gap 1', 'gap 2', 'gap 3', 'gap 4']);
    const gaps = normal.slice(1).map(({ at }, index) => Date.parse(at) - Date.parse(normal[index]!.at));
    for (const gap of gaps) expect(gap).toBeGreaterThan(2_000 - unevenMs);
    // A head that was held back leaves within a second of its time.
    for (const gap of gaps) expect(gap).toBeLessThan(2_000 + 1_000 + 2 * unevenMs);
    expect(entries.findIndex(({ text }) => text === 'gap urgent')).toBeLessThan(entries.length - 1);
  });

  it('sends no more cold messages than its budget has, answers who wrote, and goes on when the budget is raised', async () => {
    const friend = await newFriend();
    const strangers = [await flotilla.newPhone(), await flotilla.newPhone()];
    const { cold: before } = (await workspace.account(accountId)).sending;
    expect(before).toEqual({ open: true, reason: null, until: null });
    await pace({ ...quick, dailyBudget: { cold: 1 } });
    const first = await send(strangers[0]!, 'cold 1');
    const second = await send(strangers[1]!, 'cold 2');
    const reply = await send(friend, 'cold reply');
    await untilSent(first);
    await untilSent(reply);
    expect(await statusOf(second)).toBe('queued');
    const { sending } = await workspace.account(accountId);
    expect(sending).toMatchObject({
      paced: true,
      budget: { cold: { limit: 1, used: 1, left: 0 }, replies: { used: 1 } },
      cold: { open: false, reason: 'budget', until: sending.budget.resetsAt },
    });
    expect((await arrived('cold')).map(({ text }) => text)).toEqual(['cold 1', 'cold reply']);
    await pace({ ...quick, dailyBudget: { cold: 5 } });
    await untilSent(second);
  });

  it('stops writing to cold contacts when WhatsApp refuses one, until it is told to go on', async () => {
    await pace(quick);
    const friend = await newFriend();
    await flotilla.sandbox('PUT', '/faults', { refuseRate: 1, phone: phoneNumber });
    const refused = await send(await flotilla.newPhone(), 'refused');
    await eventually('refused', async () => (await statusOf(refused)) === 'failed');
    const answer = (await workspace.call('GET', `/messages/${refused}`)).body;
    expect(answer.error.code).toBe('whatsapp.refused');
    await flotilla.sandbox('DELETE', '/faults');
    const waiting = await send(await flotilla.newPhone(), 'refusal: a stranger');
    await untilSent(await send(friend, 'refusal: a friend'));
    expect(await statusOf(waiting)).toBe('queued');
    const { cold } = (await workspace.account(accountId)).sending;
    expect(cold).toMatchObject({ open: false, reason: 'refused' });
    expect(Date.parse(cold.until)).toBeGreaterThan(Date.now());

    const viewer = await workspace.keyFor('viewer');
    expect(
      (await flotilla.call('POST', `/accounts/${accountId}/resume-cold`, undefined, viewer)).status,
    ).toBe(403);
    const resumed = await workspace.call('POST', `/accounts/${accountId}/resume-cold`);
    expect(resumed.status).toBe(200);
    expect(resumed.body.sending.cold).toEqual({ open: true, reason: null, until: null });
    await untilSent(waiting);
    expect((await workspace.call('POST', `/accounts/${accountId}/resume-cold`)).body.code).toBe(
      'account.cold_not_paused',
    );
    expect((await eventTypes()).slice(-2)).toEqual(['account.cold_paused', 'account.cold_resumed']);
  });
});

/** The types of the cold lane's events, as the stream gives them from its beginning. */
async function eventTypes(): Promise<string[]> {
  const events = await workspace.events(['account.cold_paused', 'account.cold_resumed'], 2);
  return events.map(({ type }) => type);
}

/** How often the account asked WhatsApp about a number. */
async function checks(): Promise<number> {
  return (await flotilla.sandbox('GET', '/stats')).numberChecks;
}

describe('a number that WhatsApp has in another form', () => {
  it.each([
    ['Brazil: the ninth digit', '5511987654321', '551187654321'],
    ['Mexico: 521', '525512345678', '5215512345678'],
    ['Argentina: 549', '541123456789', '5491123456789'],
  ])(
    'gets its messages, acks, edits and answers under the number of the caller (%s)',
    async (_country, written, own) => {
      await flotilla.sandbox('POST', '/phones', { phone: own, aliases: [written] });
      await pace({ ...quick, dailyBudget: { cold: 2 } });
      const asked = await checks();
      const first = await send(written, `${own} first`);
      // Accepted before WhatsApp has answered for the first message.
      const second = await send(written, `${own} second`);
      await eventually('read', async () => (await statusOf(second)) === 'read');
      expect(await statusOf(first)).toBe('read');
      expect((await arrived(own)).map(({ to, text }) => [to, text])).toEqual([
        [own, `${own} first`],
        [own, `${own} second`],
      ]);
      // WhatsApp was asked once, and each message keeps the number that the caller wrote.
      expect(await checks()).toBe(asked + 1);
      const sent = (await workspace.call('GET', `/messages/${first}`)).body;
      expect(sent.to).toBe(written);
      expect((await workspace.call('PATCH', `/messages/${first}`, { text: `${own} edited` })).status).toBe(
        200,
      );

      // The budget for strangers is used up. Its owner answers, and is no stranger any more, under either form.
      const cold = await send(written, `${own} cold`);
      await workspace.untilStatus(accountId, 'ready');
      expect(await statusOf(cold)).toBe('queued');
      await flotilla.sandbox('POST', `/phones/${own}/messages`, { to: phoneNumber, text: `${own} answers` });
      await untilSent(cold);
      const { items } = (await workspace.call('GET', `/messages?direction=incoming&accountId=${accountId}`))
        .body;
      const answer = items.find(({ text }: { text: string }) => text === `${own} answers`);
      expect(answer.from).toBe(own);
      const reply = await workspace.send({
        accountId,
        to: written,
        replyTo: answer.id,
        text: `${own} reply`,
      });
      expect(reply.status).toBe(202);
      await untilSent(reply.body.id);
      await untilSent(await send(answer.from, `${own} by its own number`));
      // Without an account in the request, the account that wrote to the person in any form sends.
      for (const to of [written, own])
        expect((await workspace.send({ to, text: `${own} anybody` })).body.accountId).toBe(accountId);
      await workspace.untilAllSent();

      // A filter finds the messages of both forms, by either form.
      const listed = async (to: string) =>
        (await workspace.call('GET', `/messages?to=${to}`)).body.items.map(({ id }: { id: string }) => id);
      expect(await listed(written)).toEqual(await listed(own));
      expect(await listed(own)).toContain(first);
      const number = (await workspace.call('GET', `/accounts/${accountId}/numbers/${written}`)).body;
      expect(number).toMatchObject({ phone: written, registered: true, chatId: `${own}@c.us` });
      const history = await workspace.call('GET', `/accounts/${accountId}/chats/${written}/messages?limit=1`);
      expect(history.body.items[0].chatId).toBe(`${own}@c.us`);
      expect((await arrived(own)).filter(({ duplicate }) => duplicate)).toEqual([]);
    },
  );
});

describe('number checks that WhatsApp throttles', () => {
  it('let messages to strangers wait, without a try, a failure or a restart; messages to known chats go on', async () => {
    await pace({ ...quick, dailyBudget: { cold: 10 } });
    const friend = await newFriend();
    await flotilla.sandbox('PUT', '/faults', { phone: phoneNumber, checkRefusal: 429 });
    const asked = await checks();
    const begun = Date.now();
    const to = await flotilla.newPhone();
    const ids = [await send(to, 'throttled 1'), await send(await flotilla.newPhone(), 'throttled 2')];
    ids.push(await send(to, 'throttled 3'));
    for (const id of ids) {
      const waiting = await eventually('waits', async () => {
        const { body } = await workspace.call('GET', `/messages/${id}`);
        return body.status === 'scheduled' && body;
      });
      expect(waiting).toMatchObject({ attempts: 0, error: { code: 'whatsapp.number_checks_paused' } });
      expect(Date.parse(waiting.scheduledFor)).toBeGreaterThan(begun);
    }
    await untilSent(await send(friend, 'throttled: a friend'));
    expect(await arrived('throttled')).toHaveLength(1);
    // One refusal is enough: WhatsApp is not asked again during the pause.
    expect(await checks()).toBe(asked + 1);
    const number = await workspace.call('GET', `/accounts/${accountId}/numbers/${to}`);
    expect([number.status, number.body.code]).toEqual([429, 'whatsapp.number_checks_paused']);
    expect((await workspace.account(accountId)).sending.budget.cold.used).toBe(0);

    // The next pause is longer.
    await eventually('asked again', async () => (await checks()) > asked + 1);
    await flotilla.sandbox('DELETE', '/faults');
    for (const id of ids) await untilSent(id);
    const entries = await arrived('throttled');
    expect(entries.filter(({ to: recipient }) => recipient === to).map(({ text }) => text)).toEqual([
      'throttled 1',
      'throttled 3',
    ]);
    expect(entries.filter(({ duplicate }) => duplicate)).toEqual([]);
    expect(Date.parse(entries[1]!.at) - begun).toBeGreaterThanOrEqual(3 * checkPauseMs);
    for (const id of ids)
      expect((await workspace.call('GET', `/messages/${id}`)).body).toMatchObject({
        attempts: 1,
        error: null,
        scheduledFor: null,
      });
    const { body } = await workspace.call('GET', `/accounts/${accountId}/events`);
    const ends = body.items.filter(({ type }: { type: string }) => type === 'account.status');
    expect(ends[0].event).toBe('connected');
  });
});

describe('what a contact sees', () => {
  it('is that somebody types, before the message comes', async () => {
    await pace({ ...quick, typing: true });
    const { typing } = await flotilla.sandbox('GET', '/stats');
    const to = await flotilla.newPhone();
    await untilSent(await send(to, 'typed'));
    expect((await flotilla.sandbox('GET', '/stats')).typing).toBe(typing + 1);
    const [entry] = await arrived('typed');
    const [message] = (await workspace.call('GET', `/messages?to=%2B${to}`)).body.items;
    expect(Date.parse(entry!.at) - Date.parse(message.createdAt)).toBeGreaterThanOrEqual(1_000);
  });

  it('is nothing where the number has no WhatsApp: that costs no budget', async () => {
    await pace({ ...quick, checkNumbers: true });
    const { budget } = (await workspace.account(accountId)).sending;
    const id = await send('6281199999999', 'nobody');
    await eventually('failed', async () => (await statusOf(id)) === 'failed');
    expect((await workspace.call('GET', `/messages/${id}`)).body.error.code).toBe('recipient.not_registered');
    expect((await workspace.account(accountId)).sending.budget).toEqual(budget);
    expect(await arrived('nobody')).toEqual([]);
  });

  it('is a reply, also under the hidden number of who wrote', async () => {
    await pace({ ...quick, dailyBudget: { cold: 0 } });
    const friend = await newFriend();
    // As the sandbox's page makes it of a phone number.
    const hidden = `1${[...friend].reverse().join('')}@lid`;
    const answer = await workspace.send({ accountId, to: hidden, text: 'to a hidden number' });
    await untilSent(answer.body.id);
    expect((await workspace.account(accountId)).sending.budget.replies.used).toBe(1);
  });
});

describe('settings over HTTP', () => {
  it('of a workspace hold for its accounts, and null takes them back', async () => {
    const path = `/workspaces/${workspace.id}`;
    const set = await flotilla.call('PATCH', path, { pacing: { enabled: true, gapSeconds: { normal: 3 } } });
    expect(set.body.pacing).toEqual({ enabled: true, gapSeconds: { normal: 3 } });
    expect((await workspace.account(accountId)).sending).toMatchObject({
      paced: true,
      settings: { gapSeconds: { normal: 3, urgent: 1 } },
    });
    expect((await flotilla.call('PATCH', path, { pacing: null })).body.pacing).toBeNull();
    const { pacing, sending } = await workspace.account(accountId);
    expect(pacing).toBeNull();
    expect(sending).toMatchObject({ paced: false, budget: null, settings: { gapSeconds: { normal: 5 } } });
  });

  it('are on for a live account from its creation, and listed', async () => {
    const { body } = await workspace.call('POST', '/accounts', { name: 'live', pacing: { jitter: 0.5 } });
    expect(body).toMatchObject({
      environment: 'live',
      pacing: { jitter: 0.5 },
      sending: {
        paced: true,
        settings: { jitter: 0.5, typing: true },
        nextSendAt: null,
        budget: { cold: { limit: 25, used: 0, left: 25 } },
        warmUp: { day: 1, ofDays: 14 },
      },
    });
    const { items } = (await workspace.call('GET', '/accounts')).body;
    expect(items.map((item: { sending: { paced: boolean } }) => item.sending.paced)).toEqual([true, false]);
    await workspace.call('DELETE', `/accounts/${body.id}`);
  });

  it.each([
    [{ speed: 9 }, 'pacing.speed'],
    [{ gapSeconds: { medium: 1 } }, 'pacing.gapSeconds.medium'],
    [{ gapSeconds: { urgent: -1 } }, 'pacing.gapSeconds.urgent'],
    [{ gapSeconds: { urgent: '1' } }, 'pacing.gapSeconds.urgent'],
    [{ gapSeconds: [] }, 'pacing.gapSeconds'],
    [{ jitter: 1.1 }, 'pacing.jitter'],
    [{ burst: { size: 0 } }, 'pacing.burst.size'],
    [{ dailyBudget: { cold: 1.5 } }, 'pacing.dailyBudget.cold'],
    [{ warmUp: { startPercent: 0 } }, 'pacing.warmUp.startPercent'],
    [{ typing: 'yes' }, 'pacing.typing'],
    [{ coldPause: { coolDownMinutes: 0 } }, 'pacing.coldPause.coolDownMinutes'],
    [[], 'pacing'],
    ['slow', 'pacing'],
  ])('that are wrong are refused: %j', async (pacing, path) => {
    for (const [key, target] of [
      [workspace.key, `/accounts/${accountId}`],
      [flotilla.adminKey, `/workspaces/${workspace.id}`],
    ] as const) {
      const { status, body } = await flotilla.call('PATCH', target, { pacing }, key);
      expect(status).toBe(400);
      expect(body.code).toBe('validation.failed');
      expect(body.errors.map((error: { path: string }) => error.path)).toContain(path);
    }
  });
});
