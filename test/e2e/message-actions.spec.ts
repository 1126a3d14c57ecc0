import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { files } from '../sandbox/media-files.js';
import { eventually } from '../support/eventually.js';
import { type Answer, Flotilla, type Workspace } from '../support/flotilla.js';

/* Edits, revocations, reactions and messages from the phone through HTTP, with real browsers: ours, the owner's and the other person's. */

let flotilla: Flotilla;
let workspace: Workspace;
let account: { id: string; phoneNumber: string };
let phone: string;

beforeAll(async () => {
  flotilla = await Flotilla.start({ instances: 1 });
  workspace = await flotilla.newWorkspace();
  [account] = (await workspace.linkedAccounts(1)) as [typeof account];
  phone = await flotilla.newPhone();
});
afterEach(() => flotilla.sandbox('DELETE', '/faults'));
afterAll(() => flotilla?.stop());

type Message = Answer['body'];

/** A message that its recipient has read. */
async function sent(text: string): Promise<Message> {
  const { body } = await workspace.send({ accountId: account.id, to: phone, text });
  return until(body.id, (message) => message.status === 'read');
}

/** A message from the phone's owner. */
async function incoming(text: string): Promise<Message> {
  await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: account.phoneNumber, text });
  return eventually('received', async () => {
    const { body } = await workspace.call('GET', '/messages?direction=incoming');
    return body.items.find((message: Message) => message.text === text);
  });
}

function until(id: string, isSo: (message: Message) => boolean): Promise<Message> {
  return eventually(String(isSo), async () => {
    const { body } = await workspace.call('GET', `/messages/${id}`);
    return isSo(body) ? body : Promise.reject(new Error(JSON.stringify(body)));
  });
}

const edit = (id: string, text: unknown, key = workspace.key) =>
  flotilla.call('PATCH', `/messages/${id}`, { text }, key);
const revoke = (id: string, key = workspace.key) =>
  flotilla.call('POST', `/messages/${id}/revoke`, undefined, key);
const react = (id: string, emoji: unknown, key = workspace.key) =>
  flotilla.call('POST', `/messages/${id}/reaction`, { emoji }, key);

/** What happened to a message in the ledger of the simulated WhatsApp, after it was sent. */
async function deeds(whatsappId: string): Promise<string[]> {
  return (await flotilla.ledger())
    .filter((line) => line.whatsappId === whatsappId && line.type !== 'text')
    .map(({ from, type, text, duplicate }) => {
      const who = from === account.phoneNumber ? 'account' : 'owner';
      return `${who} ${type} ${text}${duplicate ? ' again' : ''}`.trim();
    });
}

/** The phone's owner's view of a message. */
async function seenByOwner(whatsappId: string): Promise<Record<string, unknown>> {
  const { items } = await flotilla.sandbox('GET', `/phones/${phone}/inbox`);
  return items.find((item: { whatsappId: string }) => item.whatsappId === whatsappId);
}

/** What was told of a message besides its status, from the first on; waits until there are at least `count` events. */
function eventsOf(id: string, count: number): Promise<{ type: string; data: Message }[]> {
  const types = ['message.edited', 'message.revoked', 'message.reaction'];
  return workspace.events(types, count, (data) => data.id === id);
}

describe('PATCH /messages/:id', () => {
  it('edits what was sent: the recipient sees the new text, and the ledger has the edit once', async () => {
    const { id, whatsappId } = await sent('Your parcel comes today');
    const answer = await edit(id, 'Your parcel comes tomorrow');
    expect(answer).toMatchObject({
      status: 200,
      body: { id, text: 'Your parcel comes tomorrow', status: 'read', revokedAt: null, reactions: [] },
    });
    expect(Date.parse(answer.body.editedAt)).toBeGreaterThan(Date.parse(answer.body.sentAt));
    expect((await edit(id, 'Your parcel comes tomorrow')).body).toEqual(answer.body);
    expect(await deeds(whatsappId)).toEqual(['account edit Your parcel comes tomorrow']);
    expect(await seenByOwner(whatsappId)).toMatchObject({ text: 'Your parcel comes tomorrow', edited: true });
    await react(id, '👍');
    const events = await eventsOf(id, 2);
    expect(events.map(({ type }) => type)).toEqual(['message.edited', 'message.reaction']);
    expect(events[0]!.data).toEqual({ ...answer.body, previousText: 'Your parcel comes today' });
  });

  it('makes edits that come at once one after the other', async () => {
    const { id } = await sent('edited often');
    const texts = Array.from({ length: 6 }, (_, number) => `edit ${number}`);
    const answers = await Promise.all(texts.map((text) => edit(id, text)));
    expect(answers.map(({ status }) => status)).toEqual(texts.map(() => 200));
    expect(texts).toContain((await workspace.call('GET', `/messages/${id}`)).body.text);
  });

  it('edits what waits, before it is sent', async () => {
    const sendAt = new Date(Date.now() + 3_600_000).toISOString();
    const { body } = await workspace.send({ accountId: account.id, to: phone, text: 'early', sendAt });
    expect(await edit(body.id, 'late')).toMatchObject({
      status: 200,
      body: { text: 'late', status: 'scheduled' },
    });
    await workspace.call('DELETE', `/messages/${body.id}`);
    expect(await edit(body.id, 'too late')).toMatchObject({
      status: 409,
      body: { code: 'message.cannot_edit' },
    });
  });

  it('says so when WhatsApp does not allow it any more, and changes nothing', async () => {
    const { id, whatsappId } = await sent('as it is');
    await flotilla.sandbox('PUT', '/faults', { editWindowMs: 1 });
    expect(await edit(id, 'otherwise')).toMatchObject({ status: 409, body: { code: 'message.cannot_edit' } });
    expect(await deeds(whatsappId)).toEqual([]);
    expect((await workspace.call('GET', `/messages/${id}`)).body).toMatchObject({
      text: 'as it is',
      editedAt: null,
    });
  });

  it('and the others have to wait for a message that is being sent', async () => {
    await flotilla.sandbox('PUT', '/faults', { ackDelayMs: 3_000 });
    const { body } = await workspace.send({ accountId: account.id, to: phone, text: 'on its way' });
    await until(body.id, ({ status }) => status === 'sending');
    for (const act of [edit(body.id, 'x'), revoke(body.id), react(body.id, '👍')])
      expect(await act).toMatchObject({ status: 409, body: { code: 'message.already_sending' } });
    await until(body.id, ({ status }) => status === 'read');
    expect((await edit(body.id, 'here')).status).toBe(200);
  });

  it('says that nobody can tell while WhatsApp is silent, and may be asked again', async () => {
    const { id, whatsappId } = await sent('heard');
    await flotilla.sandbox('PUT', '/faults', { silent: true });
    expect(await edit(id, 'unheard')).toMatchObject({ status: 504, body: { code: 'whatsapp.no_answer' } });
    expect((await workspace.call('GET', `/messages/${id}`)).body.text).toBe('heard');
    await flotilla.sandbox('DELETE', '/faults');
    expect(await edit(id, 'unheard')).toMatchObject({ status: 200, body: { text: 'unheard' } });
    expect(await deeds(whatsappId)).toEqual(['account edit unheard']);
  });

  it.each([
    ['nothing', undefined],
    ['an empty text', ''],
    ['a blank text', '  '],
    ['100 kB', 'x'.repeat(100_000)],
    ['a number', 7],
  ])('refuses %s', async (_what, text) => {
    const { id } = (await workspace.call('GET', '/messages?direction=outgoing&limit=1')).body.items[0];
    expect(await edit(id, text)).toMatchObject({ status: 400, body: { code: 'validation.failed' } });
  });
});

describe('POST /messages/:id/revoke', () => {
  it('deletes it for everyone; the ledger keeps what was sent', async () => {
    const { id, whatsappId } = await sent('a mistake');
    const answer = await revoke(id);
    expect(answer).toMatchObject({ status: 200, body: { id, text: 'a mistake', status: 'read' } });
    expect(Date.parse(answer.body.revokedAt)).toBeLessThanOrEqual(Date.now());
    expect(await revoke(id)).toMatchObject({ status: 200, body: { revokedAt: answer.body.revokedAt } });
    expect(await deeds(whatsappId)).toEqual(['account revoke']);
    expect(await seenByOwner(whatsappId)).toMatchObject({ text: '', revoked: true });
    expect(await eventsOf(id, 1)).toMatchObject([{ type: 'message.revoked', data: answer.body }]);
    expect(await edit(id, 'x')).toMatchObject({ status: 409, body: { code: 'message.cannot_edit' } });
    expect(await react(id, '👍')).toMatchObject({ status: 409, body: { code: 'message.cannot_react' } });
  });

  it('cancels what waits', async () => {
    const sendAt = new Date(Date.now() + 3_600_000).toISOString();
    const { body } = await workspace.send({ accountId: account.id, to: phone, text: 'never', sendAt });
    expect(await react(body.id, '👍')).toMatchObject({ status: 409, body: { code: 'message.not_sent' } });
    expect(await revoke(body.id)).toMatchObject({ status: 200, body: { status: 'cancelled' } });
  });

  it('says so when WhatsApp does not allow it any more', async () => {
    const { id, whatsappId } = await sent('stays');
    await flotilla.sandbox('PUT', '/faults', { revokeWindowMs: 1 });
    expect(await revoke(id)).toMatchObject({ status: 409, body: { code: 'message.cannot_revoke' } });
    expect(await deeds(whatsappId)).toEqual([]);
  });
});

describe('POST /messages/:id/reaction', () => {
  it('reacts to a message of ours and to one of theirs, changes the reaction and takes it back', async () => {
    for (const { id, whatsappId } of [await sent('ours'), await incoming('theirs')]) {
      const answer = await react(id, '👍');
      expect(answer).toMatchObject({
        status: 200,
        body: { reactions: [{ from: account.phoneNumber, emoji: '👍' }] },
      });
      expect((await react(id, '👨‍👩‍👧')).body.reactions).toMatchObject([{ emoji: '👨‍👩‍👧' }]);
      expect((await react(id, '')).body.reactions).toEqual([]);
      expect(await deeds(whatsappId)).toEqual([
        'account reaction 👍',
        'account reaction 👨‍👩‍👧',
        'account reaction',
      ]);
      const events = await eventsOf(id, 3);
      const from = account.phoneNumber;
      expect(events.map(({ data }) => data.reaction)).toMatchObject([
        { from, emoji: '👍' },
        { from, emoji: '👨‍👩‍👧' },
        { from, emoji: '' },
      ]);
    }
  });

  it.each([
    ['words', 'great'],
    ['two emoji', '👍👍'],
    ['null', null],
    ['nothing', undefined],
  ])('refuses %s', async (_what, emoji) => {
    const { id } = (await workspace.call('GET', '/messages?direction=outgoing&limit=1')).body.items[0];
    expect(await react(id, emoji)).toMatchObject({ status: 400, body: { code: 'validation.failed' } });
  });
});

describe('a message of theirs', () => {
  it('is not ours to edit or revoke', async () => {
    const { id } = await incoming('only theirs');
    expect(await edit(id, 'x')).toMatchObject({ status: 409, body: { code: 'message.not_outgoing' } });
    expect(await revoke(id)).toMatchObject({ status: 409, body: { code: 'message.not_outgoing' } });
  });

  it('changes when they edit and revoke it, with an event for each', async () => {
    const { id, whatsappId } = await incoming('thier words');
    await flotilla.sandbox('PATCH', `/phones/${phone}/messages/${whatsappId}`, { text: 'their words' });
    await until(id, ({ text }) => text === 'their words');
    await flotilla.sandbox('DELETE', `/phones/${phone}/messages/${whatsappId}`);
    const message = await until(id, ({ revokedAt }) => revokedAt !== null);
    expect(message).toMatchObject({ status: 'received', text: 'their words' });
    const events = await eventsOf(id, 2);
    expect(events.map(({ type }) => type)).toEqual(['message.edited', 'message.revoked']);
    expect(events[0]!.data).toMatchObject({ text: 'their words', previousText: 'thier words' });
  });
});

describe('what others do', () => {
  it('to a message of ours is told: their reaction, and the edit on the phone of the account itself', async () => {
    const { id, whatsappId } = await sent('do you like it');
    const reaction = (emoji: string) =>
      flotilla.sandbox('POST', `/phones/${phone}/messages/${whatsappId}/reaction`, { emoji });
    await reaction('❤️');
    await until(id, ({ reactions }) => reactions.length === 1);
    await flotilla.sandbox('PATCH', `/phones/${account.phoneNumber}/messages/${whatsappId}`, {
      text: 'Do you like it?',
    });
    const message = await until(id, ({ text }) => text === 'Do you like it?');
    expect(message.reactions).toMatchObject([{ from: phone, emoji: '❤️' }]);
    await reaction('');
    await until(id, ({ reactions }) => reactions.length === 0);
    const events = await eventsOf(id, 3);
    expect(events.map(({ data }) => data.reaction ?? data.text)).toMatchObject([
      { from: phone, emoji: '❤️' },
      'Do you like it?',
      { from: phone, emoji: '' },
    ]);
  });

  it('while the account is away is caught up when it is back, and told once', async () => {
    const ours = await sent('ours, before');
    const theirs = await incoming('theirs, before');
    await workspace.call('POST', `/accounts/${account.id}/disconnect`);
    await eventually(
      'its browser is gone',
      async () => (await flotilla.sandbox('GET', '/stats')).online === 0,
    );
    for (const act of [edit(ours.id, 'x'), revoke(ours.id), react(ours.id, '👍')])
      expect(await act).toMatchObject({ status: 409, body: { code: 'account.not_ready' } });

    const at = (message: Message) => `/phones/${phone}/messages/${message.whatsappId}`;
    await flotilla.sandbox('POST', `${at(ours)}/reaction`, { emoji: '🎉' });
    await flotilla.sandbox('PATCH', at(theirs), { text: 'theirs, corrected' });
    const gone = await flotilla.sandbox('POST', `/phones/${phone}/messages`, {
      to: account.phoneNumber,
      text: 'gone before anybody saw it',
    });
    await flotilla.sandbox('DELETE', at(gone));
    await workspace.call('POST', `/accounts/${account.id}/connect`);
    await workspace.untilStatus(account.id, 'ready');
    expect((await until(ours.id, ({ reactions }) => reactions.length === 1)).reactions).toMatchObject([
      { from: phone, emoji: '🎉' },
    ]);
    await until(theirs.id, ({ text }) => text === 'theirs, corrected');
    const { body } = await workspace.call('GET', '/messages?direction=incoming');
    expect(body.items.map(({ whatsappId }: Message) => whatsappId)).not.toContain(gone.whatsappId);

    // Once more: the page tells all of it again, and nothing of it is news.
    await workspace.call('POST', `/accounts/${account.id}/restart`);
    await eventually('restarting', async () => (await workspace.account(account.id)).status !== 'ready');
    await workspace.untilStatus(account.id, 'ready');
    expect((await react(theirs.id, '👍')).status).toBe(200);
    const ofTheirs = (await eventsOf(theirs.id, 2)).map(({ type }) => type);
    expect(ofTheirs).toEqual(['message.edited', 'message.reaction']);
    expect((await react(ours.id, '👍')).body.reactions).toHaveLength(2);
    const ofOurs = (await eventsOf(ours.id, 2)).map(({ data }) => data.reaction.emoji);
    expect(ofOurs).toEqual(['🎉', '👍']);
  });
});

describe('marking as read', () => {
  const unread = async (): Promise<number> => {
    const { body } = await workspace.call('GET', `/accounts/${account.id}/chats`);
    return body.items.find((chat: Message) => chat.phone === phone).unreadCount;
  };
  const read = (id: string, key = workspace.key) =>
    flotilla.call('POST', `/messages/${id}/read`, undefined, key);
  const autoRead = async (wanted: unknown) =>
    workspace.call('PATCH', `/accounts/${account.id}`, { autoRead: wanted });

  it('by the id of the message reads its chat; again, it changes nothing', async () => {
    const message = await incoming('read me');
    expect(message.readAt).toBeNull();
    expect(await unread()).toBeGreaterThan(0);
    const answer = await read(message.id);
    expect(answer).toMatchObject({ status: 200, body: { id: message.id, status: 'received' } });
    expect(Date.parse(answer.body.readAt)).toBeGreaterThan(Date.parse(message.createdAt) - 1);
    expect(await unread()).toBe(0);
    expect((await read(message.id)).body).toEqual(answer.body);
    const ours = await sent('ours is not to be read');
    expect(await read(ours.id)).toMatchObject({ status: 409, body: { code: 'message.not_incoming' } });
    expect((await read(message.id, await workspace.keyFor('viewer'))).status).toBe(403);
    expect((await read('01960000-0000-7000-8000-000000000000')).status).toBe(404);
  });

  it('of everything, if the account wants that, also of what came while it was away', async () => {
    expect((await workspace.account(account.id)).autoRead).toBe(false);
    expect((await autoRead('yes')).status).toBe(400);
    expect((await autoRead(true)).body.autoRead).toBe(true);
    const message = await incoming('read at once');
    await until(message.id, ({ readAt }) => readAt !== null);
    expect(await unread()).toBe(0);
    await workspace.call('POST', `/accounts/${account.id}/disconnect`);
    await eventually(
      'its browser is gone',
      async () => (await flotilla.sandbox('GET', '/stats')).online === 0,
    );
    for (const text of ['late one', 'late two'])
      await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: account.phoneNumber, text });
    await workspace.call('POST', `/accounts/${account.id}/connect`);
    await workspace.untilStatus(account.id, 'ready');
    await eventually('both are read', async () => {
      const { body } = await workspace.call('GET', '/messages?direction=incoming&limit=2');
      return body.items.every(({ text, readAt }: Message) => text.startsWith('late') && readAt !== null);
    });
    expect(await unread()).toBe(0);
    await autoRead(false);
    expect((await incoming('not read')).readAt).toBeNull();
    expect(await unread()).toBe(1);
  });
});

describe('what the owner of the account writes on the phone', () => {
  /** The account's owner writes on the phone. @returns what the simulated WhatsApp accepted */
  const write = (body: object): Promise<{ whatsappId: string; at: string }> =>
    flotilla.sandbox('POST', `/phones/${account.phoneNumber}/messages`, { to: phone, ...body });
  const stored = async ({ whatsappId }: { whatsappId: string }): Promise<Message> =>
    eventually(`the row of ${whatsappId}`, async () => {
      const { body } = await workspace.call('GET', '/messages?direction=outgoing&limit=100');
      return body.items.find((message: Message) => message.whatsappId === whatsappId);
    });
  const ofFriend = (path: string, body: object, method = 'POST') =>
    flotilla.sandbox(method, `/phones/${phone}/messages${path}`, body);

  it('is a message with its acks, reactions, votes, edits and answers, and one event tells of it', async () => {
    const { body: ours } = await workspace.send({ accountId: account.id, to: phone, text: 'by the program' });
    expect(ours.origin).toBe('api');
    const written = await write({
      text: 'I take over',
      replyTo: (await until(ours.id, ({ status }) => status === 'read')).whatsappId,
    });
    const row = await stored(written);
    expect(row).toMatchObject({
      direction: 'outgoing',
      origin: 'device',
      type: 'text',
      to: phone,
      from: account.phoneNumber,
      text: 'I take over',
      replyTo: ours.id,
      participant: null,
      attempts: 0,
      error: null,
    });
    expect(Math.abs(Date.parse(row.sentAt) - Date.parse(written.at))).toBeLessThan(1_000);
    await until(row.id, ({ status }) => status === 'read');

    // The other side, the owner on the phone, and callers of the API act on it.
    await ofFriend(`/${written.whatsappId}/reaction`, { emoji: '🙏' });
    await until(row.id, ({ reactions }) => reactions.length === 1);
    await flotilla.sandbox('PATCH', `/phones/${account.phoneNumber}/messages/${written.whatsappId}`, {
      text: 'I take over now',
    });
    await until(row.id, ({ text }) => text === 'I take over now');
    const answer = await ofFriend('', { to: account.phoneNumber, text: 'Good', replyTo: written.whatsappId });
    const answered = await eventually('the answer', async () => {
      const { body } = await workspace.call('GET', '/messages?direction=incoming');
      return body.items.find(({ whatsappId }: Message) => whatsappId === answer.whatsappId);
    });
    expect(answered).toMatchObject({ origin: null, replyTo: row.id });
    expect((await react(row.id, '👍')).body.reactions).toHaveLength(2);
    expect((await edit(row.id, 'I take over today')).body.text).toBe('I take over today');
    const { body: reply } = await workspace.send({ to: phone, text: 'So do I', replyTo: row.id });
    await until(reply.id, ({ status }) => status === 'read');
    expect((await revoke(row.id)).body.revokedAt).not.toBeNull();

    const { body: history } = await workspace.call('GET', `/accounts/${account.id}/chats/${phone}/messages`);
    expect(history.items.find(({ id }: Message) => id === row.id)).toMatchObject({ direction: 'outgoing' });
    const types = ['message.*'];
    const events = await workspace.events(types, 8, (data) => data.id === row.id);
    expect(events.map(({ type }) => type)).toEqual([
      'message.sent_elsewhere',
      'message.delivered',
      'message.read',
      'message.reaction',
      'message.edited',
      'message.reaction',
      'message.edited',
      'message.revoked',
    ]);
  });

  it('may be a picture, a place, a poll or in a group, and its media is there', async () => {
    const data =
      'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
    const picture = await stored(
      await write({ type: 'image', text: 'look', media: { data, mimetype: 'image/png' } }),
    );
    const { media } = await until(picture.id, (message) => message.media?.mediaId !== null);
    expect(picture).toMatchObject({ origin: 'device', type: 'image', text: 'look' });
    expect(media).toMatchObject({ mimetype: 'image/png', error: null });
    const place = await stored(await write({ type: 'location', location: { latitude: 1, longitude: 2 } }));
    expect(place.location).toMatchObject({ latitude: 1, longitude: 2 });
    const poll = await write({
      type: 'poll',
      poll: { question: 'When?', options: ['now', 'later'], multiple: false },
    });
    const { id } = await stored(poll);
    await ofFriend(`/${poll.whatsappId}/vote`, { options: ['later'] });
    const voted = await until(id, ({ votes }) => votes.length === 1);
    expect(voted).toMatchObject({ origin: 'device', votes: [{ phone, options: ['later'] }] });
    const { body: made } = await workspace.call('POST', `/accounts/${account.id}/groups`, {
      subject: 'Depot',
      participants: [phone],
    });
    const groupId = made.id;
    const inGroup = await stored(await write({ to: groupId, text: 'to all' }));
    expect(inGroup).toMatchObject({
      origin: 'device',
      to: groupId,
      group: { id: groupId, subject: 'Depot' },
    });
    await until(inGroup.id, ({ status }) => status === 'read');
    const ids = [picture.id, place.id, id, inGroup.id];
    const told = await workspace.events(['message.sent_elsewhere'], ids.length, (message) =>
      ids.includes(message.id),
    );
    expect(told.map((event) => event.data.id).sort()).toEqual(ids.sort());
  });

  it('arrives after the account was away, once, in order and with the times at which it was written', async () => {
    await workspace.call('POST', `/accounts/${account.id}/disconnect`);
    await eventually(
      'its browser is gone',
      async () => (await flotilla.sandbox('GET', '/stats')).online === 0,
    );
    const question = await ofFriend('', { to: account.phoneNumber, text: 'away: anybody there?' });
    const reply = await write({ text: 'away: I am', replyTo: question.whatsappId });
    const thanks = await ofFriend('', {
      to: account.phoneNumber,
      text: 'away: thanks',
      replyTo: reply.whatsappId,
    });
    const unseen = await write({ text: 'away: gone' });
    await flotilla.sandbox('DELETE', `/phones/${account.phoneNumber}/messages/${unseen.whatsappId}`);
    await eventually('the clock has moved on', () => Date.now() - Date.parse(thanks.at) > 2_000);
    const back = Date.now();
    const read = async (): Promise<Message[]> => {
      const { body } = await workspace.call('GET', '/messages?limit=50');
      return body.items.filter(({ text }: Message) => text?.startsWith('away: ')).reverse();
    };
    for (const step of ['connect', 'restart']) {
      await workspace.call('POST', `/accounts/${account.id}/${step}`);
      if (step === 'restart')
        await eventually('restarting', async () => (await workspace.account(account.id)).status !== 'ready');
      await workspace.untilStatus(account.id, 'ready');
      await eventually('all three', async () => (await read()).length === 3);
    }
    const found = await read();
    expect(found.map(({ text, origin }) => [text, origin])).toEqual([
      ['away: anybody there?', null],
      ['away: I am', 'device'],
      ['away: thanks', null],
    ]);
    expect(found.map(({ replyTo }) => replyTo)).toEqual([null, found[0]!.id, found[1]!.id]);
    for (const [index, { at }] of [question, reply, thanks].entries()) {
      const { sentAt, createdAt } = found[index]!;
      expect(Math.abs(Date.parse(sentAt) - Date.parse(at))).toBeLessThan(1_000);
      expect(Date.parse(createdAt)).toBeGreaterThanOrEqual(back);
    }
    const ids = found.map(({ id }) => id);
    const events = await workspace.events(['message.received', 'message.sent_elsewhere'], 3, ({ id }) =>
      ids.includes(id),
    );
    expect(events.map(({ type, data }) => [type, data.id])).toEqual([
      ['message.received', ids[0]],
      ['message.sent_elsewhere', ids[1]],
      ['message.received', ids[2]],
    ]);
    expect(events.map(({ data }) => data.sentAt)).toEqual(found.map(({ sentAt }) => sentAt));
  });
});

describe('what is no message', () => {
  /** Something that the phone's owner sends. @returns its WhatsApp id */
  const post = async (body: object): Promise<string> =>
    (await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: account.phoneNumber, ...body }))
      .whatsappId;
  const stored = async () =>
    (await workspace.call('GET', '/messages?direction=incoming&limit=100')).body.items;
  const storedAs = async (whatsappId: string): Promise<Message | undefined> =>
    (await stored()).find((message: Message) => message.whatsappId === whatsappId);
  const receive = async (wanted: object) =>
    (await workspace.call('PATCH', `/accounts/${account.id}`, { receive: wanted })).body.receive;

  it('stories and posts of channels are stored only if the account wants them', async () => {
    const both = async (text: string) => [
      await post({ as: 'story', text: `story ${text}` }),
      await post({ as: 'channel', text: `post ${text}` }),
    ];
    expect((await workspace.account(account.id)).receive).toEqual({ stories: false, channels: false });
    const unwanted = await both('unwanted');
    await incoming('after the unwanted');
    expect(await receive({ stories: true })).toEqual({ stories: true, channels: false });
    const [story] = await both('of one kind');
    expect(await eventually('the story', () => storedAs(story!))).toMatchObject({
      type: 'text',
      from: 'status@broadcast',
      participant: { phone },
    });
    expect(await receive({ channels: true })).toEqual({ stories: true, channels: true });
    const [, channel] = await both('of both kinds');
    expect(await eventually('the post', () => storedAs(channel!))).toMatchObject({
      from: `${phone}@newsletter`,
      participant: { phone: null, lid: null },
    });
    const texts = (await stored()).map(({ text }: Message) => text);
    expect(texts).not.toContain('post of one kind');
    for (const id of unwanted) expect(await storedAs(id)).toBeUndefined();
    expect(await receive({ stories: false, channels: false })).toEqual({ stories: false, channels: false });
    // They have events of their own, and are no messages to the account.
    const wanted = [(await storedAs(story!))!.id, (await storedAs(channel!))!.id];
    const events = await workspace.events(['*'], 2, ({ id }) => wanted.includes(id));
    expect(events.map(({ type, data }) => [type, data.id, data.text])).toEqual([
      ['story.received', wanted[0], 'story of one kind'],
      ['channel.received', wanted[1], 'post of both kinds'],
    ]);
    const refused = await workspace.call('PATCH', `/accounts/${account.id}`, { receive: { stories: 'yes' } });
    expect(refused).toMatchObject({ status: 400, body: { code: 'validation.failed' } });
  });

  it('a message that is decrypted late comes once, as the message and not as an edit', async () => {
    const contacts = [{ name: 'Siti', vcard: 'BEGIN:VCARD\nFN:Siti\nEND:VCARD' }];
    const card = await post({ type: 'contact', contacts, isUndecrypted: true });
    await incoming('after the undecrypted');
    expect(await storedAs(card)).toBeUndefined();
    await flotilla.sandbox('POST', `/phones/${account.phoneNumber}/messages/${card}/decrypt`);
    const message = await eventually('the card', () => storedAs(card));
    await incoming('after the decrypted');
    expect(await storedAs(card)).toMatchObject({ type: 'contact', text: null, editedAt: null });
    await react(message!.id, '👍');
    const types = ['message.received', 'message.edited', 'message.reaction'];
    const events = await workspace.events(types, 2, (data) => data.id === message!.id);
    expect(events.map(({ type }) => type)).toEqual(['message.received', 'message.reaction']);
  });
});

describe('stories and posts in channels', () => {
  const picture = { data: files.png.toString('base64'), mimetype: 'image/png' };
  const publish = (to: string, content: object, headers?: Record<string, string>) =>
    workspace.send({ accountId: account.id, to, ...content }, headers);
  const inLedger = async (message: Message) =>
    (await flotilla.ledger()).filter(({ whatsappId }) => whatsappId === message.whatsappId);
  /** The phone and the account have each other in their address books. */
  const befriend = async () => {
    for (const [owner, other] of [
      [phone, account.phoneNumber],
      [account.phoneNumber, phone],
    ] as const)
      await flotilla.sandbox('PUT', `/phones/${owner}/contacts`, { phone: other, name: 'Friend' });
  };
  const channelOf = async (owner: string): Promise<string> =>
    (await flotilla.sandbox('POST', '/channels', { owner, name: 'News of the shop' })).id;

  it.each([
    ['a text', 'status', { text: 'Open today' }, 'Open today'],
    ['a picture', 'status@broadcast', { type: 'image', media: { ...picture, caption: 'New' } }, 'New'],
  ])('posts %s as a story, once, and revokes it', async (_name, to, content, text) => {
    await befriend();
    const key = { 'idempotency-key': `story ${text}` };
    const { status, body } = await publish(to, content, key);
    expect([status, body.to]).toEqual([202, 'status@broadcast']);
    expect((await publish(to, content, key)).body.id).toBe(body.id);
    const story = await until(body.id, (message) => message.status === 'sent');
    expect(await seenByOwner(story.whatsappId)).toMatchObject({
      from: account.phoneNumber,
      as: 'story',
      text,
    });
    expect(await inLedger(story)).toHaveLength(1);
    expect((await workspace.call('GET', '/messages?to=status&limit=1')).body.items[0].id).toBe(body.id);

    expect(await react(body.id, '👍')).toMatchObject({ status: 409, body: { code: 'message.cannot_react' } });
    expect(await edit(body.id, 'other')).toMatchObject({
      status: 409,
      body: { code: 'message.cannot_edit' },
    });
    expect(await revoke(body.id)).toMatchObject({ status: 200, body: { revokedAt: expect.any(String) } });
    expect(await seenByOwner(story.whatsappId)).toMatchObject({ revoked: true });
    expect(await eventsOf(body.id, 1)).toMatchObject([{ type: 'message.revoked' }]);
  });

  it.each([
    ['a text', { text: 'Sale' }],
    ['a picture', { type: 'image', media: { ...picture, caption: 'Look' } }],
    ['a sticker', { type: 'sticker', media: picture }],
    [
      'a voice message',
      { type: 'voice', media: { data: files.ogg.toString('base64'), mimetype: 'audio/ogg' } },
    ],
    ['a poll', { type: 'poll', poll: { question: 'When?', options: ['Now', 'Later'] } }],
  ])('posts %s in an own channel', async (_name, content) => {
    const channel = await channelOf(account.phoneNumber);
    const { status, body } = await publish(channel, content);
    expect([status, body.to]).toEqual([202, channel]);
    const post = await until(body.id, (message) => message.status === 'sent');
    expect(await inLedger(post)).toHaveLength(1);
    const { posts } = await flotilla.sandbox('GET', `/channels/${channel}`);
    expect(posts.map(({ id }: Message) => id)).toEqual([post.whatsappId]);
    expect(await revoke(body.id)).toMatchObject({ status: 200, body: { revokedAt: expect.any(String) } });
  });

  it('edits a post in an own channel', async () => {
    const channel = await channelOf(account.phoneNumber);
    const { body } = await publish(channel, { text: 'Sael' });
    await until(body.id, (message) => message.status === 'sent');
    expect(await edit(body.id, 'Sale')).toMatchObject({ status: 200, body: { text: 'Sale' } });
    expect(await react(body.id, '👍')).toMatchObject({ status: 409, body: { code: 'message.cannot_react' } });
  });

  it('refuses to post in a channel of somebody else, and holds back no other message', async () => {
    const channel = await channelOf(phone);
    await flotilla.sandbox('POST', `/channels/${channel}/followers`, { phone: account.phoneNumber });
    const [foreign, none] = [
      await publish(channel, { text: 'mine?' }),
      await publish('120363999999999999@newsletter', { text: 'anybody?' }),
    ];
    const last = await publish(phone, { text: 'after the posts' });
    for (const { body } of [foreign, none]) {
      const { error, attempts } = await until(body.id, (message) => message.status === 'failed');
      expect([error.code, attempts]).toEqual(['channel.not_admin', 1]);
    }
    await until(last.body.id, (message) => message.status === 'read');
  });

  it.each([
    ['status', { type: 'poll', poll: { question: 'Q?', options: ['a', 'b'] } }, ['type']],
    ['status', { type: 'location', location: { latitude: 1, longitude: 2 } }, ['type']],
    ['status', { text: 'x', mentions: ['+6281234567890'] }, ['mentions']],
    [
      '120363012345678901@newsletter',
      { type: 'contact', contact: { name: 'S', phone: '+6281234567890' } },
      ['type'],
    ],
    ['120363012345678901@newsletter', { type: 'document', media: picture }, ['type']],
    [
      'Status',
      { type: 'document', media: picture, replyTo: '0192f0c1-7b1e-7cc4-8a55-2f9a3f6d1b20' },
      ['type', 'replyTo'],
    ],
  ])('refuses for %s before it is accepted: %j', async (to, content, paths) => {
    const answer = await publish(to, content);
    expect(answer).toMatchObject({ status: 422, body: { code: 'message.cannot_post' } });
    expect(answer.body.errors.map(({ path }: { path: string }) => path)).toEqual(paths);
    // In a batch too.
    const batch = await workspace.call('POST', '/messages/batch', {
      messages: [{ accountId: account.id, to, ...content }],
    });
    expect(batch.body.items[0].error.code).toBe('message.cannot_post');
  });

  it('needs to know who posts, and takes posts for messages only', async () => {
    for (const to of ['status', '120363012345678901@newsletter'])
      expect(await workspace.send({ to, text: 'who?' })).toMatchObject({
        status: 400,
        body: { errors: [{ path: 'accountId' }] },
      });
    expect(
      await workspace.call('POST', '/messages?wait=delivered', {
        accountId: account.id,
        to: 'status',
        text: 'x',
      }),
    ).toMatchObject({
      status: 400,
      body: { errors: [{ path: 'wait' }] },
    });
    const waited = await workspace.call('POST', '/messages?wait=sent', {
      accountId: account.id,
      to: 'status',
      text: 'now',
    });
    expect([waited.status, waited.body.status]).toEqual([200, 'sent']);
    for (const [method, path, body] of [
      ['POST', `/accounts/${account.id}/groups`, { subject: 'x', participants: ['status'] }],
      ['POST', `/accounts/${account.id}/chats/status/read`, undefined],
      ['GET', `/accounts/${account.id}/numbers/status`, undefined],
    ] as const)
      expect([400, 422]).toContain((await workspace.call(method, path, body)).status);
    expect((await publish('statuses', { text: 'x' })).status).toBe(400);
  });

  it('receives a post with its picture and the name of the channel', async () => {
    const channel = await channelOf(phone);
    await workspace.call('PATCH', `/accounts/${account.id}`, { receive: { channels: true } });
    await flotilla.sandbox('POST', `/channels/${channel}/followers`, { phone: account.phoneNumber });
    await flotilla.sandbox('POST', `/channels/${channel}/posts`, {
      type: 'image',
      text: 'Fresh',
      media: picture,
    });
    const [event] = await workspace.events(['channel.received'], 1, ({ text }) => text === 'Fresh');
    expect(event!.data).toMatchObject({
      from: channel,
      participant: { phone: null, lid: null, name: 'News of the shop' },
      sentAt: expect.any(String),
      media: { mimetype: 'image/png', error: null, mediaId: expect.any(String) },
    });
    expect(await react(event!.data.id, '👍')).toMatchObject({ body: { code: 'message.cannot_react' } });
    expect(await workspace.call('POST', `/messages/${event!.data.id}/read`)).toMatchObject({
      status: 409,
      body: { code: 'message.cannot_read' },
    });
    await workspace.call('PATCH', `/accounts/${account.id}`, { receive: { channels: false } });
  });

  it('tells that a page has no way to post or to reject calls, and sends messages there as before', async () => {
    await befriend();
    const { items } = await flotilla.sandbox('GET', '/builds');
    const { version } = items.find(({ isCurrent }: Message) => isCurrent);
    const reload = async () => {
      await workspace.call('POST', `/accounts/${account.id}/restart`);
      await eventually('away', async () => (await workspace.account(account.id)).status !== 'ready');
      return workspace.untilStatus(account.id, 'ready');
    };
    const missing = [
      'WAWebStatusMsgDataUtils.createTextStatusMsgData',
      'WAWebNewsletterSendMessageJob',
      'WADeprecatedSendIq',
    ];
    const channel = await channelOf(account.phoneNumber);
    await flotilla.sandbox('PUT', '/build', { version, damage: { missing } });
    try {
      const { contract, contractMissing } = await reload();
      expect(contract).toBe('ok');
      expect(contractMissing.map((name: string) => name.replace('()', ''))).toEqual(
        expect.arrayContaining(missing),
      );
      await workspace.call('PATCH', `/accounts/${account.id}`, {
        rejectCalls: true,
        callAnswer: 'No calls.',
      });
      const call = await flotilla.sandbox('POST', `/phones/${phone}/calls`, { to: account.phoneNumber });
      for (const to of ['status', channel]) {
        const { body } = await publish(to, { text: 'on a broken page' });
        const message = await until(body.id, ({ status }) => status === 'failed');
        expect(message.error.code).toBe('whatsapp.cannot_post');
        expect(await inLedger(message)).toEqual([]);
      }
      const { body } = await publish(phone, { text: 'on a broken page' });
      await until(body.id, (message) => message.status === 'read');
      await flotilla.sandbox('DELETE', `/phones/${phone}/calls/${call.id}`);
      const told = await workspace.events(['call.*'], 2, ({ callId }) => callId === call.id);
      expect(told.map(({ type }) => type)).toEqual(['call.received', 'call.missed']);
      await workspace.call('PATCH', `/accounts/${account.id}`, { rejectCalls: false });
    } finally {
      await flotilla.sandbox('PUT', '/build', { version });
      await reload();
    }
  });

  it('posts each story once, though an instance is killed in the middle', async () => {
    await befriend();
    const contents = Array.from({ length: 8 }, (_, index) =>
      index % 2 === 0
        ? { text: `story ${index} of eight` }
        : { type: 'image', media: { ...picture, caption: `story ${index} of eight` } },
    );
    const posted = [];
    for (const content of contents) posted.push(await publish('status', content));
    await until(posted[1]!.body.id, (message) => message.status === 'sent');
    await flotilla.stack.kill('flotilla:instance_00');
    await workspace.untilAllSent();
    const statuses = [];
    for (const { body } of posted) {
      const message = await until(body.id, ({ status }) => ['sent', 'unknown'].includes(status));
      statuses.push(message.status);
      const entries = await inLedger(message);
      // Nobody can tell whether the story left that was interrupted. It is not posted again.
      expect(entries.length).toBeLessThanOrEqual(1);
      if (message.status === 'sent') expect(entries).toHaveLength(1);
    }
    expect(statuses.filter((status) => status === 'unknown').length).toBeLessThanOrEqual(1);
  }, 90_000);
});

describe('who may', () => {
  it('is a sender of the workspace, and nobody else', async () => {
    const { id, whatsappId } = await sent('ours alone');
    const stranger = await flotilla.newWorkspace();
    const [viewer, sender] = [await workspace.keyFor('viewer'), await workspace.keyFor('sender')];
    const everything = (key: string) => [edit(id, 'x', key), react(id, '👍', key), revoke(id, key)];
    for (const act of everything(stranger.key))
      expect(await act).toMatchObject({ status: 404, body: { code: 'message.not_found' } });
    for (const act of everything(viewer)) expect((await act).status).toBe(403);
    for (const act of everything('fl_nonsense')) expect((await act).status).toBe(401);
    expect(await deeds(whatsappId)).toEqual([]);
    expect((await edit(id, 'ours still', sender)).status).toBe(200);
    expect(await edit('01960000-0000-7000-8000-000000000000', 'x')).toMatchObject({ status: 404 });
    expect(await edit('x', 'x')).toMatchObject({ status: 400 });
  });
});
