import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import wwebjs, { type Chat, type GroupChat, type Message } from 'whatsapp-web.js';
import { files } from './media-files.js';
import { type Account, SandboxHarness, until } from './sandbox.harness.js';

/* What an account does to messages for itself, who has got a message, and the values of messages, through the bare library. */

let sandbox: SandboxHarness;
let account: Account;
let friend: string;
const uploaded: string[] = [];
const deleted: string[] = [];
const removedChats: string[] = [];

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  account = await sandbox.linked();
  friend = await sandbox.phone('Dewi');
  listen(account);
}, 60_000);

afterEach(async () => {
  await sandbox.call('DELETE', '/faults');
});

afterAll(async () => {
  await sandbox?.stop();
}, 30_000);

function listen({ client }: Account): void {
  client.on('media_uploaded', (message) => uploaded.push(message.id.id));
  client.on('message_revoke_me', (message) => deleted.push(message.id.id));
  client.on('chat_removed', (chat) => removedChats.push((chat as Chat).id._serialized));
}

/** What the friend writes, as the account gets it. */
async function incoming(message: object, from = friend): Promise<Message> {
  const { status, body } = await sandbox.call<{ whatsappId: string }>('POST', `/phones/${from}/messages`, {
    to: account.phone,
    ...message,
  });
  expect(status, JSON.stringify(body)).toBe(201);
  return until('the message', () => account.received.find(({ id }) => id.id === body.whatsappId));
}

/** The last message that the friend's phone has. */
const arrived = async () => (await sandbox.inbox(friend)).at(-1)!;
const chatWith = (phone: string) => account.client.getChatById(`${phone}@c.us`);
const textsIn = async (chat: Chat) => (await chat.fetchMessages({ limit: 100 })).map(({ body }) => body);
const fresh = (message: Message) => account.client.getMessageById(message.id._serialized);

/** Closes the browser and opens it again with the same profile. */
async function restart(): Promise<void> {
  const name = account.profile.split('/').at(-1)!;
  await until('everything is stored', async () => (await sandbox.stats()).offlineQueued === 0);
  await account.close();
  account = sandbox.account(name);
  listen(account);
  void account.open();
  await account.ready();
}

describe('a star', { timeout: 60_000 }, () => {
  it('stays until it is taken away, also after a restart, and no notice or revoked message gets one', async () => {
    const [mine, theirs] = [await account.send(friend, 'starred'), await incoming({ text: 'also starred' })];
    await mine.star();
    await theirs.star();
    await restart();
    expect((await fresh(mine)).isStarred).toBe(true);
    await (await fresh(theirs)).unstar();
    expect((await fresh(theirs)).isStarred).toBe(false);
    const gone = await account.send(friend, 'revoked soon');
    await gone.delete(true);
    // A revoked message has a new key.
    const canStar = `(() => {
      const { Msg } = window.require('WAWebCollections');
      const revoked = Msg.getModelsArray().find(({ type }) => type === 'revoked');
      return window.require('WAWebMsgActionCapability').canStarMsg(revoked);
    })()`;
    expect(await account.client.pupPage!.evaluate(canStar)).toBe(false);
  });
});

describe('deleting', { timeout: 60_000 }, () => {
  it('takes a message away here only, and the chat ends with the one before', async () => {
    const person = await sandbox.phone();
    const kept = await account.send(person, 'kept');
    const message = await account.send(person, 'deleted here');
    await message.delete();
    await until('the event', () => deleted.includes(message.id.id));
    expect(await message.reload()).toBeNull();
    expect((await chatWith(person)).lastMessage.id._serialized).toBe(kept.id._serialized);
    expect((await sandbox.inbox(person)).map(({ text }) => text)).toEqual(['kept', 'deleted here']);
    await restart();
    expect(await textsIn(await chatWith(person))).toEqual(['kept']);
  });

  it('of a message that waits keeps it from being sent', async () => {
    const person = await sandbox.phone();
    await account.send(person, 'first');
    await sandbox.call('PUT', '/faults', { phone: account.phone, offline: true });
    await until('no connection', async () => (await sandbox.stats()).online === 0);
    const message = await account.client.sendMessage(`${person}@c.us`, 'never sent');
    await message.delete();
    await sandbox.call('DELETE', '/faults');
    await until('the connection', async () => (await sandbox.stats()).online === 1);
    await account.send(person, 'last');
    expect((await sandbox.inbox(person)).map(({ text }) => text)).toEqual(['first', 'last']);
  });

  it('clears a chat, and removes one with all that it has on the disk', async () => {
    const person = await sandbox.phone();
    for (const text of ['one', 'two']) await account.send(person, text);
    await incoming({ text: 'three' }, person);
    const chat = await chatWith(person);
    expect(await textsIn(chat)).toEqual(['one', 'two', 'three']);
    expect(await chat.clearMessages()).toBe(true);
    expect(await textsIn(await chatWith(person))).toEqual([]);

    await account.send(person, 'four');
    await chat.archive();
    expect(await (await chatWith(person)).delete()).toBe(true);
    // The library looks the removed chat up for this event, and so makes a new one.
    await until('the event', () => removedChats.includes(`${person}@c.us`));
    await restart();
    const again = await chatWith(person);
    expect(again.archived).toBe(false);
    expect(await textsIn(again)).toEqual([]);
    expect(await account.client.searchMessages('four')).toEqual([]);
  });
});

describe('the info of a message', { timeout: 60_000 }, () => {
  it('says when the person got it and read it', async () => {
    await sandbox.call('PUT', '/faults', { readAcks: false });
    const message = await account.send(friend, 'delivered');
    await until('delivery', () => account.acksOf(message.id.id).includes(2));
    const id = expect.objectContaining({ _serialized: `${friend}@c.us` });
    const receipt = { id, t: expect.any(Number) };
    expect(await message.getInfo()).toMatchObject({ delivery: [receipt], read: [], readRemaining: 1 });
    await sandbox.call('DELETE', '/faults');
    const other = await account.send(friend, 'read');
    await until('reading', () => account.acksOf(other.id.id).includes(3));
    await restart();
    const info = (await (await fresh(other)).getInfo())!;
    expect(info).toMatchObject({ delivery: [receipt], read: [receipt], readRemaining: 0, played: [] });
    expect(Math.abs(info.read[0]!.t - other.timestamp)).toBeLessThan(60);
  });

  it('in a group names each member once; the message has got as far as the last of them', async () => {
    const [reader, getter, absent] = [await sandbox.phone(), await sandbox.phone(), await sandbox.phone()];
    await sandbox.call('PUT', '/faults', { phone: getter, readAcks: false });
    const { body: group } = await sandbox.call<{ id: string }>('POST', '/groups', {
      owner: account.phone,
      subject: 'Readers',
      participants: [reader, getter],
    });
    const chat = await until('the group', () => account.client.getChatById(group.id).catch(() => null));
    const message = await chat.sendMessage('all of you');
    const lid = (phone: string) =>
      expect.objectContaining({ _serialized: `1${[...phone].reverse().join('')}@lid` });
    const infoOf = async () => (await message.getInfo())!;
    await until('both receipts', async () => {
      const { read, delivery } = await infoOf();
      return read.length === 1 && delivery.length === 1;
    });
    expect(await infoOf()).toMatchObject({
      read: [{ id: lid(reader) }],
      delivery: [{ id: lid(getter) }],
      readRemaining: 1,
      deliveryRemaining: 0,
    });
    expect(account.acksOf(message.id.id)).toEqual([1, 2]);

    await sandbox.call('PUT', '/faults', { phone: absent, deliverAcks: false });
    await (chat as GroupChat).addParticipants([`${absent}@c.us`], { sleep: 0 });
    const second = await chat.sendMessage('and you');
    await until('the receipts', async () => (await second.getInfo())!.read.length === 1);
    expect(await second.getInfo()).toMatchObject({ deliveryRemaining: 1 });
    expect(account.acksOf(second.id.id)).toEqual([1]);
  });
});

describe('a message', { timeout: 60_000 }, () => {
  const media = (bytes: Buffer, mimetype: string, name?: string) =>
    new wwebjs.MessageMedia(mimetype, bytes.toString('base64'), name);
  const send = (content: wwebjs.MessageContent, options: wwebjs.MessageSendOptions = {}) =>
    account.client.sendMessage(`${friend}@c.us`, content, { waitUntilMsgSent: true, ...options });

  it('with a document shows the name of the file in the place of a caption, and links of the caption', async () => {
    const pdf = media(files.pdf, 'application/pdf', 'invoice.pdf');
    expect((await send(pdf)).body).toBe('invoice.pdf');
    expect(await arrived()).toMatchObject({ type: 'document', text: '' });
    const message = await send(pdf, { caption: 'pay at https://example.com/pay' });
    expect(message.links).toEqual([{ link: 'https://example.com/pay', isSuspicious: false }]);
    expect(await arrived()).toMatchObject({ text: 'pay at https://example.com/pay' });
    expect(await message.edit('paid')).toMatchObject({ body: 'paid' });
    const data = { data: files.pdf.toString('base64'), mimetype: 'application/pdf', filename: 'theirs.pdf' };
    expect((await incoming({ type: 'document', media: data })).body).toBe('theirs.pdf');
  });

  it('with media tells once that the server has it', async () => {
    await sandbox.call('PUT', '/faults', { ackDelayMs: 300 });
    const message = await account.client.sendMessage(`${friend}@c.us`, media(files.png, 'image/png'));
    expect(uploaded).not.toContain(message.id.id);
    await until('the event', () => uploaded.includes(message.id.id));
    await until('the receipts', () => account.acksOf(message.id.id).includes(2));
    expect(uploaded.filter((id) => id === message.id.id)).toHaveLength(1);
  });

  it('keeps what it is: to be seen once, a GIF, its secret; here, there, and after a restart', async () => {
    const video = media(files.mp4, 'video/mp4');
    const sent = [await send(video, { isViewOnce: true }), await send(video, { sendVideoAsGif: true })];
    const secret = Array.from({ length: 32 }, (_, i) => i);
    const options: wwebjs.PollSendOptions = { allowMultipleAnswers: false, messageSecret: secret };
    const poll = await send(new wwebjs.Poll('When?', ['A', 'B'], options));
    expect((await sandbox.inbox(friend)).slice(-3)).toMatchObject([
      { type: 'video', viewOnce: true },
      { type: 'video', gif: true },
      { type: 'poll', secret: Buffer.from(secret).toString('base64') },
    ]);
    const look = async () => {
      const [once, gif] = [await fresh(sent[0]!), await fresh(sent[1]!)];
      const { messageSecret } = (await fresh(poll)).rawData as { messageSecret: Record<number, number> };
      return [
        (once.rawData as { isViewOnce?: boolean }).isViewOnce,
        gif.isGif,
        Object.values(messageSecret).join(' '),
      ];
    };
    expect(await look()).toEqual([true, true, secret.join(' ')]);
    await restart();
    expect(await look()).toEqual([true, true, secret.join(' ')]);
    const theirs = { data: files.mp3.toString('base64'), mimetype: 'audio/mpeg' };
    expect((await incoming({ type: 'audio', media: theirs, duration: 7 })).duration).toBe(7);
  });

  it('carries what it answers, also when the reader does not have that', async () => {
    const question = await send('How are you?');
    const answer = await incoming({ text: 'Well', replyTo: question.id.id });
    expect(answer.rawData).toMatchObject({ quotedMsg: { type: 'chat', body: 'How are you?' } });
    const own = await answer.reply('Good');
    expect(await arrived()).toMatchObject({
      replyTo: answer.id.id,
      quoted: { type: 'chat', text: 'Well', from: friend },
    });
    await answer.delete();
    const copy = await (await fresh(own)).getQuotedMessage();
    expect(copy).toMatchObject({ body: 'Well', id: { id: answer.id.id, fromMe: false } });
  });

  it('is found by its words: in its chat, a page at a time, newest first, also on the disk', async () => {
    const person = await sandbox.phone();
    for (const n of [1, 2, 3]) await account.send(person, `Needle ${n}`);
    await account.send(friend, 'another needle');
    await sandbox.call('PUT', '/faults', { messagesInMemory: 1 });
    await account.send(friend, 'pushes the others out');
    const found = async (options: { chatId?: string; page?: number; limit?: number }) =>
      (await account.client.searchMessages('needle', options)).map(({ body }) => body);
    expect(await found({ chatId: `${person}@c.us` })).toEqual(['Needle 3', 'Needle 2', 'Needle 1']);
    expect(await found({ chatId: `${person}@c.us`, limit: 2, page: 2 })).toEqual(['Needle 1']);
    expect(await found({})).toContain('another needle');
  });
});

describe('the loading screen', { timeout: 60_000 }, () => {
  it('rises to 100 percent before the account is ready', async () => {
    await sandbox.call('PUT', '/faults', { syncDelayMs: 2_000 });
    await account.close();
    account = sandbox.account(account.profile.split('/').at(-1)!);
    const percents: number[] = [];
    account.client.on('loading_screen', (percent) => percents.push(Number(percent)));
    let atReady: number[] = [];
    account.client.on('ready', () => (atReady = [...percents]));
    void account.open();
    await account.ready();
    expect(atReady.at(-1)).toBe(100);
    expect(atReady.length).toBeGreaterThan(1);
    expect(atReady).toEqual([...atReady].sort((one, other) => one - other));
  });
});
