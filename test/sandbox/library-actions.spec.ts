import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GroupChat, GroupNotification, Message } from 'whatsapp-web.js';
import wwebjs from 'whatsapp-web.js';
import { type Account, SandboxHarness, until } from './sandbox.harness.js';
import { files } from './media-files.js';

let sandbox: SandboxHarness;
let account: Account;
let friend: Account;

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  [account, friend] = await Promise.all([sandbox.linked(), sandbox.linked()]);
}, 60_000);

afterAll(async () => {
  await sandbox.stop();
}, 30_000);

const lid = (phone: string) => `1${[...phone].reverse().join('')}@lid`;
const at = (phone: string) => `${phone}@c.us`;

async function created(owner: Account, participants: string[]): Promise<GroupChat> {
  const answer = await owner.client.createGroup('Choir', participants.map(at), { autoSendInviteV4: false });
  if (typeof answer === 'string') throw new Error(answer);
  return (await owner.client.getChatById(answer.gid._serialized)) as GroupChat;
}

/** What the phone of an account has received with this text. */
const inInbox = (phone: string, text: string) =>
  until(`"${text}"`, async () => (await sandbox.inbox(phone)).find((message) => message.text === text));

const received = (by: Account, body: string): Promise<Message> =>
  until(`"${body}"`, () => by.received.find((message) => message.body === body));

describe('requests to join a group', { timeout: 60_000 }, () => {
  it('reach the admins, who let people in or turn them away', async () => {
    const chat = await created(account, []);
    const id = chat.id._serialized;
    const told: GroupNotification[] = [];
    account.client.on('group_membership_request', (notice: GroupNotification) => told.push(notice));
    await sandbox.call('PATCH', `/groups/${id}`, { approval: true });
    const [second, third, fourth] = await Promise.all([sandbox.phone(), sandbox.phone(), sandbox.phone()]);
    const code = String(await chat.getInviteCode());
    // The friend's browser joins by the link, and the others by their phones.
    await friend.client.acceptInvite(code);
    for (const phone of [second, third, fourth])
      expect((await sandbox.call('POST', `/groups/${id}/requests`, { phone })).status).toBe(200);
    await sandbox.call('DELETE', `/groups/${id}/requests/${fourth}`);
    await until('all requests', () => told.length === 4);
    expect(told.map(({ chatId, author }) => ({ chatId, author }))).toEqual(
      [friend.phone, second, third, fourth].map((phone) => ({ chatId: id, author: lid(phone) })),
    );
    expect(await chat.getGroupMembershipRequests()).toMatchObject(
      [friend.phone, second, third].map((phone) => ({
        id: { _serialized: lid(phone) },
        requestMethod: 'InviteLink',
      })),
    );

    expect(
      await chat.rejectGroupMembershipRequests({ requesterIds: [at(third), at(fourth)], sleep: null }),
    ).toEqual([
      { requesterId: at(third), message: 'Rejected successfully' },
      { requesterId: at(fourth), error: 404, message: 'ParticipantRequestNotFoundError' },
    ]);
    // Without names: everybody who asks.
    expect(await chat.approveGroupMembershipRequests({ requesterIds: null, sleep: null })).toMatchObject([
      { message: 'Approved successfully' },
      { message: 'Approved successfully' },
    ]);
    const { body } = await sandbox.call<{ members: { phone: string }[]; requests: unknown[] }>(
      'GET',
      `/groups/${id}`,
    );
    expect(body.members.map(({ phone }) => phone)).toEqual([account.phone, friend.phone, second]);
    expect(body.requests).toEqual([]);
    await until('the chat of the friend', async () =>
      (await friend.client.getChats()).find((one) => one.id._serialized === id),
    );
    // The friend is no admin.
    await expect(friend.client.getGroupMembershipRequests(id)).rejects.toThrow('403');
  });
});

describe('what an account does to messages', { timeout: 60_000 }, () => {
  it('forwards text and media, and the recipient sees how often', async () => {
    const reader = await sandbox.phone();
    const picture = await account.client.sendMessage(
      at(friend.phone),
      new wwebjs.MessageMedia('image/png', files.png.toString('base64'), 'a.png'),
      { caption: 'look', waitUntilMsgSent: true },
    );
    const got = await received(friend, 'look');
    await got.forward(at(account.phone));
    const back = await received(account, 'look');
    expect(back).toMatchObject({ isForwarded: true, forwardingScore: 1, hasMedia: true });
    expect(back.id.id).not.toBe(picture.id.id);
    await back.forward(at(reader));
    const entry = await inInbox(reader, 'look');
    expect(entry).toMatchObject({ type: 'image', forwardingScore: 2 });
    const original = (await sandbox.inbox(friend.phone)).find(({ text }) => text === 'look');
    expect(entry.media?.sha256).toBe(original?.media?.sha256);
  });

  it('votes in a poll of somebody else, and in its own', async () => {
    const poll = new wwebjs.Poll('Lunch?', ['Soup', 'Rice', 'Bread'], {
      allowMultipleAnswers: true,
    } as never);
    const sent = await account.client.sendMessage(at(friend.phone), poll, { waitUntilMsgSent: true });
    const got = await until('the poll', () => friend.received.find(({ id }) => id.id === sent.id.id));
    await (got as Message & { vote(names: string[]): Promise<void> }).vote(['Rice', 'Bread']);
    const options = async () =>
      (await account.client.getPollVotes(sent.id._serialized)).map(({ voter, selectedOptions }) => ({
        voter: (voter as unknown as { _serialized: string })._serialized,
        names: selectedOptions.map((option) => option?.name),
      }));
    await until('the vote', async () => (await options()).length === 1);
    expect(await options()).toEqual([{ voter: at(friend.phone), names: ['Rice', 'Bread'] }]);
    await (sent as Message & { vote(names: string[]): Promise<void> }).vote(['Soup']);
    const inbox = (await sandbox.inbox(friend.phone)) as { whatsappId: string; votes?: object[] }[];
    expect(inbox.find(({ whatsappId }) => whatsappId === sent.id.id)?.votes).toEqual([
      { from: friend.phone, options: ['Rice', 'Bread'] },
      { from: account.phone, options: ['Soup'] },
    ]);
  });

  it('pins messages for everybody in the chat, where that is allowed', async () => {
    const chat = await created(account, [friend.phone]);
    const id = chat.id._serialized;
    const sent = await Promise.all(
      ['one', 'two', 'three', 'four'].map((text) =>
        account.client.sendMessage(id, text, { waitUntilMsgSent: true }),
      ),
    );
    const theirs = await received(friend, 'four');
    for (const message of sent) expect(await message.pin(3600)).toBe(true);
    const pinned = async (by: Account) =>
      (await by.client.getPinnedMessages(id)).map(({ body }) => body).sort();
    // WhatsApp keeps three.
    await until('three pins', async () => (await pinned(friend)).join() === 'four,three,two');
    expect(await pinned(account)).toEqual(['four', 'three', 'two']);
    expect(await theirs.unpin()).toBe(true);
    await until('the end of a pin', async () => (await pinned(account)).join() === 'one,three,two');
    await chat.setInfoAdminsOnly(true);
    expect(await theirs.pin(3600)).toBe(false);
    // A pin of a second is over after a second.
    expect(await sent[3]!.pin(1)).toBe(true);
    expect(await pinned(account)).toContain('four');
    await until('the end of the second', async () => !(await pinned(account)).includes('four'));
  });

  it('plans an event, changes it, and hears who comes', async () => {
    const start = new Date('2026-12-24T18:00:00Z');
    const event = new wwebjs.ScheduledEvent('Party', start, { location: 'Roof', callType: 'video' } as never);
    const sent = await account.client.sendMessage(at(friend.phone), event as never, {
      waitUntilMsgSent: true,
    });
    const got = await received(friend, 'Party');
    const details = ({ rawData }: Message) => rawData as { eventName: string; eventStartTime: number };
    expect(got.type).toBe('event_creation');
    expect(details(got)).toMatchObject({ eventStartTime: start.getTime() / 1000 });
    const respond = (response: number) =>
      (
        friend.client as unknown as {
          sendResponseToScheduledEvent(response: number, id: string): Promise<boolean>;
        }
      ).sendResponseToScheduledEvent(response, got.id._serialized);
    expect(await respond(1)).toBe(true);
    const change = (name: string, isEventCanceled: boolean) =>
      sent.editScheduledEvent(
        new wwebjs.ScheduledEvent(name, start, { callType: 'none', isEventCanceled } as never) as never,
      );
    expect(await change('Big party', false)).toMatchObject({ body: 'Big party' });
    await until('the change', async () => {
      const now = await friend.client.getMessageById(got.id._serialized);
      return details(now).eventName === 'Big party';
    });
    await change('No party', true);
    // A canceled event cannot be changed.
    await expect(change('Again', false)).rejects.toThrow('canceled');
    const inbox = (await sandbox.inbox(friend.phone)) as {
      whatsappId: string;
      event?: object;
      responses?: object[];
    }[];
    expect(inbox.find(({ whatsappId }) => whatsappId === sent.id.id)).toMatchObject({
      event: { name: 'No party', canceled: true },
      responses: [{ from: friend.phone, response: 1 }],
    });
    const link = await account.client.createCallLink(start, 'voice');
    const { body } = await sandbox.call<{ items: object[] }>('GET', '/call-links');
    expect(body.items.at(-1)).toMatchObject({ url: link, by: account.phone, kind: 'voice' });
  });
});

describe('stories', { timeout: 60_000 }, () => {
  it('reach the people who know the account and whom it knows, and go when they are revoked', async () => {
    const [fan, stranger] = [await sandbox.phone(), await sandbox.phone()];
    const save = (owner: string, phone: string) =>
      sandbox.call('PUT', `/phones/${owner}/contacts`, { phone, name: 'Somebody' });
    await save(account.phone, friend.phone);
    await save(friend.phone, account.phone);
    // Of these two, each knows only one side.
    await save(account.phone, stranger);
    await save(fan, account.phone);
    const text = { backgroundColor: '#ff0000', fontStyle: 2 };
    await account.client.sendMessage('status@broadcast', 'good morning', { extra: text });
    const shown = await received(friend, 'good morning');
    expect(shown).toMatchObject({ from: 'status@broadcast', author: at(account.phone), isStatus: true });
    const picture = new wwebjs.MessageMedia('image/png', files.png.toString('base64'), 'a.png');
    const sent = await account.client.sendMessage('status@broadcast', picture, { caption: 'a view' });
    const view = await received(friend, 'a view');
    expect((await view.downloadMedia()).data).toBe(files.png.toString('base64'));
    for (const phone of [fan, stranger]) expect(await sandbox.inbox(phone)).toEqual([]);
    expect((await sandbox.ledger()).filter(({ to }) => to === 'status@broadcast')).toMatchObject([
      { type: 'text', text: 'good morning', style: { color: 0xffff0000, font: 2 } },
      { type: 'image', text: 'a view', recipients: [friend.phone] },
    ]);

    const stories = async (by: Account, of: string) =>
      (await by.client.getBroadcastById(at(of))).msgs?.map(({ body }) => body);
    expect(await stories(account, account.phone)).toEqual(['good morning', 'a view']);
    expect(await stories(friend, account.phone)).toEqual(['good morning', 'a view']);
    expect((await friend.client.getBroadcasts()).map(({ totalCount }) => totalCount)).toEqual([2]);
    // Stories are no chat.
    const chats = (await friend.client.getChats()).map(({ id }) => id._serialized);
    expect(chats).not.toContain('status@broadcast');
    await account.client.revokeStatusMessage(sent.id._serialized);
    await until('the end', async () => (await stories(friend, account.phone))?.join() === 'good morning');
    expect(await stories(account, account.phone)).toEqual(['good morning']);

    await sandbox.call('POST', `/phones/${friend.phone}/stories`, { text: 'good night' });
    expect(await received(account, 'good night')).toMatchObject({ author: at(friend.phone), isStatus: true });
  });
});

describe('people and pictures', { timeout: 60_000 }, () => {
  it('sets and deletes the own picture, and others see it', async () => {
    const picture = new wwebjs.MessageMedia('image/png', files.png.toString('base64'));
    expect(await friend.client.getProfilePicUrl(at(account.phone))).toBeUndefined();
    expect(await account.client.setProfilePicture(picture)).toBe(true);
    expect(await friend.client.getProfilePicUrl(at(account.phone))).toMatch(/\/pictures\/[0-9a-f]{64}$/);
    expect(await account.client.deleteProfilePicture()).toBe(true);
    expect(await friend.client.getProfilePicUrl(at(account.phone))).toBeUndefined();
  });

  it('changes the picture of a group only when it may', async () => {
    const picture = new wwebjs.MessageMedia('image/png', files.png.toString('base64'));
    const chat = await created(account, [friend.phone]);
    const id = chat.id._serialized;
    const theirs = (await until('the chat of the friend', async () =>
      (await friend.client.getChats()).find((one) => one.id._serialized === id),
    )) as GroupChat;
    expect(await theirs.setPicture(picture)).toBe(true);
    expect(await account.client.getProfilePicUrl(id)).toMatch(/\/pictures\//);
    await chat.setInfoAdminsOnly(true);
    expect(await theirs.setPicture(picture)).toBe(false);
    expect(await chat.deletePicture()).toBe(true);
    expect(await account.client.getProfilePicUrl(id)).toBeUndefined();
  });

  it('knows the groups that it has in common with somebody', async () => {
    const other = await sandbox.phone();
    const common = async () =>
      (await account.client.getCommonGroups(at(other))).map(({ _serialized }) => _serialized);
    expect(await common()).toEqual([]);
    const chat = await created(account, [other]);
    expect(await common()).toEqual([chat.id._serialized]);
    await sandbox.call('POST', `/groups/${chat.id._serialized}/leave`, { phone: other });
    await until('no common group', async () => (await common()).length === 0);
  });

  it('keeps the address book on the phone, for all its browsers', async () => {
    const other = await sandbox.phone('Dewi');
    const second = sandbox.account();
    void second.open();
    const qr = await until('QR code', () => second.qrs.at(-1));
    await sandbox.call('POST', `/phones/${account.phone}/scan`, { qr });
    await second.ready();
    const nameAt = async ({ client }: Account) => (await client.getContactById(at(other))).name;
    await account.client.saveOrEditAddressbookContact(other, 'Dewi', 'Lestari');
    expect(await nameAt(account)).toBe('Dewi Lestari');
    await until('the name in the other browser', async () => (await nameAt(second)) === 'Dewi Lestari');
    // Somebody without WhatsApp can be saved, and is no contact in WhatsApp.
    await account.client.saveOrEditAddressbookContact('6281100000009', 'No', 'WhatsApp');
    expect(await account.client.isRegisteredUser(at('6281100000009'))).toBe(false);
    await second.client.deleteAddressbookContact(at(other));
    await until('no name', async () => (await nameAt(account)) === undefined);
    expect(await friend.client.getContactDeviceCount(at(account.phone))).toBe(3);
    expect(await friend.client.getContactDeviceCount(at('6281100000009'))).toBe(0);
    await second.close();
  });

  it('shows what a program opens, and keeps the settings of the browser', async () => {
    const page = account.client.pupPage!;
    const shown = () => page.$eval('#app', ({ dataset }) => ({ ...dataset }));
    const { interface: ui } = account.client as unknown as {
      interface: Record<
        'openChatWindowAt' | 'openChatSearch' | 'openMessageDrawer',
        (id: string) => Promise<void>
      > & {
        closeRightDrawer(): Promise<void>;
      };
    };
    const sent = await account.send(friend.phone, 'here');
    const id = sent.id._serialized;
    await ui.openChatWindowAt(id);
    expect(await shown()).toEqual({ chat: at(friend.phone), message: id });
    await ui.openChatSearch(at(friend.phone));
    expect(await shown()).toMatchObject({ drawer: 'search', drawerOf: at(friend.phone) });
    await ui.openMessageDrawer(id);
    expect(await shown()).toMatchObject({ drawer: 'message-info', drawerOf: id });
    await ui.closeRightDrawer();
    expect(await shown()).toEqual({ chat: at(friend.phone), message: id });

    await account.client.setBackgroundSync(true);
    await page.reload();
    await account.ready(2);
    const isOn = () =>
      page.evaluate(`require('WAWebUserPrefsNotifications').getGlobalOfflineNotifications()`);
    expect(await isOn()).toBe(true);
    await account.client.setBackgroundSync(false);
    expect(await isOn()).toBe(false);
  });
});
