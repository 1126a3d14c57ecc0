import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { LedgerEntry } from '../../src/sandbox/journal/ledger.js';
import type { PageChange, PageMessage, PageSend } from '../../src/whatsapp/in-page/page-functions.js';
import { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { files } from './media-files.js';
import { chromiumPath, SandboxHarness, until } from './sandbox.harness.js';

/* What the page of the newest build tells besides messages, and what it does to messages that it has. */

let sandbox: SandboxHarness;
let session: WhatsAppSession;
let phone: string;
let readyCount = 0;
let received: PageMessage[] = [];
let changes: PageChange[] = [];
let warnings: string[] = [];

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  await sandbox.call('PUT', '/build', { version: 'september' });
  session = new WhatsAppSession({
    accountId: 'not-messages',
    profileDir: join(sandbox.dir, 'session-not-messages'),
    chromiumPath,
    network: { kind: 'sandbox', host: '127.0.0.1', port: sandbox.server.port, spki: sandbox.server.spki },
    pairWithPhoneNumber: null,
    deadlines: { launchMs: 20_000, loadMs: 20_000, syncMs: 20_000 },
    canStart: () => true,
    onWarning: (text) => warnings.push(text),
  });
  let qr: string | null = null;
  session.on('qr', (code) => (qr = code));
  session.on('ready', () => (readyCount += 1));
  session.on('message', (message) => received.push(message));
  session.on('change', (change) => changes.push(change));
  await session.start();
  phone = await sandbox.phone();
  await sandbox.call('POST', `/phones/${phone}/scan`, { qr: await until('the QR code', () => qr) });
  await until('ready', () => readyCount === 1);
}, 60_000);

afterEach(async () => {
  await sandbox.call('DELETE', '/faults');
  [received, changes, warnings] = [[], [], []];
});
afterAll(async () => {
  await session?.stop({ finishSendsMs: 0, closeMs: 0 });
  await sandbox?.stop();
}, 30_000);

/** Sends something from a phone. @returns its WhatsApp id */
async function post(from: string, body: object): Promise<string> {
  const { status, body: entry } = await sandbox.call<LedgerEntry>('POST', `/phones/${from}/messages`, {
    to: phone,
    ...body,
  });
  expect(status, JSON.stringify(entry)).toBe(201);
  return entry.whatsappId;
}

const receivedAs = (whatsappId: string) =>
  until(`the message ${whatsappId}`, () => received.find((message) => message.whatsappId === whatsappId));

/** What came before is here when this has come. */
async function marker(from: string): Promise<void> {
  await receivedAs(await post(from, { text: 'the last' }));
}

async function reload(): Promise<void> {
  const before = readyCount;
  await session['page'].reload();
  await until('ready again', () => readyCount > before);
}

/** Evaluates an expression over the collections of the page. */
const inPage = (expression: string) =>
  session['page'].evaluate(
    `(({ Chat, GroupMetadata, Msg }) => (${expression}))(window.require('WAWebCollections'))`,
  );

let count = 0;

async function send(to: string, text: string): Promise<string> {
  count += 1;
  const whatsappId = `3EB0CCCCCC${String(count).padStart(12, '0')}`;
  const request: PageSend = {
    chatId: `${to}@c.us`,
    content: { type: 'text', text },
    quoted: null,
    mentions: [],
    whatsappId,
    searchStorage: false,
    lookOnly: false,
    mayResend: false,
    timeoutMs: 5_000,
    typingMs: 0,
    checkNumber: false,
  };
  expect(await session.send(request)).toMatchObject({ outcome: 'known' });
  return whatsappId;
}

describe('stories and posts of channels', { timeout: 60_000 }, () => {
  it('say where they come from, open no chat, and are not caught up unless somebody wants them', async () => {
    const friend = await sandbox.phone();
    const { body: group } = await sandbox.call<{ id: string }>('POST', '/groups', {
      owner: friend,
      subject: 'Theirs',
      participants: [phone],
    });
    const media = { data: files.png.toString('base64'), mimetype: 'image/png' };
    const story = await post(friend, { as: 'story', type: 'image', text: 'my day', media });
    const inGroup = await post(friend, { as: 'story', to: group.id, text: 'our day' });
    const channel = await post(friend, { as: 'channel', text: 'news' });
    expect(await receivedAs(story)).toMatchObject({
      source: 'stories',
      chatId: 'status@broadcast',
      from: `${friend}@c.us`,
      text: 'my day',
    });
    expect(await receivedAs(inGroup)).toMatchObject({ source: 'stories', chatId: 'status@broadcast' });
    expect(await receivedAs(channel)).toMatchObject({
      source: 'channels',
      chatId: `${friend}@newsletter`,
      from: `${friend}@newsletter`,
    });
    await marker(friend);
    expect(received.at(-1)).toMatchObject({ source: null, chatId: `${friend}@c.us` });

    const chats = session.chats(10_000);
    const ids = (await chats.chats(100, null)).map(({ id }) => id);
    expect(ids.sort()).toEqual([group.id, `${friend}@c.us`].sort());
    const { items } = await chats.history(group.id, 10, null);
    expect(items.map(({ whatsappId }) => whatsappId)).not.toContain(inGroup);

    const held = async (...sources: ('stories' | 'channels')[]) =>
      (await session.messages.recentMessages(100, sources)).map(({ whatsappId }) => whatsappId);
    expect(await held()).toEqual([received.at(-1)!.whatsappId]);
    expect(await held('stories')).toEqual([story, inGroup, received.at(-1)!.whatsappId]);
    expect(await held('stories', 'channels')).toContain(channel);

    const target = { chatId: 'status@broadcast', whatsappId: story, fromMe: false, author: null };
    const path = join(sandbox.dir, 'story');
    expect(await session.messages.downloadMedia(target, path, 100_000, 5_000)).toMatchObject({
      outcome: 'fetched',
    });
    expect((await readFile(path)).equals(files.png)).toBe(true);
    expect(await session.act(target, { kind: 'react', emoji: '👍' })).toEqual({ outcome: 'not_found' });
  });
});

describe('the notice at a new chat', { timeout: 60_000 }, () => {
  it('is no message', async () => {
    const stranger = await sandbox.phone();
    const id = await send(stranger, 'hello');
    const noticed = await inPage(
      `Msg.filter(({ id, type }) => type === 'e2e_notification' && String(id.remote) === '${stranger}@c.us').length`,
    );
    expect(noticed).toBe(1);
    await marker(await sandbox.phone());
    expect(received.map(({ text }) => text)).toEqual(['the last']);
    const { items } = await session.chats(10_000).history(`${stranger}@c.us`, 10, null);
    expect(items.map(({ whatsappId }) => whatsappId)).toEqual([id]);
  });
});

describe('a message that is decrypted late', { timeout: 60_000 }, () => {
  it('comes as the message and never as an edit, also after a reload of the page', async () => {
    const friend = await sandbox.phone();
    const contacts = [{ name: 'Siti', vcard: 'BEGIN:VCARD\nFN:Siti\nEND:VCARD' }];
    for (const isReloaded of [false, true]) {
      const text = await post(friend, { text: 'at last', isUndecrypted: true });
      const card = await post(friend, { type: 'contact', contacts, isUndecrypted: true });
      await marker(friend);
      expect(received.map((message) => message.text)).toEqual(['the last']);
      if (isReloaded) await reload();
      const held = (await session.messages.recentMessages(100)).map(({ whatsappId }) => whatsappId);
      expect(held).not.toContain(text);
      for (const id of [text, card])
        expect((await sandbox.call('POST', `/phones/${phone}/messages/${id}/decrypt`)).status).toBe(200);
      expect(await receivedAs(text)).toMatchObject({ type: 'chat', text: 'at last' });
      expect(await receivedAs(card)).toMatchObject({ type: 'vcard', text: '', vcards: [contacts[0]!.vcard] });
      await marker(friend);
      expect(changes).toEqual([]);
      expect((await session.messages.recentMessages(100)).map(({ whatsappId }) => whatsappId)).toContain(
        text,
      );
      received = [];
    }
  });
});

describe('a message that is not decrypted', { timeout: 60_000 }, () => {
  it('is reported, after the library has waited for it', async () => {
    const friend = await sandbox.phone();
    const id = await post(friend, { text: 'never read', isUndecrypted: true });
    await marker(friend);
    // The library waits for 15 s before it calls this function.
    await inPage(`window.onCiphertextFailedEvent(Msg.filter(({ id }) => id.id === '${id}')[0])`);
    await until('the warning', () =>
      warnings.some((text) => text.includes(`cannot decrypt the message ${id}`)),
    );
  });
});

describe('a document without a caption', { timeout: 60_000 }, () => {
  it('has no text, although the page shows its file name as one', async () => {
    const friend = await sandbox.phone();
    const media = { data: files.pdf.toString('base64'), mimetype: 'application/pdf', filename: 'bill.pdf' };
    const bare = await receivedAs(await post(friend, { type: 'document', media }));
    expect(bare).toMatchObject({ text: '', media: { filename: 'bill.pdf' } });
    const named = await receivedAs(await post(friend, { type: 'document', media, text: 'bill.pdf' }));
    expect(named.text).toBe('bill.pdf');
    const { items } = await session.chats(10_000).history(`${friend}@c.us`, 10, null);
    expect(items.map(({ text }) => text)).toEqual(['bill.pdf', null]);
  });
});

describe.each([true, false])(
  'a revoked message, whose old key the page names: %s',
  { timeout: 60_000 },
  (named) => {
    it('is known by its old id, to who revokes it and to who hears of it', async () => {
      const friend = await sandbox.phone();
      await sandbox.call('PUT', '/faults', { revokedNamesOldKey: named });
      const ours = await send(friend, 'ours');
      const theirs = await post(friend, { text: 'theirs' });
      await receivedAs(theirs);
      const target = { chatId: `${friend}@c.us`, whatsappId: ours, fromMe: true, author: null };
      expect(await session.act(target, { kind: 'revoke' })).toMatchObject({ outcome: 'done' });
      await sandbox.call('DELETE', `/phones/${friend}/messages/${theirs}`);
      await until('both', () =>
        [ours, theirs].every((id) =>
          changes.some(({ kind, whatsappId }) => kind === 'revoked' && whatsappId === id),
        ),
      );
      expect(changes.every(({ kind }) => kind === 'revoked')).toBe(true);
      // Nobody knows whether a revocation was made before a crash: it may be asked for again.
      expect(await session.act(target, { kind: 'revoke' })).toMatchObject({ outcome: 'done' });
      const revocations = (await sandbox.ledger()).filter(
        ({ type, whatsappId }) => type === 'revoke' && whatsappId === ours,
      );
      expect(revocations).toHaveLength(1);
    });
  },
);

describe('a revoked message', { timeout: 60_000 }, () => {
  it('is known by its old id after a reload of the page', async () => {
    const friend = await sandbox.phone();
    const ours = await send(friend, 'ours');
    const target = { chatId: `${friend}@c.us`, whatsappId: ours, fromMe: true, author: null };
    expect(await session.act(target, { kind: 'revoke' })).toMatchObject({ outcome: 'done' });
    await until('its change is stored', () => changes.length > 0);
    await reload();
    expect(await session.act(target, { kind: 'revoke' })).toMatchObject({ outcome: 'done' });
    expect(await session.messages.recentChanges(Date.now() - 60_000, 100)).toContainEqual(
      expect.objectContaining({ kind: 'revoked', whatsappId: ours }),
    );
    const { items } = await session.chats(10_000).history(`${friend}@c.us`, 10, null);
    expect(items).toMatchObject([{ whatsappId: ours, type: 'revoked' }]);
  });
});

describe('a group that the account has left while it was away', { timeout: 60_000 }, () => {
  it('is no group of the account, although the page keeps its old members', async () => {
    const owner = await sandbox.phone();
    const { body: group } = await sandbox.call<{ id: string }>('POST', '/groups', {
      owner,
      subject: 'Left',
      participants: [phone],
    });
    const ids = async () => (await session.chats(10_000).groups(100, null)).map(({ id }) => id);
    await until('the group', async () => (await ids()).includes(group.id));
    // The page hears only of the group's chat that it is read-only.
    await inPage(`Chat.get('${group.id}').set({ isReadOnly: true }), GroupMetadata.update('${group.id}')`);
    expect(await inPage(`Chat.get('${group.id}').groupMetadata.participants.iAmMember()`)).toBe(true);
    expect(await ids()).not.toContain(group.id);
  });
});

describe('a chat or a message that the page cannot read', { timeout: 60_000 }, () => {
  it('does not cost the others, and is reported', async () => {
    const [broken, whole] = [await sandbox.phone(), await sandbox.phone()];
    for (const friend of [broken, whole]) await marker(friend);
    const fails = `{ get() { throw new Error('broken by the test'); } }`;
    await inPage(`void Object.defineProperty(Chat.get('${broken}@c.us'), 'formattedTitle', ${fails})`);
    const isBroken = `({ id, type }) => type === 'chat' && String(id.remote) === '${broken}@c.us'`;
    await inPage(`void Object.defineProperty(Msg.filter(${isBroken})[0], 'body', ${fails})`);
    const ids = (await session.chats(10_000).chats(100, null)).map(({ id }) => id);
    expect(ids).toContain(`${whole}@c.us`);
    expect(ids).not.toContain(`${broken}@c.us`);
    const held = (await session.messages.recentMessages(100)).map(({ chatId }) => chatId);
    expect(held).toContain(`${whole}@c.us`);
    expect(held).not.toContain(`${broken}@c.us`);
    const [unread, read] = [await send(broken, 'unread'), await send(whole, 'read')];
    const isUnread = `({ id }) => id.id === '${unread}'`;
    await inPage(`void Object.defineProperty(Msg.filter(${isUnread})[0], 'ack', ${fails})`);
    const acks = await session.messages.acksOf([
      { chatId: `${broken}@c.us`, whatsappId: unread },
      { chatId: `${whole}@c.us`, whatsappId: read },
    ]);
    expect(acks.map(({ whatsappId }) => whatsappId)).toEqual([read]);
    await until('the warnings', () => warnings.length === 3);
    expect(warnings).toEqual([
      expect.stringContaining('1 of the chats could not be read: Error: broken by the test'),
      expect.stringContaining('1 of the messages could not be read'),
      expect.stringContaining('1 of the acks could not be read'),
    ]);
    await reload();
  });
});
