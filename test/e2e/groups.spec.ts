import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../support/eventually.js';
import { type Answer, Flotilla, type Workspace } from '../support/flotilla.js';

/* Groups through HTTP, with real browsers, against the simulated WhatsApp. */

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
const person = (phone: string) => ({ phone, lid: lid(phone) });
const at = (path = '') => `/accounts/${account.id}/groups${path}`;
const call = (method: string, path = '', body?: unknown) => workspace.call(method, at(path), body);

async function created(...participants: string[]): Promise<Json> {
  const answer = await call('POST', '', { subject: 'Choir', participants });
  expect(answer.status).toBe(201);
  return answer.body;
}

/** A group of somebody else's that the account is a plain member of. */
async function joined(owner: string): Promise<string> {
  const participants = [account.phoneNumber];
  const { id } = await flotilla.sandbox('POST', '/groups', { owner, subject: 'Theirs', participants });
  await eventually('the account knows the group', async () => (await call('GET', `/${id}`)).status === 200);
  return id;
}

/** The events of a group, from the first on; waits until there are `count`. */
function eventsOf(groupId: string, count: number): Promise<Json[]> {
  return workspace.events(['group.*'], count, (data) => data.groupId === groupId);
}

describe('making a group', () => {
  it('tells what became of each participant, by number and LID', async () => {
    const [friend, shy] = [await flotilla.newPhone(), await flotilla.newPhone()];
    await flotilla.sandbox('PATCH', `/phones/${shy}`, { joinsByInviteOnly: true });
    const group = await created(`+${friend}`, `${shy}@c.us`, '+6281100000009');
    expect(group).toMatchObject({
      subject: 'Choir',
      participantCount: 2,
      isAdmin: true,
      isMember: true,
      description: null,
      owner: person(account.phoneNumber),
      announcementsOnly: false,
      results: [
        { participant: `+${friend}`, ...person(friend), status: 'done' },
        { participant: `${shy}@c.us`, phone: shy, status: 'needs_invite' },
        { participant: '+6281100000009', phone: '6281100000009', lid: null, status: 'not_registered' },
      ],
    });
    expect(group.inviteCode).toHaveLength(22);
    expect(Date.parse(group.createdAt)).toBeLessThanOrEqual(Date.now());
    expect(group.participants).toEqual([
      { ...person(account.phoneNumber), isAdmin: true, isSuperAdmin: true },
      { ...person(friend), isAdmin: false, isSuperAdmin: false },
    ]);
    const { body: read } = await call('GET', `/${group.id}`);
    expect({ ...read, results: group.results }).toEqual(group);
  });

  it('lists groups page by page, each once', async () => {
    const friend = await flotilla.newPhone();
    for (let i = 0; i < 3; i += 1) await created(friend);
    const all = (await call('GET')).body.items.map(({ id }: Json) => id);
    expect(all.length).toBeGreaterThanOrEqual(3);
    const paged: string[] = [];
    let cursor: string | null = '';
    while (cursor !== null) {
      const { body }: Answer = await call('GET', `?limit=1${cursor && `&cursor=${cursor}`}`);
      paged.push(...body.items.map(({ id }: Json) => id));
      cursor = body.nextCursor;
    }
    expect(paged).toEqual(all);
    expect((await call('GET', '?cursor=nonsense')).body.code).toBe('validation.failed');
  });

  it.each([
    ['no subject', { participants: ['+6281234567890'] }],
    ['a blank subject', { subject: ' ', participants: ['+6281234567890'] }],
    ['a long subject', { subject: 'x'.repeat(101), participants: ['+6281234567890'] }],
    ['nobody', { subject: 'x', participants: [] }],
    ['a group as a participant', { subject: 'x', participants: ['120363000000000001@g.us'] }],
    ['nonsense as a participant', { subject: 'x', participants: ['everybody'] }],
    [
      'too many',
      { subject: 'x', participants: Array.from({ length: 21 }, (_, i) => `+62812345678${10 + i}`) },
    ],
  ])('refuses %s', async (_what, body) => {
    expect(await call('POST', '', body)).toMatchObject({ status: 400, body: { code: 'validation.failed' } });
  });
});

describe('administering a group', () => {
  it('adds, promotes, demotes and removes, with an event for each', async () => {
    const [friend, other, stranger] = [await flotilla.newPhone(), await flotilla.newPhone(), '6281100000009'];
    const { id } = await created(friend);
    const change = async (method: string, path: string, ...participants: string[]) => {
      const answer = await call(method, `/${id}/participants${path}`, { participants });
      expect(answer.status).toBe(200);
      return answer.body.items.map(({ status }: Json) => status);
    };
    expect(await change('POST', '', other, friend, stranger)).toEqual([
      'done',
      'already_member',
      'not_registered',
    ]);
    expect(await change('POST', '/promote', other, stranger)).toEqual(['done', 'not_member']);
    const adminOf = async (phone: string) =>
      (await call('GET', `/${id}`)).body.participants.find((one: Json) => one.phone === phone)?.isAdmin;
    expect(await adminOf(other)).toBe(true);
    expect(await change('POST', '/demote', lid(other))).toEqual(['done']);
    expect(await adminOf(other)).toBe(false);
    expect(await change('DELETE', '', other, account.phoneNumber)).toEqual(['done', 'failed']);
    expect(await adminOf(other)).toBeUndefined();

    const events = await eventsOf(id, 5);
    expect(events.map(({ type, data }) => [type, data.change, data.participants])).toEqual([
      ['group.updated', 'created', [person(friend)]],
      ['group.participants', 'joined', [person(other)]],
      ['group.participants', 'promoted', [person(other)]],
      ['group.participants', 'demoted', [person(other)]],
      ['group.participants', 'removed', [person(other)]],
    ]);
    expect(events[0]).toMatchObject({ accountId: account.id, data: { by: person(account.phoneNumber) } });
  });

  it('changes subject, description and settings', async () => {
    const { id } = await created(await flotilla.newPhone());
    const wanted = {
      subject: 'Small choir',
      description: 'Mondays',
      announcementsOnly: true,
      infoAdminsOnly: true,
      addAdminsOnly: true,
    };
    expect(await call('PATCH', `/${id}`, wanted)).toMatchObject({ status: 200, body: { id, ...wanted } });
    expect(await call('PATCH', `/${id}`, { announcementsOnly: false })).toMatchObject({
      status: 200,
      body: { ...wanted, announcementsOnly: false },
    });
    expect((await call('PATCH', `/${id}`, { subject: '' })).status).toBe(400);
    expect((await call('PATCH', `/${id}`, { color: 'red' })).status).toBe(400);
    const { body: chats } = await workspace.call('GET', `/accounts/${account.id}/chats`);
    expect(chats.items.find((chat: Json) => chat.id === id)).toMatchObject({
      name: 'Small choir',
      isGroup: true,
      phone: null,
      lid: null,
    });
  });

  it('changes no message of a group that it has left or was removed from, and says so at once', async () => {
    const owner = await flotilla.newPhone();
    const leave = (id: string) => call('POST', `/${id}/leave`);
    const remove = (id: string) =>
      flotilla.sandbox('POST', `/groups/${id}/members`, {
        by: owner,
        change: 'remove',
        participants: [account.phoneNumber],
      });
    for (const end of [leave, remove]) {
      const groupId = await joined(owner);
      const { body: sent } = await workspace.send({ accountId: account.id, to: groupId, text: 'before' });
      await eventually('sent', async () => {
        const { body } = await workspace.call('GET', `/messages/${sent.id}`);
        return ['sent', 'delivered', 'read'].includes(body.status);
      });
      await end(groupId);
      await eventually('out of the group', async () => !(await call('GET', `/${groupId}`)).body.isMember);
      const path = `/messages/${sent.id}`;
      for (const [method, of, body] of [
        ['PATCH', path, { text: 'after' }],
        ['POST', `${path}/revoke`, undefined],
        ['POST', `${path}/reaction`, { emoji: '👍' }],
      ] as const) {
        const started = performance.now();
        const answer = await workspace.call(method, of, body);
        expect(answer).toMatchObject({ status: 409, body: { code: 'group.not_member' } });
        // Without the check the page waits for an answer of WhatsApp that never comes: 25 s.
        expect(performance.now() - started).toBeLessThan(15_000);
      }
      expect((await workspace.call('GET', path)).body).toMatchObject({
        text: 'before',
        editedAt: null,
        revokedAt: null,
        reactions: [],
      });
    }
  });

  it('gives and resets the invite, joins by it and leaves', async () => {
    const owner = await flotilla.newPhone();
    const id = await joined(owner);
    expect(await call('GET', `/${id}/invite`)).toMatchObject({
      status: 409,
      body: { code: 'group.not_admin' },
    });
    expect((await call('POST', `/${id}/leave`)).status).toBe(204);
    await eventually('left', async () => !(await call('GET', `/${id}`)).body.isMember);
    expect((await call('GET')).body.items.map((group: Json) => group.id)).not.toContain(id);
    expect(await call('POST', `/${id}/leave`)).toMatchObject({
      status: 409,
      body: { code: 'group.not_member' },
    });
    const { invite } = await flotilla.sandbox('GET', `/groups/${id}`);
    const link = `https://chat.whatsapp.com/${invite}`;
    expect(await call('POST', '/join', { code: link })).toMatchObject({
      status: 200,
      body: { id, isMember: true, isAdmin: false, inviteCode: null, subject: 'Theirs' },
    });
    expect(await call('POST', '/join', { code: 'AbCdEfGhIjKlMnOpQrStUv' })).toMatchObject({
      status: 404,
      body: { code: 'group.invite_invalid' },
    });
    expect((await call('POST', '/join', { code: 'https://example.com/x' })).status).toBe(400);

    const { id: own, inviteCode } = await created(owner);
    const given = await call('GET', `/${own}/invite`);
    expect(given).toMatchObject({
      status: 200,
      body: { code: inviteCode, link: `https://chat.whatsapp.com/${inviteCode}` },
    });
    const reset = await call('DELETE', `/${own}/invite`);
    expect(reset.status).toBe(200);
    expect(reset.body.code).not.toBe(inviteCode);
    expect((await call('GET', `/${own}/invite`)).body).toEqual(reset.body);
  });

  it('needs to be an admin, and says so', async () => {
    const owner = await flotilla.newPhone();
    const id = await joined(owner);
    const participants = [owner];
    for (const [method, path, body] of [
      ['POST', '/participants', { participants }],
      ['DELETE', '/participants', { participants }],
      ['POST', '/participants/promote', { participants }],
      ['POST', '/participants/demote', { participants }],
      ['PATCH', '', { announcementsOnly: true }],
      ['DELETE', '/invite', undefined],
    ] as const)
      expect(await call(method, `/${id}${path}`, body)).toMatchObject({
        status: 409,
        body: { code: 'group.not_admin' },
      });
    // As in WhatsApp, everybody changes the subject where that is not restricted.
    expect((await call('PATCH', `/${id}`, { subject: 'Ours' })).body.subject).toBe('Ours');
    await flotilla.sandbox('PATCH', `/groups/${id}`, { restrict: true });
    await eventually('restricted', async () => (await call('GET', `/${id}`)).body.infoAdminsOnly);
    expect((await call('PATCH', `/${id}`, { subject: 'Mine' })).body.code).toBe('group.not_admin');
  });
});

describe('what WhatsApp refuses', () => {
  const refuse = (groupRefusal: number) =>
    flotilla.sandbox('PUT', '/faults', { phone: account.phoneNumber, groupRefusal });

  afterEach(() => flotilla.sandbox('DELETE', '/faults'));

  it('is told with its reason, and changes nothing', async () => {
    const [friend, other] = [await flotilla.newPhone(), await flotilla.newPhone()];
    const { id } = await created(friend);
    const { body: group } = await call('GET', `/${id}`);
    const theirs = await flotilla.sandbox('POST', '/groups', { owner: other, subject: 'Theirs' });
    const refused = (detail: string) => ({
      status: 409,
      body: { code: 'group.refused', detail: expect.stringContaining(detail) },
    });
    const join = () => call('POST', '/join', { code: theirs.invite });
    const participants = [friend];

    await refuse(419);
    expect(await call('POST', `/${group.id}/participants`, { participants: [other] })).toMatchObject({
      status: 200,
      body: { items: [{ ...person(other), status: 'group_full' }] },
    });
    expect(await join()).toMatchObject(refused('the group is full'));

    await refuse(429);
    expect(await join()).toMatchObject(refused('too many requests'));
    expect(await call('POST', '', { subject: 'More', participants })).toMatchObject(
      refused('too many requests'),
    );
    for (const [method, path, body] of [
      ['PATCH', '', { subject: 'Quartet' }],
      ['PATCH', '', { announcementsOnly: true }],
      ['POST', '/participants/promote', { participants }],
      ['DELETE', '/participants', { participants }],
      ['DELETE', '/invite', undefined],
      ['POST', '/leave', undefined],
    ] as const)
      expect(await call(method, `/${group.id}${path}`, body)).toMatchObject(refused('WhatsApp refused to'));
    await flotilla.sandbox('DELETE', '/faults');
    expect((await call('GET', `/${group.id}`)).body).toEqual(group);
    expect((await join()).status).toBe(200);
  });
});

describe('a message to a group', () => {
  const sendTo = async (id: string) => {
    const { body } = await workspace.send({ accountId: account.id, to: id, text: 'is anybody there?' });
    return eventually('its end', async () => {
      const { body: message } = await workspace.call('GET', `/messages/${body.id}`);
      return ['failed', 'unknown', 'read'].includes(message.status) && message;
    });
  };

  it('that the account has left fails at once, and so does a group that WhatsApp refuses', async () => {
    const owner = await flotilla.newPhone();
    const left = await joined(owner);
    expect((await call('POST', `/${left}/leave`)).status).toBe(204);
    expect(await sendTo(left)).toMatchObject({
      status: 'failed',
      attempts: 1,
      error: { code: 'recipient.no_chat', message: expect.stringContaining('no longer in this group') },
    });
    const { id: own } = await created(owner);
    await flotilla.sandbox('PUT', '/faults', { phone: account.phoneNumber, refuseRate: 1 });
    expect(await sendTo(own)).toMatchObject({
      status: 'failed',
      attempts: 1,
      error: { code: 'whatsapp.refused' },
    });
    await flotilla.sandbox('DELETE', '/faults');
    expect(await sendTo(own)).toMatchObject({ status: 'read' });
  });
});

describe('what happens in a group', () => {
  it('while the account is away is told once, when it is back', async () => {
    const [owner, other] = [await flotilla.newPhone(), await flotilla.newPhone()];
    const id = await joined(owner);
    await eventsOf(id, 1);
    await workspace.call('POST', `/accounts/${account.id}/disconnect`);
    await eventually('offline', async () => (await flotilla.sandbox('GET', '/stats')).online === 0);
    expect(await call('GET', `/${id}`)).toMatchObject({ status: 409, body: { code: 'account.not_ready' } });
    await flotilla.sandbox('POST', `/groups/${id}/members`, { change: 'add', participants: [other] });
    await flotilla.sandbox('PATCH', `/groups/${id}`, { subject: 'Renamed' });
    for (let i = 0; i < 2; i += 1) {
      await workspace.call('POST', `/accounts/${account.id}/${i === 0 ? 'connect' : 'restart'}`);
      if (i > 0)
        await eventually('restarting', async () => (await workspace.account(account.id)).status !== 'ready');
      await workspace.untilStatus(account.id, 'ready');
    }
    const events = await eventsOf(id, 3);
    expect(events.map(({ data }) => [data.change, data.value])).toEqual([
      ['created', 'Theirs'],
      ['joined', null],
      ['subject', 'Renamed'],
    ]);
    // A later event of the same log: whatever was told twice would have come before it.
    await call('PATCH', `/${id}`, { subject: 'Again' });
    expect((await eventsOf(id, 4)).map(({ data }) => data.value).at(-1)).toBe('Again');
    // Notices are no messages.
    const { body } = await workspace.call('GET', '/messages?direction=incoming');
    expect(body.items).toEqual([]);
  });

  it('is written to and heard like any chat', async () => {
    const friend = await flotilla.newPhone();
    const { id } = await created(friend);
    const { body: message } = await workspace.send({ accountId: account.id, to: id, text: 'hello all' });
    await eventually(
      'read',
      async () => (await workspace.call('GET', `/messages/${message.id}`)).body.status === 'read',
    );
    await flotilla.sandbox('POST', `/phones/${friend}/messages`, { to: id, text: 'hello you' });
    await eventually('received', async () =>
      (await workspace.call('GET', '/messages?direction=incoming')).body.items.some(
        ({ text }: Json) => text === 'hello you',
      ),
    );
    const { items } = (await workspace.call('GET', `/accounts/${account.id}/chats/${id}/messages`)).body;
    expect(items).toMatchObject([
      { direction: 'incoming', from: person(friend), text: 'hello you', status: 'received', type: 'text' },
      { id: message.id, direction: 'outgoing', text: 'hello all', status: 'read', type: 'text' },
    ]);
  });
});

describe('who may', () => {
  it('viewers read, owners administer, others see nothing', async () => {
    const friend = await flotilla.newPhone();
    const { id } = await created(friend);
    const { key: foreign } = await flotilla.newWorkspace('other');
    const [viewer, sender] = [await workspace.keyFor('viewer'), await workspace.keyFor('sender')];
    const participants = [friend];
    const reads = ['', `/${id}`];
    const changes = [
      ['POST', '', { subject: 'x', participants }],
      ['PATCH', `/${id}`, { subject: 'x' }],
      ['POST', `/${id}/participants`, { participants }],
      ['DELETE', `/${id}/participants`, { participants }],
      ['POST', `/${id}/participants/promote`, { participants }],
      ['POST', `/${id}/participants/demote`, { participants }],
      ['GET', `/${id}/invite`, undefined],
      ['DELETE', `/${id}/invite`, undefined],
      ['POST', '/join', { code: 'AbCdEfGhIjKlMnOpQrStUv' }],
      ['POST', `/${id}/leave`, undefined],
    ] as const;
    for (const path of reads) {
      expect((await flotilla.call('GET', at(path), undefined, viewer)).status).toBe(200);
      expect((await flotilla.call('GET', at(path), undefined, null)).status).toBe(401);
    }
    expect((await flotilla.call('GET', at(`/${id}`), undefined, sender)).body.inviteCode).toBeNull();
    for (const [method, path, body] of changes) {
      for (const key of [viewer, sender])
        expect((await flotilla.call(method, at(path), body, key)).status).toBe(403);
      expect((await flotilla.call(method, at(path), body, null)).status).toBe(401);
    }
    for (const [method, path, body] of [
      ...reads.map((path) => ['GET', path, undefined] as const),
      ...changes,
    ])
      expect(await flotilla.call(method, at(path), body, foreign)).toMatchObject({
        status: 404,
        body: { code: 'account.not_found' },
      });
    expect(await call('GET', '/120363000000000001@g.us')).toMatchObject({
      status: 404,
      body: { code: 'group.not_found' },
    });
    expect(await call('GET', '/6281234567890@c.us')).toMatchObject({
      status: 400,
      body: { code: 'validation.failed' },
    });
  });
});
