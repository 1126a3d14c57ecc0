import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type Answer, Flotilla, type Workspace } from '../support/flotilla.js';

/* What is read of an account's WhatsApp, through HTTP, with real browsers: numbers, chats, contacts, history, pictures. */

let flotilla: Flotilla;
let workspace: Workspace;
let account: { id: string; phoneNumber: string };

beforeAll(async () => {
  flotilla = await Flotilla.start({ instances: 1 });
  workspace = await flotilla.newWorkspace();
  [account] = (await workspace.linkedAccounts(1)) as [typeof account];
});
afterAll(() => flotilla?.stop());

type Json = Answer['body'];

const lid = (phone: string) => `1${[...phone].reverse().join('')}@lid`;
const path = (rest: string) => `/accounts/${account.id}${rest}`;
const call = (method: string, rest: string, body?: unknown) => workspace.call(method, path(rest), body);

/** A person who has written to the account. */
async function friend(name: string, ...texts: string[]): Promise<string> {
  const { phone } = await flotilla.sandbox('POST', '/phones', { name });
  for (const text of texts)
    await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: account.phoneNumber, text });
  const last = texts.at(-1);
  await eventually('received', async () => {
    const { body } = await workspace.call('GET', '/messages?direction=incoming&limit=200');
    return last === undefined || body.items.some(({ text }: Json) => text === last);
  });
  return phone;
}

/** A picture of one pixel. */
const png = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);

/** A phone's owner takes a picture. */
async function takePicture(phone: string, bytes = png): Promise<void> {
  await flotilla.sandbox('PATCH', `/phones/${phone}`, { picture: bytes.toString('base64') });
}

async function chat(id: string): Promise<Json> {
  return (await call('GET', '/chats?limit=200')).body.items.find((item: Json) => item.id === id);
}

/** All pages of a list. */
async function pages(rest: string, limit: number): Promise<Json[]> {
  const items: Json[] = [];
  let cursor: string | null = '';
  while (cursor !== null) {
    const { status, body }: Answer = await call(
      'GET',
      `${rest}?limit=${limit}${cursor && `&cursor=${cursor}`}`,
    );
    expect(status).toBe(200);
    expect(body.items.length).toBeLessThanOrEqual(limit);
    items.push(...body.items);
    cursor = body.nextCursor;
  }
  return items;
}

describe('GET /accounts/:id/numbers/:phone', () => {
  it('tells who has WhatsApp, in any usual notation', async () => {
    const phone = await flotilla.newPhone();
    const known = { phone, registered: true, chatId: `${phone}@c.us`, lid: lid(phone) };
    const forms = [phone, `+${phone}`, `00${phone}`, `+${phone.slice(0, 2)} ${phone.slice(2)}`];
    for (const text of [...forms, `${phone}@c.us`, `${phone}@s.whatsapp.net`])
      expect(await call('GET', `/numbers/${encodeURIComponent(text)}`)).toMatchObject({
        status: 200,
        body: known,
      });
    expect((await call('GET', `/numbers/${lid(phone)}`)).body).toEqual({ ...known, chatId: lid(phone) });
    expect((await call('GET', '/numbers/+6281100000009')).body).toEqual({
      phone: '6281100000009',
      registered: false,
      chatId: null,
      lid: null,
    });
  });

  it('remembers the answer for a while', async () => {
    const phone = '6281100000019';
    expect((await call('GET', `/numbers/${phone}`)).body.registered).toBe(false);
    await flotilla.sandbox('POST', '/phones', { phone });
    expect((await call('GET', `/numbers/${phone}`)).body.registered).toBe(false);
  });

  it.each(['hello', '12', '+0', '%2B%2B62', '999999999999999999999999', '6281%27--'])(
    'answers 422 to %s',
    async (nonsense) => {
      expect(await call('GET', `/numbers/${nonsense}`)).toMatchObject({
        status: 422,
        body: { code: 'number.invalid' },
      });
    },
  );
});

describe('GET /accounts/:id/chats', () => {
  it('has the latest first, with who it is and what is unread', async () => {
    const dewi = await friend('Dewi', 'one', 'two');
    expect(await chat(`${dewi}@c.us`)).toEqual({
      id: `${dewi}@c.us`,
      phone: dewi,
      lid: lid(dewi),
      name: 'Dewi',
      isGroup: false,
      unreadCount: 2,
      lastMessageAt: expect.any(String),
      archived: false,
      pinned: false,
      muted: false,
    });
    await call('POST', `/chats/${dewi}/read`);
    expect((await chat(`${dewi}@c.us`)).unreadCount).toBe(0);
  });

  it('pages through all of them, each once, in an order that stays', async () => {
    for (const name of ['Ana', 'Ben', 'Cia', 'Dan']) await friend(name, `from ${name}`);
    const all = await pages('/chats', 200);
    expect(all.length).toBeGreaterThanOrEqual(4);
    expect((await pages('/chats', 1)).map(({ id }) => id)).toEqual(all.map(({ id }) => id));
    const times = all.map(({ lastMessageAt }) => Date.parse(lastMessageAt));
    expect(times).toEqual([...times].sort((a, b) => b - a));
    for (const bad of ['cursor=***', 'cursor=bm9uc2Vuc2U', 'limit=0', 'limit=201', 'x=1'])
      expect(await call('GET', `/chats?${bad}`)).toMatchObject({
        status: 400,
        body: { code: 'validation.failed' },
      });
  });

  it('knows somebody who hides the number by the LID alone', async () => {
    const { phone } = await flotilla.sandbox('POST', '/phones', { name: 'Nobody' });
    await flotilla.sandbox('PATCH', `/phones/${phone}`, { hidesNumber: true });
    const text = 'guess who';
    await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: account.phoneNumber, text });
    const found = await eventually('the chat', () => chat(lid(phone)));
    expect(found).toMatchObject({ phone: null, lid: lid(phone), name: 'Nobody', unreadCount: 1 });
    const { body } = await call('GET', `/chats/${lid(phone)}/messages`);
    expect(body.items).toMatchObject([{ text, from: { phone: null, lid: lid(phone) } }]);
  });

  it('archives, pins, mutes, and shows that somebody types or records', async () => {
    const phone = await friend('Eve', 'hi');
    const id = `${phone}@c.us`;
    expect((await call('PATCH', `/chats/${id}`, { archived: true, pinned: true, muted: true })).status).toBe(
      204,
    );
    expect(await chat(id)).toMatchObject({ archived: true, pinned: true, muted: true });
    expect(
      (await call('PATCH', `/chats/${id}`, { archived: false, pinned: false, muted: false })).status,
    ).toBe(204);
    expect(await chat(id)).toMatchObject({ archived: false, pinned: false, muted: false });
    const stats = () => flotilla.sandbox('GET', '/stats');
    const before = await stats();
    for (const [state, counted] of [
      ['typing', 'typing'],
      ['recording', 'recording'],
      ['stop', 'paused'],
    ] as const) {
      expect((await call('POST', `/chats/${id}/state`, { state })).status).toBe(204);
      await eventually(state, async () => (await stats())[counted] === before[counted] + 1);
    }
    expect((await call('POST', `/chats/${id}/state`, { state: 'dancing' })).status).toBe(400);
    expect((await call('PATCH', `/chats/${id}`, { archived: 'yes' })).status).toBe(400);
  });
});

describe('PATCH /accounts/:id/chats/:chatId', () => {
  it('pins three chats and no more', async () => {
    const pin = (phone: string, pinned: boolean) => call('PATCH', `/chats/${phone}`, { pinned });
    const phones: string[] = [];
    for (const name of ['Kim', 'Lea', 'Mia', 'Noa']) phones.push(await friend(name, `hello from ${name}`));
    const [first, second, third, fourth] = phones as [string, string, string, string];
    for (const phone of [first, second, third]) expect((await pin(phone, true)).status).toBe(204);
    expect(await pin(fourth, true)).toMatchObject({ status: 409, body: { code: 'chat.cannot_pin' } });
    expect((await chat(`${fourth}@c.us`)).pinned).toBe(false);
    for (const phone of [first, second, third]) expect((await pin(phone, false)).status).toBe(204);
    expect((await pin(fourth, true)).status).toBe(204);
    expect((await pin(fourth, false)).status).toBe(204);
  });
});

describe('GET /accounts/:id/chats/:chatId/messages', () => {
  afterEach(() => flotilla.sandbox('DELETE', '/faults'));

  it('has both sides, the newest first, with the ids of our messages', async () => {
    const phone = await friend('Fay', 'question');
    const { body: sent } = await workspace.send({ accountId: account.id, to: phone, text: 'answer' });
    await eventually(
      'read',
      async () => (await workspace.call('GET', `/messages/${sent.id}`)).body.status === 'read',
    );
    const { status, body } = await call('GET', `/chats/${phone}@c.us/messages`);
    expect(status).toBe(200);
    expect(body.nextCursor).toBeNull();
    const person = (of: string) => ({ phone: of, lid: lid(of) });
    expect(body.items).toEqual([
      {
        id: sent.id,
        whatsappId: sent.whatsappId,
        chatId: `${phone}@c.us`,
        direction: 'outgoing',
        type: 'text',
        from: expect.objectContaining({ phone: account.phoneNumber }),
        text: 'answer',
        status: 'read',
        replyToWhatsappId: null,
        createdAt: expect.any(String),
        editedAt: null,
      },
      expect.objectContaining({
        id: expect.any(String),
        direction: 'incoming',
        from: person(phone),
        text: 'question',
        status: 'received',
      }),
    ]);
    // By the number, and by the LID, it is the same chat.
    for (const id of [phone, `+${phone}`, lid(phone)])
      expect((await call('GET', `/chats/${encodeURIComponent(id)}/messages`)).body).toEqual(body);
    await workspace.call('PATCH', `/messages/${sent.id}`, { text: 'better answer' });
    const [edited] = (await call('GET', `/chats/${phone}/messages?limit=1`)).body.items;
    expect(edited).toMatchObject({ text: 'better answer', editedAt: expect.any(String) });
  });

  it('pages through a chat that the page has to load, also after a restart of the browser', async () => {
    // What the page holds without loading is not enough for any of this.
    await flotilla.sandbox('PUT', '/faults', { phone: account.phoneNumber, messagesInMemory: 5 });
    const texts = Array.from({ length: 25 }, (_, i) => `line ${i}`);
    const phone = await friend('Gus', ...texts);
    const read = async () => (await pages(`/chats/${phone}/messages`, 4)).map(({ text }) => text);
    await eventually('all of them', async () => (await read()).length === texts.length);
    expect(await read()).toEqual([...texts].reverse());
    await workspace.call('POST', path('/restart'));
    await eventually('restarting', async () => (await workspace.account(account.id)).status !== 'ready');
    await workspace.untilStatus(account.id, 'ready');
    expect(await read()).toEqual([...texts].reverse());
  });

  it('answers 404 for a chat that there is not, and 400 for nonsense', async () => {
    const stranger = await flotilla.newPhone();
    const requests = [
      ['GET', `/chats/${stranger}/messages`, undefined],
      ['POST', `/chats/${stranger}/read`, undefined],
      ['POST', `/chats/${stranger}/state`, undefined],
      ['PATCH', `/chats/${stranger}`, { archived: true }],
      ['GET', '/chats/120363000000000001@g.us/messages', undefined],
    ] as const;
    for (const [method, rest, body] of requests)
      expect(await call(method, rest, body)).toMatchObject({ status: 404, body: { code: 'chat.not_found' } });
    expect(await call('GET', '/chats/nonsense/messages')).toMatchObject({
      status: 400,
      body: { code: 'validation.failed' },
    });
  });
});

describe('GET /accounts/:id/contacts', () => {
  it('has everybody once, with the name of the address book and their own', async () => {
    const phone = await friend('Hana', 'my number');
    await flotilla.sandbox('PUT', `/phones/${account.phoneNumber}/contacts`, { phone, name: 'My Hana' });
    const found = await eventually('the contact', async () =>
      (await pages('/contacts', 200)).find((contact) => contact.phone === phone),
    );
    expect(found).toEqual({
      id: `${phone}@c.us`,
      phone,
      lid: lid(phone),
      name: 'My Hana',
      pushname: 'Hana',
      isBusiness: false,
      isMyContact: true,
      isBlocked: false,
    });
    const all = await pages('/contacts', 200);
    expect((await pages('/contacts', 2)).map(({ id }) => id)).toEqual(all.map(({ id }) => id));
    expect(new Set(all.map((contact) => contact.lid)).size).toBe(all.length);
    expect(all.map((contact) => contact.phone)).not.toContain(account.phoneNumber);
    await flotilla.sandbox('PUT', `/phones/${account.phoneNumber}/contacts`, { phone });
    await eventually('taken out', async () =>
      (await pages('/contacts', 200)).some((contact) => contact.phone === phone && !contact.isMyContact),
    );
  });
});

describe('GET /accounts/:id/contacts/:contactId', () => {
  const contact = (id: string) => call('GET', `/contacts/${encodeURIComponent(id)}`);
  const lastOf = async (text: string): Promise<Json> => {
    const { body } = await workspace.call('GET', '/messages?direction=incoming&limit=200');
    return body.items.find((message: Json) => message.text === text);
  };

  it('has one person under any id, and messages have the same name', async () => {
    const phone = await friend('Kiki', 'from Kiki');
    const known = { id: `${phone}@c.us`, phone, lid: lid(phone), isBusiness: false, isBlocked: false };
    for (const id of [phone, `+${phone}`, `${phone}@c.us`, lid(phone)])
      expect(await contact(id)).toMatchObject({
        status: 200,
        body: { ...known, name: null, pushname: 'Kiki', isMyContact: false },
      });
    expect((await lastOf('from Kiki')).participant).toEqual({ phone, lid: lid(phone), name: 'Kiki' });
    await flotilla.sandbox('PUT', `/phones/${account.phoneNumber}/contacts`, { phone, name: 'My Kiki' });
    await eventually('saved', async () => (await contact(phone)).body.isMyContact);
    expect((await contact(lid(phone))).body).toMatchObject({ ...known, name: 'My Kiki', pushname: 'Kiki' });
    await flotilla.sandbox('POST', `/phones/${phone}/messages`, {
      to: account.phoneNumber,
      text: 'saved Kiki',
    });
    const message = await eventually('received', () => lastOf('saved Kiki'));
    expect(message.participant).toEqual({ phone, lid: lid(phone), name: 'My Kiki' });
  });

  it('keeps a hidden number hidden, in the contact and in messages, also in a group', async () => {
    const { phone } = await flotilla.sandbox('POST', '/phones', { name: 'Lia' });
    await flotilla.sandbox('PATCH', `/phones/${phone}`, { hidesNumber: true });
    await flotilla.sandbox('POST', `/phones/${phone}/messages`, {
      to: account.phoneNumber,
      text: 'from Lia',
    });
    const message = await eventually('received', () => lastOf('from Lia'));
    expect(message).toMatchObject({
      from: lid(phone),
      participant: { phone: null, lid: lid(phone), name: 'Lia' },
    });
    const { status, body } = await contact(lid(phone));
    expect(status).toBe(200);
    expect(body).toMatchObject({ id: lid(phone), phone: null, lid: lid(phone), name: null, pushname: 'Lia' });
    const max = await friend('Max', 'from Max');
    const participants = [account.phoneNumber, phone];
    const market = await flotilla.sandbox('POST', '/groups', { owner: max, subject: 'Market', participants });
    await flotilla.sandbox('POST', `/phones/${phone}/messages`, { to: market.id, text: 'from Lia to all' });
    const toAll = await eventually('received in the group', () => lastOf('from Lia to all'));
    expect(toAll).toMatchObject({
      from: market.id,
      participant: { phone: null, lid: lid(phone), name: 'Lia' },
      group: { id: market.id, subject: 'Market' },
    });
    expect(JSON.stringify([message, body, toAll])).not.toContain(phone);
  });

  it('has no names of a stranger, 404 for a number without WhatsApp, and 400 for nonsense', async () => {
    const stranger = await flotilla.newPhone();
    expect(await contact(stranger)).toMatchObject({
      status: 200,
      body: { phone: stranger, name: null, isMyContact: false },
    });
    expect(await contact('6281100000009')).toMatchObject({
      status: 404,
      body: { code: 'contact.not_found' },
    });
    for (const nonsense of ['nonsense', '120363012345678901@g.us', '12'])
      expect(await contact(nonsense)).toMatchObject({ status: 400, body: { code: 'validation.failed' } });
  });
});

describe('POST /accounts/:id/chats/:chatId/presence', () => {
  const watch = (chatId: string, body?: object) => call('POST', `/chats/${chatId}/presence`, body);
  const act = (phone: string, state: string, to?: string) =>
    flotilla.sandbox('PUT', `/phones/${phone}/presence`, { state, to });
  const events = (chatId: string, count: number) =>
    workspace.events(['account.presence'], count, (data) => data.chatId === chatId);

  it('tells who is online and types, and when the person was online last, while it is watched', async () => {
    const phone = await friend('Nia', 'are you there?');
    await act(phone, 'available');
    const before = Math.floor(Date.now() / 1000) * 1000;
    const { status, body } = await watch(phone);
    expect(status).toBe(200);
    const nia = { chatId: `${phone}@c.us`, phone, lid: lid(phone), participant: null };
    expect(body).toEqual({ ...nia, state: 'available', lastSeenAt: null, watchedUntil: expect.any(String) });
    expect(Date.parse(body.watchedUntil)).toBeGreaterThan(Date.now() + 290_000);
    const states = [];
    for (const [state, to] of [
      ['composing', account.phoneNumber],
      ['paused', account.phoneNumber],
      ['recording', account.phoneNumber],
      ['unavailable', undefined],
    ] as const) {
      await act(phone, state, to);
      states.push((await events(nia.chatId, states.length + 1)).at(-1)!.data);
    }
    expect(states).toMatchObject([
      { accountId: account.id, ...nia, state: 'typing', lastSeenAt: null },
      { state: 'available' },
      { state: 'recording' },
      { state: 'unavailable' },
    ]);
    expect(Date.parse(states[3].lastSeenAt)).toBeGreaterThanOrEqual(before);
    // By the hidden number it is the same chat.
    expect((await watch(lid(phone), { seconds: 1 })).body).toMatchObject({ ...nia, state: 'unavailable' });
  });

  it('tells no last seen that the person hides, and in a group who types', async () => {
    const phone = await friend('Oki', 'in private');
    await flotilla.sandbox('PATCH', `/phones/${phone}`, { hidesLastSeen: true });
    for (const state of ['available', 'unavailable']) await act(phone, state);
    expect((await watch(phone)).body).toMatchObject({ state: 'unavailable', lastSeenAt: null });
    const { body: group } = await call('POST', '/groups', { subject: 'Oki', participants: [phone] });
    expect((await watch(group.id)).body).toMatchObject({ chatId: group.id, phone: null, state: 'unknown' });
    await act(phone, 'composing', group.id);
    const [typing] = await events(group.id, 1);
    expect(typing!.data).toMatchObject({ state: 'typing', participant: { lid: lid(phone) } });
  });

  it('ends with its time, and refuses nonsense and strangers', async () => {
    const phone = await friend('Pia2', 'watched briefly');
    expect((await watch(phone, { seconds: 1 })).status).toBe(200);
    const last = await friend('Quin', 'watched longer');
    expect((await watch(last, { seconds: 60 })).status).toBe(200);
    const ends = Date.now() + 1_500;
    await eventually('the first has ended', () => Date.now() > ends);
    await act(phone, 'available');
    await act(last, 'available');
    await events(`${last}@c.us`, 1);
    const all = await workspace.events(['account.presence'], 1, ({ chatId }) =>
      [`${phone}@c.us`, `${last}@c.us`].includes(chatId),
    );
    expect(all[0]!.data.chatId).toBe(`${last}@c.us`);
    for (const seconds of [0, 3_601, 'long', 1.5])
      expect(await watch(last, { seconds })).toMatchObject({
        status: 400,
        body: { code: 'validation.failed' },
      });
    expect(await watch(await flotilla.newPhone())).toMatchObject({
      status: 404,
      body: { code: 'chat.not_found' },
    });
    expect((await watch('nonsense')).status).toBe(400);
  });
});

describe('calls', () => {
  const ring = async (from: string, body: object = {}) =>
    (await flotilla.sandbox('POST', `/phones/${from}/calls`, { to: account.phoneNumber, ...body }))
      .id as string;
  const hangUp = (phone: string, id: string) => flotilla.sandbox('DELETE', `/phones/${phone}/calls/${id}`);
  const inSandbox = async (id: string) =>
    (await flotilla.sandbox('GET', '/calls')).items.find((call: Json) => call.id === id);
  /** The events of some calls, once there are so many. */
  const events = (count: number, ...ids: string[]) =>
    workspace.events(['call.*'], count, ({ callId }) => ids.includes(callId));
  const set = (body: object) => workspace.call('PATCH', `/accounts/${account.id}`, body);
  afterEach(() => set({ rejectCalls: false, callAnswer: null }));

  it('are told with who calls, and as missed if nobody took them', async () => {
    const before = Math.floor(Date.now() / 1000) * 1000;
    const [nia, oki] = [await friend('Nia', 'call me'), await flotilla.newPhone()];
    await flotilla.sandbox('PATCH', `/phones/${oki}`, { hidesNumber: true });
    const { body: group } = await call('POST', '/groups', { subject: 'Callers', participants: [nia] });
    const ids = [
      await ring(nia, { video: true }),
      await ring(oki),
      await ring(nia, { to: group.id }),
      await ring(nia),
    ] as const;
    const common = { accountId: account.id, group: null, groupCall: false, at: expect.any(String) };
    const whole = [
      { ...common, callId: ids[0], participant: { phone: nia, lid: lid(nia), name: 'Nia' }, video: true },
      { ...common, callId: ids[1], participant: { phone: null, lid: lid(oki), name: null }, video: false },
      {
        ...common,
        callId: ids[2],
        participant: { phone: nia, lid: lid(nia), name: 'Nia' },
        group: { id: group.id, subject: 'Callers' },
        groupCall: true,
        video: false,
      },
    ];
    const told = await events(4, ...ids);
    expect(told.slice(0, 3)).toMatchObject(whole.map((data) => ({ type: 'call.received', data })));
    expect(Date.parse(told[0]!.data.at)).toBeGreaterThanOrEqual(before);
    // The last one is answered on the phone.
    await flotilla.sandbox('POST', `/phones/${account.phoneNumber}/calls/${ids[3]}/answer`);
    await hangUp(nia, ids[0]);
    await hangUp(account.phoneNumber, ids[1]);
    await hangUp(nia, ids[2]);
    const all = await events(7, ...ids);
    expect(all.slice(4).sort((a, b) => ids.indexOf(a.data.callId) - ids.indexOf(b.data.callId))).toEqual(
      told.slice(0, 3).map(({ data }) => expect.objectContaining({ type: 'call.missed', data })),
    );
    expect((await inSandbox(ids[3])).state).toBe('answered');
    expect(
      (await call('GET', `/chats/${nia}/messages?limit=50`)).body.items.map(({ type }: Json) => type),
    ).not.toContain('unsupported');
  });

  it('are told as missed, with their own time, if the account was away', async () => {
    const phone = await flotilla.newPhone();
    await workspace.call('POST', `/accounts/${account.id}/disconnect`);
    await workspace.untilStatus(account.id, 'disconnected');
    const id = await ring(phone, { video: true });
    await hangUp(phone, id);
    await set({ rejectCalls: true, callAnswer: 'Please write.' });
    await workspace.call('POST', `/accounts/${account.id}/connect`, {});
    await workspace.untilStatus(account.id, 'ready');
    const [missed] = await events(1, id);
    const at = new Date(Math.floor(Date.parse((await inSandbox(id)).at) / 1000) * 1000).toISOString();
    expect(missed).toMatchObject({ type: 'call.missed', data: { participant: { phone }, video: true, at } });
    // WhatsApp may tell of the ringing of a call that is over: it is neither rejected nor answered.
    const old = await ring(phone, { at: new Date(Date.now() - 600_000).toISOString() });
    const fresh = await ring(phone);
    const told = await events(3, old, fresh);
    expect(told.map(({ type, data }) => [type, data.callId])).toEqual([
      ['call.received', old],
      ['call.received', fresh],
      ['call.rejected', fresh],
    ]);
    expect(await inSandbox(old)).toMatchObject({ state: 'ringing', rejectedBy: [] });
    expect(await inSandbox(fresh)).toMatchObject({ state: 'rejected', rejectedBy: [account.phoneNumber] });
  });

  it('are rejected if the account wants it, with one answer to a person who calls again and again', async () => {
    expect((await workspace.account(account.id)).rejectCalls).toBe(false);
    const { status, body } = await set({ rejectCalls: true, callAnswer: 'Please write to us.' });
    expect([status, body.rejectCalls, body.callAnswer]).toEqual([200, true, 'Please write to us.']);
    const [nia, oki] = [await friend('Nia', 'I call'), await flotilla.newPhone()];
    const ids = [await ring(nia), await ring(nia, { video: true }), await ring(oki)];
    const told = await events(6, ...ids);
    const rejected = told.filter(({ type }) => type === 'call.rejected');
    expect(rejected.map(({ data }) => data.callId).sort()).toEqual([...ids].sort());
    for (const id of ids) expect((await inSandbox(id)).state).toBe('rejected');
    const answers = rejected.map(({ data }) => data.answerId).filter((id) => id !== null);
    expect(answers).toHaveLength(2);
    for (const id of answers) {
      await eventually('sent', async () =>
        ['sent', 'delivered', 'read'].includes((await workspace.call('GET', `/messages/${id}`)).body.status),
      );
    }
    for (const phone of [nia, oki]) {
      const { items } = await flotilla.sandbox('GET', `/phones/${phone}/inbox`);
      expect(items.filter(({ text }: Json) => text === 'Please write to us.')).toHaveLength(1);
    }
    expect((await set({ callAnswer: null })).body).toMatchObject({ rejectCalls: true, callAnswer: null });
    // What was rejected is not missed, also when the page is loaded again.
    await workspace.call('POST', `/accounts/${account.id}/restart`);
    await eventually('another browser', async () => (await workspace.account(account.id)).status !== 'ready');
    await workspace.untilStatus(account.id, 'ready');
    const last = await ring(oki);
    const all = await events(8, ...ids, last);
    expect(all.map(({ type }) => type)).not.toContain('call.missed');
    expect(all.at(-1)).toMatchObject({ type: 'call.rejected', data: { callId: last, answerId: null } });
  });

  it.each([
    { rejectCalls: 'yes' },
    { callAnswer: '' },
    { callAnswer: ' \n' },
    { callAnswer: 'x'.repeat(4_097) },
    { callAnswer: 7 },
  ])('have no setting %j', async (body) => {
    expect(await set(body)).toMatchObject({ status: 400, body: { code: 'validation.failed' } });
  });
});

describe('profile pictures', () => {
  const fetchPicture = (rest: string) =>
    fetch(`${flotilla.stack.urls.api}/api/v1${path(rest)}`, {
      headers: { authorization: `Bearer ${workspace.key}` },
    });

  it('are the bytes themselves, of persons and groups', async () => {
    const phone = await friend('Ida');
    await takePicture(phone);
    const participants = [phone];
    const { body: group } = await call('POST', '/groups', { subject: 'Pictures', participants });
    await flotilla.sandbox('PATCH', `/groups/${group.id}`, { picture: png.toString('base64') });
    for (const rest of [
      `/contacts/${phone}/picture`,
      `/contacts/${lid(phone)}/picture`,
      `/groups/${group.id}/picture`,
    ]) {
      const response = await fetchPicture(rest);
      expect(response.status).toBe(200);
      expect(response.headers.get('content-type')).toBe('image/png');
      expect(response.headers.get('x-content-type-options')).toBe('nosniff');
      expect(Buffer.from(await response.arrayBuffer())).toEqual(png);
    }
  });

  it('are refused when they are larger than any that WhatsApp makes', async () => {
    const phone = await friend('Big');
    await takePicture(phone, Buffer.concat([png, Buffer.alloc(1024 * 1024)]));
    expect(await call('GET', `/contacts/${phone}/picture`)).toMatchObject({
      status: 502,
      body: { code: 'contact.picture_too_large' },
    });
  });

  it('are not found when there are none, or nobody', async () => {
    const phone = await friend('Jon');
    const { body: group } = await call('POST', '/groups', { subject: 'Plain', participants: [phone] });
    for (const [rest, code] of [
      [`/contacts/${phone}/picture`, 'contact.no_picture'],
      ['/contacts/6281100000009/picture', 'contact.not_found'],
      [`/groups/${group.id}/picture`, 'group.no_picture'],
      ['/groups/120363000000000001@g.us/picture', 'group.not_found'],
    ] as const)
      expect(await call('GET', rest)).toMatchObject({ status: 404, body: { code } });
    expect((await call('GET', '/contacts/nonsense/picture')).status).toBe(400);
  });
});

describe('who may, and when', () => {
  const reads = (phone: string) => [
    `/numbers/${phone}`,
    '/chats',
    '/contacts',
    `/contacts/${phone}`,
    `/chats/${phone}/messages`,
    `/contacts/${phone}/picture`,
  ];
  const changes = [
    ['POST', '/chats/6281234567890/read', undefined],
    ['POST', '/chats/6281234567890/state', { state: 'typing' }],
    ['POST', '/chats/6281234567890/presence', { seconds: 1 }],
    ['PATCH', '/chats/6281234567890', { archived: true }],
  ] as const;

  it('viewers read, senders mark as read, others see nothing', async () => {
    const { key: foreign } = await flotilla.newWorkspace('other');
    const [viewer, sender] = [await workspace.keyFor('viewer'), await workspace.keyFor('sender')];
    const phone = await friend('Pia', 'who sees this?');
    await takePicture(phone);
    for (const rest of reads(phone)) {
      expect((await flotilla.call('GET', path(rest), undefined, viewer)).status).toBe(200);
      expect((await flotilla.call('GET', path(rest), undefined, null)).status).toBe(401);
      expect(await flotilla.call('GET', path(rest), undefined, foreign)).toMatchObject({
        status: 404,
        body: { code: 'account.not_found' },
      });
    }
    for (const [method, rest, body] of changes) {
      expect((await flotilla.call(method, path(rest), body, viewer)).status).toBe(403);
      expect((await flotilla.call(method, path(rest), body, sender)).body.code).toBe('chat.not_found');
      expect((await flotilla.call(method, path(rest), body, null)).status).toBe(401);
      expect((await flotilla.call(method, path(rest), body, foreign)).body.code).toBe('account.not_found');
    }
  });

  it('says that WhatsApp gives no answer while it is silent', async () => {
    await flotilla.sandbox('PUT', '/faults', { silent: true });
    expect(await call('GET', '/numbers/6281100000029')).toMatchObject({
      status: 504,
      body: { code: 'whatsapp.no_answer' },
    });
    await flotilla.sandbox('DELETE', '/faults');
    // What the page knows by itself needs no answer of WhatsApp.
    expect((await call('GET', '/chats')).status).toBe(200);
  });

  it('needs a ready account', async () => {
    await call('POST', '/disconnect');
    await eventually('offline', async () => (await flotilla.sandbox('GET', '/stats')).online === 0);
    for (const rest of reads('6281234567890'))
      expect(await call('GET', rest)).toMatchObject({ status: 409, body: { code: 'account.not_ready' } });
    for (const [method, rest, body] of changes)
      expect((await call(method, rest, body)).body.code).toBe('account.not_ready');
  });
});
