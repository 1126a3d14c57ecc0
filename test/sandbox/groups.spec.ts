import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GroupChat, GroupNotification } from 'whatsapp-web.js';
import { type Account, SandboxHarness, until } from './sandbox.harness.js';

let sandbox: SandboxHarness;
let account: Account;
const notices: { event: string; chatId: string; recipients: string[] }[] = [];

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  account = await sandbox.linked();
  listen(account);
}, 60_000);

afterAll(async () => {
  await sandbox.stop();
}, 30_000);

function listen({ client }: Account): void {
  for (const event of ['group_join', 'group_leave', 'group_admin_changed', 'group_update'] as const) {
    client.on(event, (notice: GroupNotification) =>
      notices.push({ event, chatId: notice.chatId, recipients: notice.recipientIds }),
    );
  }
}

interface Group {
  id: string;
  subject: string;
  description: string;
  invite: string;
  members: { phone: string; role: string }[];
}

const group = async (id: string) => (await sandbox.call<Group>('GET', `/groups/${id}`)).body;
const lid = (phone: string) => `1${[...phone].reverse().join('')}@lid`;

async function created(participants: string[]): Promise<GroupChat> {
  const answer = await account.client.createGroup(
    'Choir',
    participants.map((phone) => `${phone}@c.us`),
    { autoSendInviteV4: false },
  );
  if (typeof answer === 'string') throw new Error(answer);
  return (await account.client.getChatById(answer.gid._serialized)) as GroupChat;
}

describe('groups with whatsapp-web.js', { timeout: 60_000 }, () => {
  it('creates one: who is not registered or wants an invite is not in it', async () => {
    const friend = await sandbox.phone('Dewi');
    const shy = await sandbox.phone('Shy');
    await sandbox.call('PATCH', `/phones/${shy}`, { joinsByInviteOnly: true });
    const answer = await account.client.createGroup(
      'Choir',
      [`${friend}@c.us`, `${shy}@c.us`, '6281100000009@c.us'],
      { autoSendInviteV4: false },
    );
    if (typeof answer === 'string') throw new Error(answer);
    expect(answer.participants).toMatchObject({
      [`${friend}@c.us`]: { statusCode: 200 },
      // As in the library, whose comparison with 403 is one of numbers.
      [`${shy}@c.us`]: { statusCode: '403' },
      '6281100000009@c.us': { statusCode: 404 },
    });
    expect(await group(answer.gid._serialized)).toMatchObject({
      subject: 'Choir',
      members: [
        { phone: account.phone, role: 'superadmin' },
        { phone: friend, role: 'member' },
      ],
    });
  });

  it('changes who is in it and what it is called, and tells of it', async () => {
    const [friend, other] = [await sandbox.phone(), await sandbox.phone()];
    const chat = await created([friend]);
    const id = chat.id._serialized;
    expect(chat.participants.map((one) => one.id._serialized).sort()).toEqual(
      [`${account.phone}@c.us`, `${friend}@c.us`].sort(),
    );
    expect(await chat.addParticipants([`${other}@c.us`, `${friend}@c.us`], { sleep: 0 })).toMatchObject({
      [`${other}@c.us`]: { code: 200 },
      [`${friend}@c.us`]: { code: 409 },
    });
    await chat.promoteParticipants([`${friend}@c.us`]);
    await chat.removeParticipants([`${other}@c.us`]);
    expect(await chat.setSubject('Small choir')).toBe(true);
    expect(await chat.setDescription('Mondays')).toBe(true);
    expect(await chat.setMessagesAdminsOnly(true)).toBe(true);
    expect(await group(id)).toMatchObject({
      subject: 'Small choir',
      description: 'Mondays',
      announce: true,
      members: [
        { phone: account.phone, role: 'superadmin' },
        { phone: friend, role: 'admin' },
      ],
    });
    await until('all notices', () => notices.filter(({ chatId }) => chatId === id).length >= 7);
    expect(notices.filter(({ chatId }) => chatId === id)).toEqual([
      { event: 'group_update', chatId: id, recipients: [lid(friend)] },
      { event: 'group_join', chatId: id, recipients: [lid(other)] },
      { event: 'group_admin_changed', chatId: id, recipients: [lid(friend)] },
      { event: 'group_leave', chatId: id, recipients: [lid(other)] },
      ...['subject', 'description', 'announce'].map(() => ({
        event: 'group_update',
        chatId: id,
        recipients: [],
      })),
    ]);
  });

  it('carries messages both ways, once to everybody in it', async () => {
    const [friend, other] = [await sandbox.phone('Dewi'), await sandbox.phone()];
    const chat = await created([friend, other]);
    const id = chat.id._serialized;
    const sent = await account.client.sendMessage(id, 'hello all', { waitUntilMsgSent: true });
    await until('the ack', async () => (await account.client.getMessageById(sent.id._serialized)).ack === 3);
    for (const phone of [friend, other])
      expect(await sandbox.inbox(phone)).toMatchObject([{ from: account.phone, to: id, text: 'hello all' }]);
    await sandbox.call('POST', `/phones/${friend}/messages`, { to: id, text: 'hello you' });
    const received = await until('the answer', () =>
      account.received.find(({ body }) => body === 'hello you'),
    );
    expect(received).toMatchObject({ from: id, author: lid(friend) });
    expect((await received.getContact()).id._serialized).toBe(`${friend}@c.us`);
    await received.react('👍');
    await sandbox.call('POST', `/phones/${other}/messages/${sent.id.id}/reaction`, { emoji: '🎉' });
    const own = await until('the reaction', async () => {
      const now = await account.client.getMessageById(sent.id._serialized);
      return now.hasReaction && now.getReactions();
    });
    expect(own).toMatchObject([{ aggregateEmoji: '🎉', senders: [{ senderId: lid(other) }] }]);
    expect((await sandbox.inbox(other)).find(({ text }) => text === 'hello you')).toMatchObject({
      reactions: [{ from: account.phone, emoji: '👍' }],
    });
    expect((await sandbox.ledger()).filter(({ text, to }) => to === id && text === 'hello all')).toHaveLength(
      1,
    );
  });

  it('lets people in by invite until it is reset, and lets them leave', async () => {
    const [friend, other] = [await sandbox.phone(), await sandbox.phone()];
    const chat = await created([friend]);
    const id = chat.id._serialized;
    const code = String(await chat.getInviteCode());
    expect(code).toHaveLength(22);
    expect((await sandbox.call('POST', '/groups/join', { phone: other, code })).status).toBe(200);
    await chat.revokeInvite();
    const late = await sandbox.phone();
    expect((await sandbox.call('POST', '/groups/join', { phone: late, code })).status).toBe(409);
    expect((await group(id)).members.map(({ phone }) => phone)).toEqual([account.phone, friend, other]);
    await chat.leave();
    // The one who has been in it longest takes over.
    expect((await group(id)).members).toEqual([
      { phone: friend, role: 'admin' },
      { phone: other, role: 'member' },
    ]);
    expect(await chat.setSubject('not mine')).toBe(false);
    expect(
      (await sandbox.call('POST', `/phones/${late}/messages`, { to: id, text: 'let me in' })).status,
    ).toBe(409);
    const { invite } = await group(id);
    expect(await account.client.acceptInvite(invite)).toBe(id);
  });

  it('keeps a number that is hidden to itself', async () => {
    const hidden = await sandbox.phone('Nobody');
    await sandbox.call('PATCH', `/phones/${hidden}`, { hidesNumber: true });
    await sandbox.call('POST', `/phones/${hidden}/messages`, { to: account.phone, text: 'guess who' });
    const message = await until('the message', () =>
      account.received.find(({ body }) => body === 'guess who'),
    );
    expect(message.from).toBe(lid(hidden));
    const [known] = await account.client.getContactLidAndPhone([lid(hidden)]);
    expect(known?.pn).toBeFalsy();
    await message.reply('no idea');
    await until('the answer', async () => (await sandbox.inbox(hidden)).length === 1);
    expect(await sandbox.inbox(hidden)).toMatchObject([{ to: hidden, text: 'no idea' }]);
  });

  it('survives a killed browser and a restarted sandbox, and a change meanwhile is caught up', async () => {
    const friend = await sandbox.phone();
    const chat = await created([friend]);
    const id = chat.id._serialized;
    await account.client.sendMessage(id, 'before', { waitUntilMsgSent: true });
    await until('everything is confirmed', async () => (await sandbox.stats()).offlineQueued === 0);
    await account.kill();
    await sandbox.call('PATCH', `/groups/${id}`, { by: friend, subject: 'Renamed' });
    await sandbox.shutDown();
    await sandbox.boot();
    const restored = sandbox.account(account.profile.split('/').at(-1));
    listen(restored);
    void restored.open();
    await restored.ready();
    const again = (await restored.client.getChatById(id)) as GroupChat;
    expect(again).toMatchObject({ name: 'Renamed', isGroup: true });
    expect(again.participants).toHaveLength(2);
    expect((await again.fetchMessages({ limit: 10 })).map(({ body }) => body)).toEqual(['before']);
    account = restored;
  });
});
