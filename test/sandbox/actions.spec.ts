import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Message, Reaction } from 'whatsapp-web.js';
import { type Account, SandboxHarness, until } from './sandbox.harness.js';

let sandbox: SandboxHarness;
let account: Account;
const edits: { id: string; text: string }[] = [];
const revocations: string[] = [];
const reactions: Reaction[] = [];

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  account = await sandbox.linked();
  listen(account);
}, 60_000);

afterEach(async () => {
  await sandbox.call('DELETE', '/faults');
});

afterAll(async () => {
  await sandbox.stop();
}, 30_000);

function listen({ client }: Account): void {
  client.on('message_edit', (message, text) => edits.push({ id: message.id.id, text: String(text) }));
  client.on('message_revoke_everyone', (message) => {
    // A revoked message has a new id.
    const { protocolMessageKey } = message as Message & { protocolMessageKey?: { id: string } };
    revocations.push((protocolMessageKey ?? message.id).id);
  });
  client.on('message_reaction', (reaction) => reactions.push(reaction));
}

const actions = async () =>
  (await sandbox.ledger())
    .filter(({ type }) => type !== 'text')
    .map(({ from, to, type, whatsappId, text, duplicate }) => ({
      from,
      to,
      type,
      whatsappId,
      text,
      duplicate,
    }));

/** Asks the control API to do something to a message as a phone's owner. */
const asOwner = (method: string, phone: string, id: string, body?: object) =>
  sandbox.call<{ message?: string }>(
    method,
    `/phones/${phone}/messages/${id}${method === 'POST' ? '/reaction' : ''}`,
    body,
  );

describe('what whatsapp-web.js does to a message', { timeout: 60_000 }, () => {
  it('reaches its recipient and the ledger, once however often it is done', async () => {
    const friend = await sandbox.phone();
    const message = await account.send(friend, 'first words');
    const id = message.id.id;
    await message.react('👍');
    await message.react('👍');
    await message.react('🎉');
    expect((await message.edit('better words'))?.body).toBe('better words');
    const line = { from: account.phone, to: friend, whatsappId: id };
    expect(await actions()).toEqual([
      { ...line, type: 'reaction', text: '👍', duplicate: false },
      { ...line, type: 'reaction', text: '👍', duplicate: true },
      { ...line, type: 'reaction', text: '🎉', duplicate: false },
      { ...line, type: 'edit', text: 'better words', duplicate: false },
    ]);
    expect(await sandbox.inbox(friend)).toMatchObject([
      { text: 'better words', edited: true, reactions: [{ from: account.phone, emoji: '🎉' }] },
    ]);
    await message.react('');
    await message.delete(true);
    expect(await sandbox.inbox(friend)).toMatchObject([{ text: '', revoked: true, reactions: [] }]);
    expect(await until('the event', () => revocations.includes(id))).toBe(true);
    expect(edits.filter((edit) => edit.id === id)).toEqual([{ id, text: 'better words' }]);
  });

  it('is refused when it is too late, as WhatsApp refuses it', async () => {
    const friend = await sandbox.phone();
    await sandbox.call('PUT', '/faults', { editWindowMs: 1, revokeWindowMs: 1 });
    const message = await account.send(friend, 'too late');
    expect(await message.edit('later')).toBeNull();
    // Without the right to revoke, the library deletes the message here only.
    await message.delete(true);
    expect(await message.reload()).toBeNull();
    expect(await sandbox.inbox(friend)).toEqual([expect.objectContaining({ text: 'too late' })]);
  });
});

describe('what a phone’s owner does to a message', { timeout: 60_000 }, () => {
  let friend: string;
  let theirs: Message;
  let ours: Message;

  it('reaches linked browsers: a reaction, an edit, a revocation', async () => {
    friend = await sandbox.phone('Dewi');
    ours = await account.send(friend, 'ours');
    await sandbox.call('POST', `/phones/${friend}/messages`, { to: account.phone, text: 'theirs' });
    theirs = await until('the message', () => account.received.find(({ body }) => body === 'theirs'));

    expect((await asOwner('POST', friend, ours.id.id, { emoji: '❤️' })).status).toBe(200);
    const reaction = await until('the reaction', () =>
      reactions.find(({ senderId }) => senderId === `${friend}@c.us`),
    );
    expect(reaction).toMatchObject({ reaction: '❤️', msgId: { id: ours.id.id } });

    expect((await asOwner('PATCH', friend, theirs.id.id, { text: 'theirs, corrected' })).status).toBe(200);
    await until('the edit', () => edits.find(({ text }) => text === 'theirs, corrected'));
    expect((await asOwner('DELETE', friend, theirs.id.id)).status).toBe(200);
    await until('the revocation', () => revocations.includes(theirs.id.id));
  });

  it('may do it to messages of its own only, and in time', async () => {
    expect((await asOwner('PATCH', friend, ours.id.id, { text: 'mine' })).body.message).toContain(
      'Only its sender',
    );
    expect((await asOwner('DELETE', friend, ours.id.id)).status).toBe(409);
    expect((await asOwner('DELETE', friend, 'NOSUCHID')).status).toBe(404);
    expect((await asOwner('POST', friend, ours.id.id, { emoji: 7 })).status).toBe(400);
    await sandbox.call('PUT', '/faults', { editWindowMs: 1, revokeWindowMs: 1 });
    expect((await asOwner('PATCH', account.phone, ours.id.id, { text: 'late' })).status).toBe(409);
    expect((await asOwner('DELETE', account.phone, ours.id.id)).status).toBe(409);
  });

  it('is still there after the browser was killed, and what came meanwhile is caught up', async () => {
    await until('everything is confirmed', async () => (await sandbox.stats()).offlineQueued === 0);
    await account.kill();
    await asOwner('PATCH', account.phone, ours.id.id, { text: 'ours, from the phone' });
    const restored = sandbox.account(account.profile.split('/').at(-1));
    void restored.open();
    await restored.ready();
    const kept = await restored.client.getMessageById(ours.id._serialized);
    expect(kept).toMatchObject({ body: 'ours, from the phone', hasReaction: true });
    expect(kept.latestEditSenderTimestampMs).toBeGreaterThan(0);
    const [group] = await kept.getReactions();
    expect(group).toMatchObject({ aggregateEmoji: '❤️', senders: [{ senderId: `${friend}@c.us` }] });
    expect(await restored.client.getMessageById(theirs.id._serialized)).toBeNull();
    const chat = await restored.client.getChatById(`${friend}@c.us`);
    expect((await chat.fetchMessages({ limit: 10 })).at(-1)).toMatchObject({ type: 'revoked' });
    account = restored;
    listen(account);
  });

  it('survives a restart of the sandbox', async () => {
    const before = await sandbox.inbox(friend);
    expect(before).toMatchObject([{ text: 'ours, from the phone', edited: true }]);
    await sandbox.shutDown();
    await sandbox.boot();
    expect(await sandbox.inbox(friend)).toEqual(before);
    expect((await sandbox.stats()).actions).toBeGreaterThan(0);
  });
});

describe('typing', { timeout: 60_000 }, () => {
  it('is counted', async () => {
    const friend = await sandbox.phone();
    const { typing = 0 } = await sandbox.stats();
    const chat = await account.client.getChatById(`${friend}@c.us`);
    await chat.sendStateTyping();
    await chat.clearState();
    await until('the count', async () => (await sandbox.stats()).typing === typing + 1);
  });
});

describe('the faults', { timeout: 60_000 }, () => {
  it('silent: the page stays connected, and takes and tells nothing until it connects again', async () => {
    const friend = await sandbox.phone();
    await account.send(friend, 'heard');
    const { duplicates } = await sandbox.stats();
    await sandbox.call('PUT', '/faults', { silent: true, phone: account.phone });
    const sending = account.send(friend, 'unheard');
    await sandbox.call('POST', `/phones/${friend}/messages`, { to: account.phone, text: 'are you there' });
    const other = await sandbox.linked();
    expect((await other.send(friend, 'from another')).ack).toBeGreaterThanOrEqual(1);
    expect((await sandbox.inbox(friend)).map(({ text }) => text)).toEqual(['heard', 'from another']);
    expect(await account.client.getState()).toBe('CONNECTED');
    expect(account.received.some(({ body }) => body === 'are you there')).toBe(false);

    await account.client.pupPage?.evaluate(`window.require('WAWebSocketModel').Socket.reconnect()`);
    await sending;
    await until('the message', () => account.received.some(({ body }) => body === 'are you there'));
    expect((await sandbox.inbox(friend)).map(({ text }) => text)).toEqual([
      'heard',
      'from another',
      'unheard',
    ]);
    expect((await sandbox.stats()).duplicates).toBe(duplicates);
    await other.close();
  });

  it('silent, taken back: what was kept from the page is told', async () => {
    const friend = await sandbox.phone();
    await sandbox.call('PUT', '/faults', { silent: true, phone: account.phone });
    await sandbox.call('POST', `/phones/${friend}/messages`, { to: account.phone, text: 'kept back' });
    await sandbox.call('DELETE', '/faults');
    await until('the message', () => account.received.some(({ body }) => body === 'kept back'));
  });

  it('doubleIncoming: the library tells of a message twice, under one id', async () => {
    const friend = await sandbox.phone();
    await sandbox.call('PUT', '/faults', { doubleIncoming: true });
    await sandbox.call('POST', `/phones/${friend}/messages`, { to: account.phone, text: 'twice' });
    const twice = () => account.received.filter(({ body }) => body === 'twice');
    await until('both', () => twice().length === 2);
    expect(new Set(twice().map(({ id }) => id.id)).size).toBe(1);
    expect((await sandbox.ledger()).filter(({ text }) => text === 'twice')).toHaveLength(1);
  });

  it('reloadBeforeSendRate: the page goes away before anybody has the message, once', async () => {
    const friend = await sandbox.phone();
    await sandbox.call('PUT', '/faults', { reloadBeforeSendRate: 1, phone: account.phone });
    const ready = account.readyCount;
    await fixId('3EB0BEF0BEF0BEF0BEF0');
    await expect(account.send(friend, 'before')).rejects.toThrow();
    await account.ready(ready + 1);
    expect(await sandbox.inbox(friend)).toEqual([]);
    await fixId('3EB0BEF0BEF0BEF0BEF0');
    await account.send(friend, 'before');
    expect(await sandbox.inbox(friend)).toHaveLength(1);
  });

  it('reloadAfterSendRate: the page goes away when the server has the message, before it sees the ack', async () => {
    const friend = await sandbox.phone();
    await sandbox.call('PUT', '/faults', { reloadAfterSendRate: 1, phone: account.phone });
    const ready = account.readyCount;
    await expect(account.send(friend, 'after')).rejects.toThrow();
    await account.ready(ready + 1);
    const lines = (await sandbox.ledger()).filter(({ text }) => text === 'after');
    expect(lines).toMatchObject([{ to: friend, duplicate: false }]);
    const kept = await account.client.getMessageById(`true_${friend}@c.us_${lines[0]!.whatsappId}`);
    expect(kept.ack).toBeGreaterThanOrEqual(1);
  });
});

/** The id of the next message. */
async function fixId(id: string): Promise<void> {
  await account.client.pupPage?.evaluate(
    `window.require('WAWebMsgKey').newId = async () => ${JSON.stringify(id)}`,
  );
}
