import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { PageSend, PageWindow } from '../../src/whatsapp/in-page/page-functions.js';
import { connectionState } from '../../src/whatsapp/in-page/page-state.js';
import { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { chromiumPath, SandboxHarness, until } from './sandbox.harness.js';

/** The page, with the functions of the library by their names, so that a test can replace them. */
declare const window: Omit<PageWindow, 'WWebJS'> & {
  WWebJS: Record<string, (...given: unknown[]) => Promise<unknown>>;
};

let sandbox: SandboxHarness;
let session: WhatsAppSession;
let phone: string;
let friend: string;

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  session = new WhatsAppSession({
    accountId: 'sender',
    profileDir: join(sandbox.dir, 'session-sender'),
    chromiumPath,
    network: { kind: 'sandbox', host: '127.0.0.1', port: sandbox.server.port, spki: sandbox.server.spki },
    pairWithPhoneNumber: null,
    deadlines: { launchMs: 20_000, loadMs: 20_000, syncMs: 20_000 },
    canStart: () => true,
    onWarning: () => undefined,
  });
  let qr: string | null = null;
  let isReady = false;
  session.on('qr', (code) => (qr = code));
  session.on('ready', () => (isReady = true));
  await session.start();
  phone = await sandbox.phone();
  await sandbox.call('POST', `/phones/${phone}/scan`, { qr: await until('the QR code', () => qr) });
  await until('ready', () => isReady);
  friend = await sandbox.phone();
}, 60_000);

afterAll(async () => {
  await session?.stop({ finishSendsMs: 0, closeMs: 0 });
  await sandbox?.stop();
}, 30_000);

let count = 0;

function send(options: Partial<PageSend> = {}) {
  count += 1;
  return session.send({
    chatId: `${friend}@c.us`,
    content: { type: 'text', text: `text ${count}` },
    quoted: null,
    mentions: [],
    whatsappId: `3EB0${String(count).padStart(18, '0')}`,
    searchStorage: false,
    lookOnly: false,
    mayResend: true,
    timeoutMs: 5_000,
    typingMs: 0,
    checkNumber: false,
    ...options,
  });
}

const typing = async () => (await sandbox.stats()).typing ?? 0;

describe('a send', { timeout: 30_000 }, () => {
  it('shows that the account types, for as long as asked, and only then sends', async () => {
    const before = await typing();
    const started = performance.now();
    const sending = send({ typingMs: 700 });
    await until('typing', async () => (await typing()) === before + 1);
    expect(await sandbox.inbox(friend)).toEqual([]);
    expect(await sending).toMatchObject({ outcome: 'known' });
    expect(performance.now() - started).toBeGreaterThanOrEqual(700);
    expect(await sandbox.inbox(friend)).toHaveLength(1);
  });

  it('types nothing unless asked to, or when WhatsApp has the message already', async () => {
    const before = await typing();
    const whatsappId = '3EB0FFFFFFFFFFFFFFFFFF';
    expect(await send({ whatsappId })).toMatchObject({ outcome: 'known' });
    expect(await send({ whatsappId, searchStorage: true, typingMs: 5_000 })).toMatchObject({
      outcome: 'known',
    });
    expect(await typing()).toBe(before);
    expect((await sandbox.inbox(friend)).filter((entry) => entry.whatsappId === whatsappId)).toHaveLength(1);
  });

  it('asks for the number first when it is told to, and types and sends nothing to a number without WhatsApp', async () => {
    const before = await typing();
    const chatId = '628129999999999@c.us';
    expect(await send({ chatId, checkNumber: true, typingMs: 300 })).toEqual({ outcome: 'not_registered' });
    expect(await typing()).toBe(before);
    expect(await send({ checkNumber: true })).toMatchObject({ outcome: 'known' });
  });
});

describe('a stranger', { timeout: 30_000 }, () => {
  const checks = async () => (await sandbox.stats()).numberChecks ?? 0;
  const faults = (set: object) => sandbox.call('PUT', '/faults', set);
  afterEach(() => sandbox.call('DELETE', '/faults'));

  it('is asked for once, and a known person never', async () => {
    const chatId = `${await sandbox.phone()}@c.us`;
    const before = await checks();
    expect(await send({ chatId })).toMatchObject({ outcome: 'known' });
    expect(await checks()).toBe(before + 1);
    expect(await send({ chatId })).toMatchObject({ outcome: 'known' });
    expect(await checks()).toBe(before + 1);
    // A later try may find the message: the answer would say nothing about that.
    expect(await send({ chatId, checkNumber: true, searchStorage: true })).toMatchObject({
      outcome: 'known',
    });
    expect(await checks()).toBe(before + 1);
  });

  it('without a chat is asked for if the page makes none', async () => {
    expect(await send({ chatId: '199999999999999@lid' })).toEqual({ outcome: 'not_registered' });
  });

  it('whose number WhatsApp has in another form gets the message under that form only', async () => {
    const { body } = await sandbox.call<{ phone: string }>('POST', '/phones', {
      phone: '551187654321',
      aliases: ['5511987654321'],
    });
    const alias = { chatId: '5511987654321@c.us', whatsappId: '3EB0AAAAAAAAAAAAAAAAA1' };
    // Nothing is sent yet: the caller keeps the id first.
    expect(await send(alias)).toEqual({ outcome: 'other_id', chatId: '551187654321@c.us' });
    expect(await sandbox.inbox(body.phone)).toEqual([]);
    // WhatsApp has no chat under the form that was asked for, however often it is asked.
    expect(await send({ ...alias, numberCheck: 'done' })).toMatchObject({
      outcome: 'not_sent',
      detail: expect.stringContaining('No LID for user'),
    });
    const answered = { ...alias, chatId: '551187654321@c.us', numberCheck: 'done' } as const;
    expect(await send(answered)).toMatchObject({ outcome: 'known' });
    expect(await sandbox.inbox(body.phone)).toHaveLength(1);
  });

  it('waits while WhatsApp refuses to check numbers, and known persons do not', async () => {
    const chatId = `${await sandbox.phone()}@c.us`;
    expect(await send()).toMatchObject({ outcome: 'known' });
    await faults({ checkRefusal: 429 });
    expect(await send({ chatId })).toEqual({ outcome: 'throttled' });
    expect(await send({ checkNumber: true })).toMatchObject({ outcome: 'known' });
    const before = await checks();
    expect(await send({ chatId, numberCheck: 'paused' })).toEqual({ outcome: 'paused' });
    expect(await send({ numberCheck: 'paused', checkNumber: true })).toMatchObject({ outcome: 'known' });
    expect(await checks()).toBe(before);
    await sandbox.call('DELETE', '/faults');
    // The page is not told to make a chat either: it would ask.
    expect(await send({ chatId, numberCheck: 'paused' })).toEqual({ outcome: 'paused' });
    expect(await send({ chatId })).toMatchObject({ outcome: 'known' });
  });
});

it('a message is found again after its chat has moved from the number to the hidden number', async () => {
  const recipient = await sandbox.phone();
  const chatId = `${recipient}@c.us`;
  const whatsappId = '3EB0AAAAAAAAAAAAAAAAA2';
  const { body: theirs } = await sandbox.call<{ whatsappId: string }>(
    'POST',
    `/phones/${recipient}/messages`,
    { to: phone, text: 'before' },
  );
  await until('the message', async () =>
    (await session.messages.recentMessages(10)).some((held) => held.whatsappId === theirs.whatsappId),
  );
  await sandbox.call('PUT', '/faults', { ackDelayMs: 2_000 });
  expect(await send({ chatId, whatsappId, timeoutMs: 300 })).toEqual({ outcome: 'pending' });
  await sandbox.call('PUT', '/faults', { hiddenChats: true });
  await until('moved', async () => (await session.chats(5_000).find(chatId))?.endsWith('@lid'));
  // The key of a new message in this chat has another text than the key of the held message. The page finds it in its memory.
  const looked = await send({ chatId, whatsappId, lookOnly: true, mayResend: false, timeoutMs: 100 });
  expect(looked.outcome).toMatch(/^(pending|known)$/);
  expect(await send({ chatId, whatsappId, searchStorage: true })).toMatchObject({
    outcome: 'known',
    whatsappId,
  });
  expect(await sandbox.inbox(recipient)).toHaveLength(1);
  expect(await send({ chatId })).toMatchObject({ outcome: 'known' });
  expect(await sandbox.inbox(recipient)).toHaveLength(2);
  // So are their messages, in the memory of the page and in its database: they keep their keys too.
  const target = { chatId, whatsappId: theirs.whatsappId, fromMe: false, author: null };
  expect(await session.act(target, { kind: 'react', emoji: '👍' })).toMatchObject({ outcome: 'done' });
  await session['page'].evaluate(
    `(({ Msg }) => void Msg.remove(Msg.filter(({ id }) => id.id === '${theirs.whatsappId}')[0]))(window.require('WAWebCollections'))`,
  );
  expect(await send({ chatId, quoted: target })).toMatchObject({ outcome: 'known' });
  expect((await sandbox.inbox(recipient)).at(-1)).toMatchObject({ replyTo: theirs.whatsappId });
  await sandbox.call('DELETE', '/faults');
}, 30_000);

describe('a failure in the page', { timeout: 30_000 }, () => {
  /** Has one of the library's functions fail, before or after it did its work. */
  async function withFailing<Result>(
    name: 'getChat' | 'sendMessage',
    when: 'before' | 'after',
    work: () => Promise<Result>,
  ): Promise<Result> {
    const page = session['page'];
    await page.evaluate(
      ([name, when]) => {
        const real = window.WWebJS[name]!;
        window.WWebJS[`real_${name}`] = real;
        window.WWebJS[name] = async (...given: unknown[]) => {
          if (when === 'after') await real(...given);
          throw new Error('No LID for user');
        };
      },
      [name, when] as const,
    );
    try {
      return await work();
    } finally {
      await page.evaluate((name) => void (window.WWebJS[name] = window.WWebJS[`real_${name}`]!), name);
    }
  }

  it('of the check of a number is told, and nothing was sent', async () => {
    const page = session['page'];
    const real = await page.evaluateHandle(() => {
      const job = window.require('WAWebQueryExistsJob');
      const query = job.queryWidExists;
      job.queryWidExists = () => Promise.reject(new Error('no answer'));
      return query;
    });
    try {
      expect(await send({ checkNumber: true })).toEqual({ outcome: 'not_sent', detail: 'Error: no answer' });
      const unknown = { chatId: '628129999999999@c.us' };
      const result = await withFailing('getChat', 'before', () => send(unknown));
      expect(result).toEqual({ outcome: 'not_sent', detail: 'Error: no answer' });
    } finally {
      await page.evaluate((query) => {
        window.require('WAWebQueryExistsJob').queryWidExists = query;
      }, real);
    }
    expect(await send({ checkNumber: true })).toMatchObject({ outcome: 'known' });
  });

  it.each(['getChat', 'sendMessage'] as const)('of %s is told, and nothing was sent', async (name) => {
    const result = await withFailing(name, 'before', () => send({ searchStorage: true }));
    expect(result).toEqual({ outcome: 'not_sent', detail: 'Error: No LID for user' });
    const id = `3EB0${String(count).padStart(18, '0')}`;
    expect((await sandbox.ledger()).filter(({ whatsappId }) => whatsappId === id)).toEqual([]);
    expect(await send({ whatsappId: id, searchStorage: true })).toMatchObject({ outcome: 'known' });
  });

  it('that comes when the page has the message says nothing of it: its ack does', async () => {
    const result = await withFailing('sendMessage', 'after', () => send());
    expect(result).toMatchObject({ outcome: 'known' });
    const again = { whatsappId: `3EB0${String(count).padStart(18, '0')}`, searchStorage: true };
    await expect(withFailing('getChat', 'before', () => send(again))).rejects.toThrow('No LID for user');
  });

  it('that comes without a connection is not the fault of the message', async () => {
    const page = session['page'];
    const isConnected = async () => (await page.evaluate(connectionState)).state === 'CONNECTED';
    await sandbox.call('PUT', '/faults', { offline: true, phone });
    try {
      await until('the connection is lost', async () => !(await isConnected()));
      const sending = withFailing('sendMessage', 'before', () => send());
      await expect(sending).rejects.toThrow('No LID for user');
    } finally {
      await sandbox.call('DELETE', '/faults');
    }
    await until('the connection is back', isConnected);
    expect(await send()).toMatchObject({ outcome: 'known' });
  });
});

describe('what is done to a message', { timeout: 30_000 }, () => {
  const target = () => ({
    chatId: `${friend}@c.us`,
    whatsappId: `3EB0${String(count).padStart(18, '0')}`,
    fromMe: true,
    author: null,
  });

  it('comes back as an event, and can be read again', async () => {
    const changes: unknown[] = [];
    session.on('change', (change) => changes.push(change));
    const since = Date.now();
    await send();
    const whatsappId = target().whatsappId;
    expect(await session.act(target(), { kind: 'react', emoji: '👍' })).toMatchObject({ outcome: 'done' });
    const edited = await session.act(target(), { kind: 'edit', text: 'edited' });
    expect(edited).toMatchObject({ outcome: 'done' });
    await until('both events', () => changes.length === 2);
    const expected = [
      { kind: 'reaction', whatsappId, from: null, emoji: '👍' },
      { kind: 'edited', whatsappId, text: 'edited', at: (edited as { at: number }).at },
    ];
    expect(changes).toMatchObject(expected);
    const read = await session.messages.recentChanges(since, 100);
    expect(read).toHaveLength(2);
    expect(read).toEqual(expect.arrayContaining(changes));
    expect(await session.messages.recentChanges(Date.now() + 1_000, 100)).toEqual([]);
  });

  it('says what the page cannot do', async () => {
    const nobody = { ...target(), whatsappId: 'NOSUCHID' };
    expect(await session.act(nobody, { kind: 'revoke' })).toEqual({ outcome: 'not_found' });
    await send();
    await sandbox.call('PUT', '/faults', { editWindowMs: 1 });
    let tries = 0;
    await until('the rule', async () => {
      // One that came before the rule was done, and to do the same again is always allowed.
      const result = await session.act(target(), { kind: 'edit', text: `late ${(tries += 1)}` });
      return result.outcome === 'not_allowed';
    });
    await sandbox.call('DELETE', '/faults');
  });

  it('is uncertain while WhatsApp does not answer, and safe to be done again', async () => {
    await send();
    await sandbox.call('PUT', '/faults', { silent: true, phone });
    expect(await session.act(target(), { kind: 'revoke' })).toEqual({ outcome: 'timed_out' });
    await sandbox.call('DELETE', '/faults');
    expect(await session.act(target(), { kind: 'revoke' })).toMatchObject({ outcome: 'done' });
    expect(await session.act(target(), { kind: 'revoke' })).toMatchObject({ outcome: 'done' });
    const lines = (await sandbox.ledger()).filter(({ type }) => type === 'revoke');
    expect(lines).toMatchObject([{ whatsappId: target().whatsappId, duplicate: false }]);
  });
});
