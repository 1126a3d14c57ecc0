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
      [`${shy}@c.us`]: { statusCode: 403, isInviteV4Sent: false },
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

  it('sends an invite to who joins by invite only: it is for that phone, works once, and expires', async () => {
    const [shy, stranger] = [await sandbox.phone('Shy'), await sandbox.phone()];
    await sandbox.call('PATCH', `/phones/${shy}`, { joinsByInviteOnly: true });
    const answer = await account.client.createGroup('Quiet choir', [`${shy}@c.us`], {
      comment: 'Join us',
      memberAddMode: true,
      messageTimer: 86_400,
    });
    if (typeof answer === 'string') throw new Error(answer);
    const id = answer.gid._serialized;
    expect(answer.participants[`${shy}@c.us`]).toMatchObject({ statusCode: 403, isInviteV4Sent: true });
    expect(await group(id)).toMatchObject({ adminsAdd: true, ephemeralSeconds: 86_400 });
    const inviteIn = async () => (await sandbox.inbox(shy)).at(-1)!;
    expect(await inviteIn()).toMatchObject({
      type: 'group_invite',
      text: 'Join us',
      invite: { group: id, subject: 'Quiet choir', code: expect.stringMatching(/^.{22}$/) },
    });
    const join = (phone: string, { code }: { code: string }) =>
      sandbox.call<{ message?: string }>('POST', '/groups/join', { phone, group: id, code });
    const first = (await inviteIn()).invite!;
    expect((await join(stranger, first)).body.message).toContain('403');

    // The invite of a second try replaces the first one, and this one has expired.
    await sandbox.call('PUT', '/faults', { inviteLifetimeMs: 0 });
    const chat = (await account.client.getChatById(id)) as GroupChat;
    const add = () => chat.addParticipants([`${shy}@c.us`], { sleep: 0 });
    expect(await add()).toMatchObject({ [`${shy}@c.us`]: { code: 403, isInviteV4Sent: true } });
    expect((await join(shy, first)).body.message).toContain('403');
    expect((await join(shy, (await inviteIn()).invite!)).body.message).toContain('410');

    await sandbox.call('DELETE', '/faults');
    await add();
    const last = (await inviteIn()).invite!;
    expect((await join(shy, last)).status).toBe(200);
    expect((await group(id)).members.map(({ phone }) => phone)).toEqual([account.phone, shy]);
    await sandbox.call('POST', `/groups/${id}/leave`, { phone: shy });
    expect((await join(shy, last)).body.message).toContain('403');
  });

  it('accepts such an invite', async () => {
    const owner = await sandbox.phone();
    await sandbox.call('PATCH', `/phones/${account.phone}`, { joinsByInviteOnly: true });
    const { body: theirs } = await sandbox.call<Group>('POST', '/groups', { owner, subject: 'Theirs' });
    const { body } = await sandbox.call<{ members: { inviteCode: string; inviteExpiresAt: number }[] }>(
      'POST',
      `/groups/${theirs.id}/members`,
      { change: 'add', participants: [account.phone] },
    );
    const { inviteCode: code, inviteExpiresAt: expiresAt } = body.members[0]!;
    await sandbox.call('POST', `/phones/${owner}/messages`, {
      to: account.phone,
      type: 'group_invite',
      invite: { code, expiresAt, group: theirs.id, subject: 'Theirs' },
    });
    const message = await until('the invite', () => account.received.find(({ inviteV4 }) => inviteV4));
    expect(message.inviteV4).toMatchObject({ groupId: theirs.id, fromId: `${owner}@c.us`, inviteCode: code });
    await message.acceptGroupV4Invite();
    expect((await group(theirs.id)).members.map(({ phone }) => phone)).toEqual([owner, account.phone]);
    await sandbox.call('PATCH', `/phones/${account.phone}`, { joinsByInviteOnly: false });
  });

  it('tells somebody with the link what the group is, before joining', async () => {
    const [owner, member] = [await sandbox.phone(), await sandbox.phone()];
    const participants = [member];
    const { body } = await sandbox.call<Group>('POST', '/groups', { owner, subject: 'Theirs', participants });
    await sandbox.call('PATCH', `/groups/${body.id}`, { description: 'Fridays', restrict: true });
    expect(await account.client.getInviteInfo(body.invite)).toMatchObject({
      id: { _serialized: body.id },
      subject: 'Theirs',
      desc: 'Fridays',
      owner: { _serialized: lid(owner) },
      creation: expect.any(Number),
      restrict: true,
      announce: false,
      size: 2,
      isLidAddressingMode: true,
      participants: [
        { id: { _serialized: lid(owner) }, isAdmin: true, isSuperAdmin: true },
        { id: { _serialized: lid(member) }, isAdmin: false, isSuperAdmin: false },
      ],
    });
    await expect(account.client.getInviteInfo('nosuchcode')).rejects.toThrow('410');
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
