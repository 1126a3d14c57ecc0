import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { BusinessContact, Call, Message } from 'whatsapp-web.js';
import { type Account, SandboxHarness, until } from './sandbox.harness.js';

/* Numbers, cards, blocking, texts about people, names, businesses, calls and new numbers, through the bare library. */

let sandbox: SandboxHarness;
let account: Account;
let other: Account;

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  [account, other] = await Promise.all([sandbox.linked(), sandbox.linked()]);
}, 60_000);

afterEach(async () => {
  await sandbox.call('DELETE', '/faults');
});

afterAll(async () => {
  await sandbox?.stop();
}, 30_000);

const say = (from: string, to: string, body: object) =>
  sandbox.call<{ whatsappId: string; message?: string }>('POST', `/phones/${from}/messages`, { to, ...body });

const contactOf = (phone: string, of = account) => of.client.getContactById(`${phone}@c.us`);

/** What an account received with this text. */
const heard = (by: Account, text: string) => until(text, () => by.received.find(({ body }) => body === text));

describe('numbers', () => {
  it.each([
    ['18092201111', '1', '+1 (809) 220-1111'],
    ['628123456789', '62', '+62 812-3456-789'],
    ['5511942167462', '55', '+55 11 94216-7462'],
    ['2250102030405', '225', '+225 0102030405'],
    ['390612345678', '39', '+39 0612345678'],
  ])('%s has the code %s and is written %s', async (number, code, written) => {
    expect(await account.client.getCountryCode(number)).toBe(code);
    expect(await account.client.getFormattedNumber(`${number}@c.us`)).toBe(written);
  });
});

describe('cards', () => {
  const card = [
    'BEGIN:VCARD',
    'VERSION:3.0',
    'FN;CHARSET=UTF-8:John',
    '  Doe',
    'item1.TEL;TYPE=HOME:1234567890',
    'END:VCARD',
  ].join('\r\n');

  it('are recognised in a text, and arrive under the name that they hold', async () => {
    await account.client.sendMessage(`${other.phone}@c.us`, card, { waitUntilMsgSent: true });
    expect((await sandbox.inbox(other.phone)).at(-1)).toMatchObject({
      type: 'contact',
      text: '',
      contacts: [{ name: 'John Doe', vcard: card }],
    });
    const half = card.replace('END:VCARD', '');
    await account.client.sendMessage(`${other.phone}@c.us`, half, { waitUntilMsgSent: true });
    expect((await sandbox.inbox(other.phone)).at(-1)).toMatchObject({ type: 'text', text: half });
  });

  it('are made of contacts: with the number, unless it is hidden', async () => {
    const [open, shy] = [await sandbox.phone('Siti; and, Co'), await sandbox.phone('Shy')];
    await sandbox.call('PATCH', `/phones/${shy}`, { hidesNumber: true });
    await say(shy, account.phone, { text: 'guess who' });
    const hidden = await (await heard(account, 'guess who')).getContact();
    expect(hidden.number).not.toContain(shy);
    await account.client.sendMessage(`${other.phone}@c.us`, [await contactOf(open), hidden], {
      waitUntilMsgSent: true,
    });
    const { contacts } = (await sandbox.inbox(other.phone)).at(-1)!;
    expect(contacts?.map(({ vcard }) => vcard.split('\n'))).toEqual([
      expect.arrayContaining(['FN:Siti\\; and\\, Co', expect.stringContaining(`waid=${open}:+62 `)]),
      expect.arrayContaining(['FN:Shy']),
    ]);
    expect(contacts?.[1]?.vcard).not.toContain('TEL');
  });
});

/** The key under which the other side of a chat has a message. */
const idHere = (message: Message, from: string) => `false_${from}@c.us_${message.id.id}`;

describe('blocking', { timeout: 60_000 }, () => {
  it('keeps messages of the person away, and the text about the account', async () => {
    const { phone } = account;
    const person = await contactOf(other.phone);
    const early = await other.send(phone, 'before the block');
    await heard(account, 'before the block');
    await person.block();
    expect((await contactOf(other.phone)).isBlocked).toBe(true);
    expect((await account.client.getBlockedContacts()).map(({ number }) => number)).toEqual([other.phone]);
    expect((await sandbox.call('GET', `/phones/${phone}/blocked`)).body).toEqual({ items: [other.phone] });

    const sent = await other.send(phone, 'never seen');
    await early.react('👀');
    expect(await (await contactOf(phone, other)).getAbout()).toBeNull();
    // What comes later shows that the message before it did not come.
    const friend = await sandbox.phone();
    await say(friend, phone, { text: 'after the block' });
    await heard(account, 'after the block');
    expect(account.received.map(({ body }) => body)).not.toContain('never seen');
    const inbox = await sandbox.inbox(phone);
    expect(inbox.map(({ text }) => text)).not.toContain('never seen');
    expect(inbox.find(({ text }) => text === 'before the block')).not.toHaveProperty('reactions');
    expect((await account.client.getMessageById(idHere(early, other.phone))).hasReaction).toBe(false);
    expect(other.acksOf(sent.id.id)).toEqual([1]);
    expect((await say(phone, other.phone, { text: 'no' })).status).toBe(409);
    const refused = await account.client.sendMessage(`${other.phone}@c.us`, 'no', { waitUntilMsgSent: true });
    await until('the refusal', () => account.acksOf(refused.id.id).includes(-1));

    await person.unblock();
    expect((await contactOf(other.phone)).isBlocked).toBe(false);
    await other.send(phone, 'seen again');
    await heard(account, 'seen again');
  });

  it('on the phone reaches the linked browser, and outlives a restart of both', async () => {
    const nuisance = await sandbox.phone();
    await say(nuisance, account.phone, { text: 'buy now' });
    await heard(account, 'buy now');
    await sandbox.call('PUT', `/phones/${account.phone}/blocked`, { phone: nuisance });
    await until('the block', async () => (await contactOf(nuisance)).isBlocked);
    await sandbox.shutDown();
    await sandbox.boot();
    expect((await sandbox.call('GET', `/phones/${account.phone}/blocked`)).body).toEqual({
      items: [nuisance],
    });
    await until('the connection', async () => (await sandbox.stats()).online === 2);
    await sandbox.call('PUT', `/phones/${account.phone}/blocked`, { phone: nuisance, blocked: false });
    await until('the end of the block', async () => !(await contactOf(nuisance)).isBlocked);
  });
});

describe('what people say of themselves', { timeout: 60_000 }, () => {
  it('is the text about them', async () => {
    const seen = async () => (await contactOf(account.phone, other)).getAbout();
    expect(await seen()).toBe('Hey there! I am using WhatsApp.');
    await account.client.setStatus('At the beach');
    expect(await seen()).toBe('At the beach');
    await sandbox.call('PATCH', `/phones/${account.phone}`, { about: null });
    expect(await seen()).toBeNull();
  });

  it('is the name, which later messages bring', async () => {
    await account.send(other.phone, 'under the old name');
    await heard(other, 'under the old name');
    expect(await account.client.setDisplayName('Captain Ahab')).toBe(true);
    await account.send(other.phone, 'under the new name');
    const message = await heard(other, 'under the new name');
    expect((message.rawData as { notifyName?: string }).notifyName).toBe('Captain Ahab');
    expect((await message.getContact()).pushname).toBe('Captain Ahab');
  });

  it('is the profile of a business, whose name changes on its phone only', async () => {
    const shop = await sandbox.phone('Warung');
    const businessProfile = {
      description: 'Soup',
      category: 'Restaurant',
      websites: ['https://example.com'],
    };
    await sandbox.call('PATCH', `/phones/${shop}`, { isBusiness: true, businessProfile });
    const contact = await contactOf(shop);
    expect(contact.isBusiness).toBe(true);
    expect((contact as BusinessContact).businessProfile).toMatchObject({
      description: 'Soup',
      website: ['https://example.com'],
    });
    await sandbox.call('PATCH', `/phones/${other.phone}`, { isBusiness: true });
    await until('the refusal', async () => (await other.client.setDisplayName('Other')) === false);
    await sandbox.call('PATCH', `/phones/${other.phone}`, { isBusiness: false });
  });
});

describe('a call', { timeout: 60_000 }, () => {
  it('rings in linked browsers, which can reject it', async () => {
    const rings: Call[] = [];
    account.client.on('call', (call) => rings.push(call));
    const friend = await sandbox.phone();
    const ring = async (video: boolean) =>
      (await sandbox.call<{ id: string }>('POST', `/phones/${friend}/calls`, { to: account.phone, video }))
        .body.id;
    const stateOf = async (id: string) =>
      (await sandbox.call<{ items: { id: string; state: string }[] }>('GET', '/calls')).body.items.find(
        (call) => call.id === id,
      )?.state;
    const first = await ring(true);
    const call = await until('the call', () => rings.find(({ id }) => id === first));
    expect(call).toMatchObject({
      from: { _serialized: `${friend}@c.us` },
      isVideo: true,
      isGroup: false,
      fromMe: false,
    });
    expect(await stateOf(first)).toBe('ringing');
    await call.reject();
    expect(await stateOf(first)).toBe('rejected');
    const second = await ring(false);
    await until('the second call', () => rings.some(({ id }) => id === second));
    await sandbox.call('DELETE', `/phones/${friend}/calls/${second}`);
    expect(await stateOf(second)).toBe('ended');
  });
});

describe('a new number', { timeout: 60_000 }, () => {
  it('is told in groups, and to those who know the old one', async () => {
    const changes: [message: Message, oldId: unknown, isContact: unknown][] = [];
    account.client.on('contact_changed', (message, oldId, _newId, isContact) =>
      changes.push([message, oldId, isContact]),
    );
    const [from, to] = [await sandbox.phone('Nomad'), '628111222333'];
    await sandbox.call('PUT', `/phones/${account.phone}/contacts`, { phone: from, name: 'Nomad' });
    await say(from, account.phone, { text: 'before I move' });
    await heard(account, 'before I move');
    const { body: group } = await sandbox.call<{ id: string }>('POST', '/groups', {
      owner: account.phone,
      subject: 'Travellers',
      participants: [from],
    });
    const taken = await sandbox.call('POST', `/phones/${from}/change-number`, { to: other.phone });
    expect(taken.status).toBe(409);
    expect((await sandbox.call('POST', `/phones/${from}/change-number`, { to })).status).toBe(200);

    await until('both notices', () => changes.length >= 2);
    const lid = (phone: string) => `1${[...phone].reverse().join('')}@lid`;
    const [inGroup, inChat] = [false, true].map((kind) =>
      changes.find(([, , isContact]) => isContact === kind)!,
    );
    expect(inGroup![0].id.remote).toBe(group.id);
    expect(JSON.stringify(inGroup![1])).toContain(lid(from));
    expect(inChat![0].id.remote).toBe(`${from}@c.us`);
    expect(inChat![1]).toBe(`${from}@c.us`);
    expect(inChat![0].to).toBe(`${to}@c.us`);

    expect(await account.client.isRegisteredUser(`${from}@c.us`)).toBe(false);
    await say(to, group.id, { text: 'from my new number' });
    expect((await heard(account, 'from my new number')).author).toBe(lid(to));
  });
});

describe('newer builds', { timeout: 60_000 }, () => {
  /** Loads the page again, as this build. */
  async function load(version: string): Promise<void> {
    await sandbox.call('PUT', '/build', { version });
    const times = account.readyCount;
    await account.client.pupPage!.reload();
    await account.ready(times + 1);
  }
  const blockList = () =>
    account.client.pupPage!.evaluate(
      `window.require('WAWebCollections').Blocklist.getModelsArray().map(({ id }) => id._serialized)`,
    );

  it('list blocked people by their LIDs; the newest build has no function that finds the contact to block', async () => {
    const nuisance = await sandbox.phone();
    const lid = `1${[...nuisance].reverse().join('')}@lid`;
    await load('july');
    const person = await contactOf(nuisance);
    await person.block();
    expect(await blockList()).toEqual([lid]);
    expect((await contactOf(nuisance)).isBlocked).toBe(true);
    expect((await account.client.getBlockedContacts()).map(({ number }) => number)).toEqual([nuisance]);
    await load('september');
    expect(await blockList()).toEqual([lid]);
    await expect((await contactOf(nuisance)).unblock()).rejects.toThrow();
    expect((await contactOf(nuisance)).isBlocked).toBe(true);
  });

  it('send an invite to one person by one object', async () => {
    await load('september');
    const send = (invite: string) =>
      account.client.pupPage!.evaluate(`(async () => {
        const { Chat } = window.require('WAWebCollections');
        const chat = await Chat.find('${other.phone}@c.us');
        const { sendGroupInviteMessage } = window.require('WAWebChatSendMessages');
        return sendGroupInviteMessage(${invite});
      })()`);
    const result = await send(
      `{ chat_: chat, gid: '120363000000000000@g.us', name: 'Choir', code: 'abc', exp: 4102444800, caption: 'Come' }`,
    );
    expect(result).toMatchObject({ messageSendResult: 'OK' });
    expect((await sandbox.inbox(other.phone)).at(-1)).toMatchObject({
      type: 'group_invite',
      text: 'Come',
      invite: { code: 'abc', group: '120363000000000000@g.us', subject: 'Choir', expiresAt: 4102444800 },
    });
    const seven = `chat, '120363000000000000@g.us', 'Choir', 'abc', '4102444800', 'Come'`;
    await expect(send(seven)).rejects.toThrow();
  });
});
