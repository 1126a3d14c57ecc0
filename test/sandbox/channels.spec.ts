import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Channel, Chat, Message } from 'whatsapp-web.js';
import wwebjs from 'whatsapp-web.js';
import { files } from './media-files.js';
import { type Account, SandboxHarness, until } from './sandbox.harness.js';

type Post = Message & { _data: { type: string } };

let sandbox: SandboxHarness;
let owner: Account;
let reader: Account;

beforeAll(async () => {
  sandbox = await SandboxHarness.start();
  [owner, reader] = await Promise.all([sandbox.linked(), sandbox.linked()]);
}, 60_000);

afterAll(async () => {
  await sandbox.stop();
}, 30_000);

const at = (phone: string) => `${phone}@c.us`;

async function created(name: string): Promise<Channel> {
  const answer = await owner.client.createChannel(name, { description: 'What is new' });
  if (typeof answer === 'string') throw new Error(answer);
  expect(answer.inviteLink).toMatch(/^https:\/\/whatsapp\.com\/channel\/[\w-]{22}$/);
  return channelOf(owner, (answer.nid as unknown as { _serialized: string })._serialized);
}

const channelOf = async (by: Account, id: string): Promise<Channel> =>
  (await by.client.getChatById(id)) as unknown as Channel;

const codeOf = async (id: string): Promise<string> =>
  (await sandbox.call<{ invite: string }>('GET', `/channels/${id}`)).body.invite;

const received = (by: Account, body: string): Promise<Message> =>
  until(`"${body}"`, () => by.received.find((message) => message.body === body));

const roleOf = async (by: Account, id: string) => {
  const chat = (await channelOf(by, id)) as unknown as { channelMetadata: { membershipType: string } };
  return chat.channelMetadata.membershipType;
};

describe('a channel with whatsapp-web.js', { timeout: 60_000 }, () => {
  it('is found by its link, followed, and its posts reach the readers without their author', async () => {
    const channel = await created('News');
    const id = channel.id._serialized;
    const first = await channel.sendMessage('before anybody reads', {} as never);
    expect(first.ack).toBe(1);
    const code = await codeOf(id);
    const found = await reader.client.getChannelByInviteCode(code);
    expect(found).toMatchObject({
      name: 'News',
      description: 'What is new',
      isChannel: true,
      isReadOnly: true,
    });
    // A guest can look at what is there, and gets nothing new.
    expect((await found.fetchMessages({ limit: 10 })).map(({ body }) => body)).toEqual([
      'before anybody reads',
    ]);
    expect(await roleOf(reader, id)).toBe('guest');
    expect(await (reader.client as never as Subscriber).subscribeToChannel(id)).toBe(true);
    expect(await roleOf(reader, id)).toBe('subscriber');

    await channel.sendMessage('hello all', {} as never);
    const got = await received(reader, 'hello all');
    expect(got).toMatchObject({ from: id, author: undefined, fromMe: false });
    const picture = new wwebjs.MessageMedia('image/png', files.png.toString('base64'), 'a.png');
    await channel.sendMessage(picture, { caption: 'a picture' } as never);
    const shown = await received(reader, 'a picture');
    expect((await shown.downloadMedia()).data).toBe(files.png.toString('base64'));
    await channel.sendMessage(
      new wwebjs.Poll('Which?', ['A', 'B'], undefined as never) as never,
      {} as never,
    );
    await until('the poll', () =>
      reader.received.find((post) => (post as Post)._data.type === 'poll_creation'),
    );

    expect(await sandbox.inbox(reader.phone)).toMatchObject([
      { to: id, from: owner.phone, text: 'hello all' },
      { to: id, type: 'image', text: 'a picture' },
      { to: id, type: 'poll', poll: { question: 'Which?' } },
    ]);
    expect(
      (await (await channelOf(reader, id)).fetchMessages({ limit: 10 })).map(({ body }) => body),
    ).toEqual(['before anybody reads', 'hello all', 'a picture', 'Which?']);
    // Channels are no chats.
    expect((await reader.client.getChats()).map((chat: Chat) => chat.id._serialized)).not.toContain(id);
    expect((await reader.client.getChannels()).map((one) => one.id._serialized)).toContain(id);
    // A reader cannot post.
    await expect(reader.client.sendMessage(id, 'me too')).rejects.toThrow('403');

    expect(await (reader.client as never as Subscriber).unsubscribeFromChannel(id, {})).toBe(true);
    await channel.sendMessage('after', {} as never);
    expect((await sandbox.inbox(reader.phone)).filter(({ to }) => to === id)).toHaveLength(3);
    expect((await reader.client.getChannels()).map((one) => one.id._serialized)).not.toContain(id);
  });

  it('is changed by its admins, and its readers see it', async () => {
    const channel = await created('Old name');
    const id = channel.id._serialized;
    const phone = await sandbox.phone('Dewi');
    await sandbox.call('POST', `/channels/${id}/followers`, { phone: reader.phone });
    await sandbox.call('POST', `/channels/${id}/followers`, { phone });
    await owner.client.saveOrEditAddressbookContact(phone, 'Dewi', 'Lestari');
    expect(await channel.setSubject('New name')).toBe(true);
    expect(await channel.setDescription('Only good news')).toBe(true);
    expect(await channel.setReactionSetting(1)).toBe(true);
    const picture = new wwebjs.MessageMedia('image/png', files.png.toString('base64'));
    expect(await channel.setProfilePicture(picture)).toBe(true);
    const theirs = await until('the change', async () => {
      const now = (await reader.client.getChannels()).find((one) => one.id._serialized === id);
      return now?.description === 'Only good news' && now;
    });
    expect(theirs).toMatchObject({ name: 'New name' });
    expect(await theirs.setSubject('Mine')).toBe(false);
    expect((await sandbox.call('GET', `/channels/${id}`)).body).toMatchObject({
      name: 'New name',
      reactions: 1,
      picture: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    });
    // Only those in the address book are shown.
    const subscribers = await channel.getSubscribers(10);
    expect(subscribers.map(({ contact, role }) => [contact.name, role])).toEqual([
      ['Dewi Lestari', 'subscriber'],
    ]);
    await expect(theirs.getSubscribers(10)).rejects.toThrow('403');
    expect(await theirs.mute()).toBe(true);
    expect((await channelOf(reader, id)).isMuted).toBe(true);
    expect(await theirs.unmute()).toBe(true);
    expect((await channelOf(reader, id)).isMuted).toBe(false);
  });

  it('gets admins and another owner, and is deleted for everybody', async () => {
    const channel = await created('Team');
    const id = channel.id._serialized;
    const stranger = await sandbox.phone();
    expect(await reader.client.acceptChannelAdminInvite(id)).toBe(false);
    expect(await channel.sendChannelAdminInvite(at(reader.phone), { comment: 'join us' })).toBe(true);
    const invite = await until('the invite', () =>
      reader.received.find(({ type }) => (type as string) === 'newsletter_admin_invite'),
    );
    expect(invite).toMatchObject({ body: 'join us', from: at(owner.phone) });
    expect((await sandbox.inbox(reader.phone)).at(-1)).toMatchObject({
      type: 'channel_invite',
      channelInvite: { channel: id, name: 'Team' },
    });
    await channel.sendChannelAdminInvite(at(stranger), {});
    expect(await channel.revokeChannelAdminInvite(at(stranger))).toBe(true);
    expect((await sandbox.call('POST', `/channels/${id}/admins`, { phone: stranger })).status).toBe(409);
    expect(await reader.client.acceptChannelAdminInvite(id)).toBe(true);
    const theirs = await channelOf(reader, id);
    await theirs.sendMessage('by an admin', {} as never);
    expect(await received(owner, 'by an admin')).toMatchObject({ from: id });

    expect(await theirs.transferChannelOwnership(at(reader.phone), {} as never)).toBe(false);
    expect(
      await channel.transferChannelOwnership(at(reader.phone), { shouldDismissSelfAsAdmin: true } as never),
    ).toBe(true);
    await until('the new owner', async () => (await roleOf(reader, id)) === 'owner');
    expect(await roleOf(owner, id)).toBe('subscriber');
    expect(await channel.deleteChannel()).toBe(false);
    expect(await (await channelOf(reader, id)).deleteChannel()).toBe(true);
    await until('the end', async () =>
      (await owner.client.getChannels()).every((one) => one.id._serialized !== id),
    );
    expect(await owner.client.getChatById(id)).toBeUndefined();
  });

  it('survives a restart of the sandbox and of the browser, with posts that came meanwhile', async () => {
    const channel = await created('Kept');
    const id = channel.id._serialized;
    await sandbox.call('POST', `/channels/${id}/followers`, { phone: reader.phone });
    await channel.sendMessage('one', {} as never);
    await received(reader, 'one');
    await until('everything is confirmed', async () => (await sandbox.stats()).offlineQueued === 0);
    await reader.kill();
    expect((await sandbox.call('POST', `/channels/${id}/posts`, { text: 'two' })).status).toBe(201);
    await sandbox.shutDown();
    await sandbox.boot();
    const restored = sandbox.account(reader.profile.split('/').at(-1));
    void restored.open();
    await restored.ready();
    expect(await roleOf(restored, id)).toBe('subscriber');
    expect(
      (await (await channelOf(restored, id)).fetchMessages({ limit: 10 })).map(({ body }) => body),
    ).toEqual(['one', 'two']);
    reader = restored;
  });
});

interface Subscriber {
  subscribeToChannel(id: string): Promise<boolean>;
  unsubscribeFromChannel(id: string, options: object): Promise<boolean>;
}
