import type { INestApplicationContext } from '@nestjs/common';
import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PacingReservations } from '../../src/sending/pacing-reservations.js';
import { maxCaptionLength } from '../../src/messages/content.dto.js';
import type { MediaDownloader } from '../../src/receiving/media-downloader.js';
import { type ActOnMessage, MessageActionsService } from '../../src/messages/message-actions.service.js';
import { strictOrder } from '../../src/sending/lane-order.js';
import { MessageSender } from '../../src/sending/message-sender.js';
import { toMessageResponse } from '../../src/messages/messages.dto.js';
import { AcceptService } from '../../src/messages/accept.service.js';
import { MessagesService } from '../../src/messages/messages.service.js';
import type { OutcomeFinder } from '../../src/receiving/outcome-finder.js';
import { IncomingService } from '../../src/receiving/incoming.service.js';
import { UpdatesService } from '../../src/receiving/updates.service.js';
import { LaneRunner } from '../../src/sending/lane-runner.js';
import { SessionListener } from '../../src/receiving/session.listener.js';
import { CONFIG } from '../../src/platform/config/config.module.js';
import type { PageChange } from '../../src/whatsapp/in-page/page-functions.js';
import { eventually } from '../support/eventually.js';
import {
  accountOf,
  claimOf,
  insertAccount,
  insertInstance,
  insertServer,
  insertWorkspace,
  pageMessageOf,
  ready,
} from '../support/factories.js';
import { changed, fake } from '../support/fake.js';
import { allowedChecks, noFiles, sessionsWith, startSession } from '../support/fakes.js';
import { silent, startServices } from '../support/services.js';
import { scratchDatabase } from '../support/scratch-database.js';

/* The rules that lie in SQL, and what an instance is asked. What WhatsApp makes of it is tested end to end. */

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let accepting: AcceptService;
let messages: MessagesService;
let actions: MessageActionsService;
let sending: LaneRunner;
let updates: UpdatesService;
let incomingService: IncomingService;
/** Claiming needs no session. */
const neverSends = fake<MessageSender>({});
const noOutcomes = fake<OutcomeFinder>({});
const noMedia = fake<MediaDownloader>({});
let workspaceId: string;
let accountId: string;
/** Stands in for an instance: records the requests, and gives the answers that the test sets. */
let instance: Server;
let asked: ActOnMessage[] = [];
let answer: { status: number; body?: object };

const now = Date.now();
const friend = '6281234567890@c.us';

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  ({ context, database } = await startServices(scratch.config));
  accepting = context.get(AcceptService);
  messages = context.get(MessagesService);
  actions = context.get(MessageActionsService);
  sending = new LaneRunner(database, neverSends, new PacingReservations(database), scratch.config, silent);
  updates = new UpdatesService(database);
  incomingService = new IncomingService(database, new PacingReservations(database));
  instance = createServer((request, response) => {
    let text = '';
    request.on('data', (chunk) => (text += chunk));
    request.on('end', () => {
      asked.push(JSON.parse(text));
      response.writeHead(answer.status).end(answer.body ? JSON.stringify(answer.body) : undefined);
    });
  });
  await once(instance.listen(0, '127.0.0.1'), 'listening');
  await insertServer(database, 'one');
  const url = `http://127.0.0.1:${(instance.address() as AddressInfo).port}`;
  await insertInstance(database, 'one.instance_00', { url });
});
afterAll(async () => {
  instance?.close();
  await context?.close();
  await drop?.();
});

beforeEach(async () => {
  asked = [];
  answer = { status: 204 };
  workspaceId = await insertWorkspace(database);
  accountId = await insertAccount(database, workspaceId, {
    ...ready,
    phone_number: '6289',
    instance_id: 'one.instance_00',
    epoch: 3,
  });
});

async function accept(text: string, sendAt?: string): Promise<string> {
  const wanted = {
    accountId,
    to: '+6281234567890',
    text,
    type: 'text' as const,
    priority: 'normal' as const,
    sendAt,
  };
  return (await accepting.accept(workspaceId, wanted)).id;
}

const claim = () => sending.claim(accountId, 3, strictOrder);

async function sent(text: string): Promise<{ id: string; whatsappId: string }> {
  const id = await accept(text);
  await claim();
  const { whatsappId } = await messages.get(workspaceId, id);
  await updates.writeAcks([{ accountId, whatsappId, ack: 1 }]);
  return { id, whatsappId };
}

/** A message that the account received. */
async function incoming(whatsappId = 'THEIRS', from = friend, chatId = from): Promise<string> {
  const account = { id: accountId };
  await incomingService.storeIncoming(account, [{ whatsappId, chatId, from, type: 'chat', text: 'theirs' }]);
  const [{ id }] = await database.query(
    'select id from messages where account_id = $1 and whatsapp_id = $2',
    [accountId, whatsappId],
  );
  return id;
}

const show = async (id: string) => toMessageResponse(await messages.get(workspaceId, id));

/** The events of the account except status changes, oldest first. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- what a reader of the events sees
async function told(): Promise<{ type: string; data: any }[]> {
  return database.query(
    `select type, data from events where account_id = $1
       and type in ('message.edited', 'message.revoked', 'message.reaction', 'message.poll_vote',
         'message.cancelled') order by id`,
    [accountId],
  );
}

const refusal = (code: string, status = 409) => expect.objectContaining({ status, code });

describe('a change of a message', () => {
  it('is written once and makes one event, however often it comes', async () => {
    const { id, whatsappId } = await sent('first words');
    const changes: PageChange[] = [
      { kind: 'edited', whatsappId, at: now, text: 'better words' },
      { kind: 'reaction', whatsappId, at: now, from: { chatId: friend, alias: null }, emoji: '👍' },
      { kind: 'reaction', whatsappId, at: now, from: null, emoji: '🎉' },
      { kind: 'revoked', whatsappId, at: now },
    ];
    await updates.writeChanges(accountId, [...changes, ...changes]);
    await updates.writeChanges(accountId, changes);
    const at = new Date(now).toISOString();
    expect(await show(id)).toMatchObject({
      status: 'sent',
      text: 'better words',
      editedAt: at,
      revokedAt: at,
      reactions: [
        { from: '6281234567890', phone: '6281234567890', lid: null, emoji: '👍', at },
        { from: '6289', phone: '6289', lid: null, emoji: '🎉', at },
      ],
    });
    const events = await told();
    expect(events.map(({ type }) => type)).toEqual([
      'message.edited',
      'message.reaction',
      'message.reaction',
      'message.revoked',
    ]);
    expect(events[0]!.data).toMatchObject({ id, text: 'better words', previousText: 'first words' });
    expect(events[1]!.data.reaction).toEqual({
      from: '6281234567890',
      phone: '6281234567890',
      lid: null,
      emoji: '👍',
      at,
    });
    expect(events.at(-1)!.data).toEqual(await show(id));
  });

  it('is ignored if it is older than the last change', async () => {
    const { id, whatsappId } = await sent('one');
    const edit = (text: string, at: number): PageChange => ({ kind: 'edited', whatsappId, text, at });
    const react = (emoji: string, at: number): PageChange => ({
      kind: 'reaction',
      whatsappId,
      from: { chatId: friend, alias: null },
      emoji,
      at,
    });
    await updates.writeChanges(accountId, [edit('three', now - 1), edit('two', now - 2)]);
    await updates.writeChanges(accountId, [react('👍', now - 3), react('', now - 1), react('👍', now - 3)]);
    expect(await show(id)).toMatchObject({ text: 'three', reactions: [] });
    expect((await told()).map(({ data }) => data.reaction?.emoji ?? data.text)).toEqual(['three', '👍', '']);
    await updates.writeChanges(accountId, [react('❤️', now)]);
    expect((await show(id)).reactions).toMatchObject([{ emoji: '❤️' }]);
  });

  it('does nothing if it removes a missing reaction, or if the message is unknown', async () => {
    const { whatsappId } = await sent('one');
    const taken: PageChange = {
      kind: 'reaction',
      whatsappId,
      from: { chatId: friend, alias: null },
      emoji: '',
      at: now,
    };
    await updates.writeChanges(accountId, [taken, { kind: 'revoked', whatsappId: 'NOBODYS', at: now }]);
    expect(await told()).toEqual([]);
  });

  it('may be nonsense from a stranger: text that cannot be stored is left out', async () => {
    const id = await incoming();
    const whatsappId = 'THEIRS';
    await updates.writeChanges(accountId, [
      { kind: 'edited', whatsappId, at: 9e15, text: 'a\u0000b\ud800' },
      {
        kind: 'reaction',
        whatsappId,
        at: NaN,
        from: { chatId: friend, alias: null },
        emoji: `\u0000${'x'.repeat(10_000)}`,
      },
    ]);
    const { text, editedAt, reactions } = await show(id);
    expect(text).toBe('ab\ufffd');
    expect(Date.parse(editedAt!)).toBeLessThanOrEqual(Date.now());
    expect(reactions[0]!.emoji.length).toBeLessThan(50);
  });

  it('belongs to one person, whether the phone number, the LID or both are known', async () => {
    const id = await incoming();
    const react = (emoji: string, at: number, chatId: string, alias: string | null): PageChange => ({
      kind: 'reaction',
      whatsappId: 'THEIRS',
      from: { chatId, alias },
      emoji,
      at,
    });
    await updates.writeChanges(accountId, [react('👍', now - 3, '77@lid', null)]);
    await updates.writeChanges(accountId, [react('👍', now - 2, friend, '77@lid')]);
    await updates.writeChanges(accountId, [react('❤️', now - 1, friend, '77@lid')]);
    expect((await show(id)).reactions).toMatchObject([{ from: '6281234567890', lid: '77@lid', emoji: '❤️' }]);
    await updates.writeChanges(accountId, [react('', now, '77@lid', null)]);
    expect((await show(id)).reactions).toEqual([]);
    expect((await told()).map(({ data }) => data.reaction.emoji)).toEqual(['👍', '❤️', '']);
  });

  it('makes no event while the message waits for its media: the later message event contains the change', async () => {
    const account = { id: accountId };
    const media = { mimetype: 'image/png', size: 1, filename: null };
    const whatsappId = 'AWAITED';
    await incomingService.storeIncoming(account, [
      { whatsappId, chatId: friend, from: friend, type: 'image', text: 'befor', media },
    ]);
    await updates.writeChanges(accountId, [
      { kind: 'edited', whatsappId, at: now - 1, text: 'before' },
      { kind: 'reaction', whatsappId, at: now, from: null, emoji: '👍' },
    ]);
    expect(await told()).toEqual([]);
    await database.query('update messages set media_due_at = null where whatsapp_id = $1', [whatsappId]);
    const published = await database.query(
      `select data from events where account_id = $1 and type = 'message.received'`,
      [accountId],
    );
    expect(published).toMatchObject([{ data: { text: 'before', reactions: [{ emoji: '👍' }] } }]);
  });

  it('does not touch a message of another account with the same WhatsApp id', async () => {
    const id = await incoming();
    await updates.writeChanges(uuidv7(), [{ kind: 'revoked', whatsappId: 'THEIRS', at: now }]);
    expect((await show(id)).revokedAt).toBeNull();
  });
});

it('a change is written although a change of another account cannot be written', async () => {
  const broken = uuidv7();
  const parts = changed(incomingService, {
    storeIncoming: async (account, found) => {
      if (account.id === broken) throw new Error('This account cannot be written.');
      return incomingService.storeIncoming(account, found);
    },
  });
  const sessions = sessionsWith({});
  const listener = new SessionListener(sessions, parts, updates, neverSends, noOutcomes, noMedia, silent);
  listener.onModuleInit();
  for (const id of [broken, accountId]) {
    const session = startSession(sessions, accountOf({ id }));
    session.emit('message', pageMessageOf({ whatsappId: `OF ${id}`, text: 'theirs' }));
    const change: PageChange = { kind: 'edited', whatsappId: `OF ${id}`, text: 'edited', at: now };
    session.emit('change', change);
  }
  try {
    await eventually('it is written', async () => {
      const rows = await database.query('select text from messages where account_id = $1', [accountId]);
      return rows.length === 1 && rows[0].text === 'edited';
    });
  } finally {
    await expect(listener.beforeApplicationShutdown()).rejects.toThrow(broken);
  }
}, 30_000);

it('a refused message becomes sent if WhatsApp reports that later, also for a message that this instance sent', async () => {
  const { id, whatsappId } = await sent('refused at first');
  const sessions = sessionsWith({ send: async () => ({ outcome: 'known', ack: 1, whatsappId }) });
  const sender = new MessageSender(sessions, noFiles, context.get(CONFIG), silent, allowedChecks);
  await sender.send(claimOf({ accountId, whatsappId, chatId: friend }));
  const listener = new SessionListener(
    sessions,
    incomingService,
    updates,
    sender,
    noOutcomes,
    noMedia,
    silent,
  );
  listener.onModuleInit();
  const session = startSession(sessions, accountOf({ id: accountId }));
  try {
    for (const [ack, status] of [
      [-1, 'failed'],
      [1, 'sent'],
    ] as const) {
      session.emit('ack', { whatsappId, ack });
      await eventually(`it has ${status}`, async () => (await show(id)).status === status, 5_000);
    }
  } finally {
    await listener.beforeApplicationShutdown();
  }
});

describe('a message that waits', () => {
  it.each([undefined, new Date(now + 3_600_000).toISOString()])(
    'is edited in the ledger, and sent with the new text (sendAt %s)',
    async (sendAt) => {
      const id = await accept('first words', sendAt);
      const edited = await actions.edit(workspaceId, id, 'better words');
      expect(edited).toMatchObject({ text: 'better words', editedAt: expect.any(Date) });
      await actions.edit(workspaceId, id, 'better words');
      expect((await told()).map(({ type }) => type)).toEqual(['message.edited']);
      if (!sendAt) expect((await claim())?.text).toBe('better words');
      expect(asked).toEqual([]);
    },
  );

  it('is cancelled by a revocation, and stays cancelled', async () => {
    const id = await accept('never');
    expect(await actions.revoke(workspaceId, id)).toMatchObject({ status: 'cancelled', revokedAt: null });
    expect(await actions.revoke(workspaceId, id)).toMatchObject({ status: 'cancelled' });
    expect((await told()).map(({ type }) => type)).toEqual(['message.cancelled']);
    await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(refusal('message.cannot_edit'));
  });

  it('refuses a reaction', async () => {
    await expect(actions.react(workspaceId, await accept('later'), '👍')).rejects.toEqual(
      refusal('message.not_sent'),
    );
  });
});

describe('a message that is being sent', () => {
  it.each([
    ['sending', 1],
    // This message is sent again, and may have arrived.
    ['queued', 1],
  ])('can be changed only after the send (%s, attempts %s)', async (status, attempts) => {
    const id = await accept('now');
    await database.query('update messages set status = $2, attempts = $3 where id = $1', [
      id,
      status,
      attempts,
    ]);
    const already = refusal('message.already_sending');
    await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(already);
    await expect(actions.revoke(workspaceId, id)).rejects.toEqual(already);
    await expect(actions.react(workspaceId, id, '👍')).rejects.toEqual(already);
    expect(await show(id)).toMatchObject({ text: 'now', status });
  });

  it('is edited before the send or sent unchanged, if both happen at the same time', async () => {
    for (let round = 0; round < 10; round += 1) {
      const id = await accept('before');
      const [claimed, edit] = await Promise.all([
        claim(),
        actions.edit(workspaceId, id, 'after').catch((error: { code: string }) => error.code),
      ]);
      expect(claimed?.text).toBe(edit === 'message.already_sending' ? 'before' : 'after');
      await updates.writeAcks([{ accountId, whatsappId: claimed!.whatsappId, ack: 1 }]);
    }
  });
});

describe('a message that was sent', () => {
  it('is changed by the instance of its account, under the epoch of the assignment', async () => {
    const { id, whatsappId } = await sent('once');
    const theirs = await incoming();
    const inGroup = await incoming('GROUP', '62877@c.us', '120363000000000000@g.us');
    await actions.edit(workspaceId, id, 'twice');
    await actions.revoke(workspaceId, id);
    await actions.react(workspaceId, theirs, '👍');
    await actions.react(workspaceId, inGroup, '');
    const ours = { chatId: friend, whatsappId, fromMe: true, author: null };
    expect(asked).toEqual([
      { epoch: 3, target: ours, action: { kind: 'edit', text: 'twice', linkPreview: true } },
      { epoch: 3, target: ours, action: { kind: 'revoke' } },
      {
        epoch: 3,
        target: { chatId: friend, whatsappId: 'THEIRS', fromMe: false, author: null },
        action: { kind: 'react', emoji: '👍' },
      },
      {
        epoch: 3,
        target: {
          chatId: '120363000000000000@g.us',
          whatsappId: 'GROUP',
          fromMe: false,
          author: '62877@c.us',
        },
        action: { kind: 'react', emoji: '' },
      },
    ]);
  });

  it('cannot be changed after it was revoked', async () => {
    const { id, whatsappId } = await sent('gone');
    await updates.writeChanges(accountId, [{ kind: 'revoked', whatsappId, at: now }]);
    expect(await actions.revoke(workspaceId, id)).toMatchObject({ status: 'sent' });
    await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(refusal('message.cannot_edit'));
    await expect(actions.react(workspaceId, id, '👍')).rejects.toEqual(refusal('message.cannot_react'));
    expect(asked).toEqual([]);
  });

  it('is not edited or revoked if it is incoming, and not edited if it is not a text', async () => {
    const theirs = await incoming();
    await expect(actions.edit(workspaceId, theirs, 'x')).rejects.toEqual(refusal('message.not_outgoing'));
    await expect(actions.revoke(workspaceId, theirs)).rejects.toEqual(refusal('message.not_outgoing'));
    const { id } = await sent('a picture');
    for (const change of [`type = 'voice'`, `type = 'image', text = null`]) {
      await database.query(`update messages set ${change} where id = $1`, [id]);
      await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(refusal('message.cannot_edit'));
    }
  });

  it('has no preview of a link after an edit if it had none before', async () => {
    const { id } = await sent('once');
    await database.query(`update messages set content = '{"linkPreview": false}' where id = $1`, [id]);
    await actions.edit(workspaceId, id, 'https://example.com');
    expect(asked).toMatchObject([{ action: { kind: 'edit', linkPreview: false } }]);
  });

  it('has the same limit for an edited caption as for a new one', async () => {
    const { id } = await sent('a picture');
    await database.query(`update messages set type = 'image' where id = $1`, [id]);
    await expect(actions.edit(workspaceId, id, 'x'.repeat(maxCaptionLength + 1))).rejects.toEqual(
      refusal('validation.failed', 400),
    );
    expect(asked).toEqual([]);
    await actions.edit(workspaceId, id, 'x'.repeat(maxCaptionLength));
    expect(asked).toMatchObject([{ action: { kind: 'edit' } }]);
  });

  it.each(['failed', 'expired'])('cannot be changed if it never left (%s)', async (status) => {
    const { id } = await sent('never');
    await database.query('update messages set status = $2 where id = $1', [id, status]);
    await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(refusal('message.cannot_edit'));
    await expect(actions.revoke(workspaceId, id)).rejects.toEqual(refusal('message.cannot_revoke'));
    await expect(actions.react(workspaceId, id, '👍')).rejects.toEqual(refusal('message.not_sent'));
    expect(asked).toEqual([]);
  });

  it('can be changed only if its account is ready, and if the instance agrees', async () => {
    const { id } = await sent('once');
    answer = { status: 503, body: { code: 'account.session_not_ready', detail: '' } };
    await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(refusal('account.not_ready'));
    answer = { status: 409, body: { code: 'message.cannot_edit', detail: 'too late' } };
    await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(refusal('message.cannot_edit'));
    await database.query(`update accounts set status = 'reconnecting' where id = $1`, [accountId]);
    await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(refusal('account.not_ready'));
    await database.query(`update accounts set status = 'ready', instance_id = null where id = $1`, [
      accountId,
    ]);
    await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(refusal('account.not_ready'));
    expect(await show(id)).toMatchObject({ text: 'once', editedAt: null });
  });

  it('is not changed if its instance is away, and the error says whether the change may have happened', async () => {
    const { id } = await sent('once');
    const away = createServer().listen(0, '127.0.0.1');
    await once(away, 'listening');
    const url = `http://127.0.0.1:${(away.address() as AddressInfo).port}`;
    await database.query(
      `insert into instances (id, server_id, url, status, lease_expires_at, max_accounts)
       values ('one.instance_01', 'one', $1, 'active', now() + interval '1 hour', 100)`,
      [url],
    );
    await database.query(`update accounts set instance_id = 'one.instance_01' where id = $1`, [accountId]);
    away.once('request', (request) => request.socket.destroy());
    await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(refusal('instance.answer_lost', 504));
    away.close();
    await once(away, 'close');
    await expect(actions.edit(workspaceId, id, 'x')).rejects.toEqual(refusal('instance.unreachable', 503));
  });

  it('belongs to its workspace', async () => {
    const { id } = await sent('ours');
    for (const act of [
      () => actions.edit(uuidv7(), id, 'x'),
      () => actions.revoke(uuidv7(), id),
      () => actions.react(uuidv7(), id, '👍'),
    ])
      await expect(act()).rejects.toEqual(refusal('message.not_found', 404));
    expect(asked).toEqual([]);
  });
});

describe('a poll', () => {
  const vote = (options: string[], at: number, from = friend): PageChange => ({
    kind: 'vote',
    whatsappId: 'POLL',
    at,
    from: { chatId: from, alias: from === friend ? '77@lid' : null },
    options,
  });

  it('has the last vote of each person, in whatever order the votes come', async () => {
    const id = await incoming('POLL');
    await updates.writeChanges(accountId, [vote(['A'], now - 3_000), vote(['B'], now - 1_000)]);
    await updates.writeChanges(accountId, [
      vote(['C'], now - 2_000),
      vote(['B'], now),
      vote(['A'], now, '6287@c.us'),
    ]);
    expect((await show(id)).votes).toEqual([
      {
        from: '6281234567890',
        phone: '6281234567890',
        lid: '77@lid',
        options: ['B'],
        at: expect.any(String),
      },
      { from: '6287', phone: '6287', lid: null, options: ['A'], at: expect.any(String) },
    ]);
    await updates.writeChanges(accountId, [vote([], now + 1)]);
    await updates.writeChanges(accountId, [vote(['A'], now - 500)]);
    expect((await show(id)).votes.map(({ from }) => from)).toEqual(['6287']);
    const votes = (await told()).filter(({ type }) => type === 'message.poll_vote');
    expect(votes.map(({ data }) => data.vote.options)).toEqual([['A'], ['B'], ['A'], []]);
  });
});

describe('the migration', () => {
  it('writes events of the shape that the API answers', async () => {
    const { id, whatsappId } = await sent('one');
    await updates.writeChanges(accountId, [
      { kind: 'reaction', whatsappId, at: now, from: { chatId: friend, alias: null }, emoji: '👍' },
    ]);
    await database.query('update messages set in_question_since = now() where id = $1', [id]);
    const [{ data }] = await database.query(`select message_json(m) as data from messages m where id = $1`, [
      id,
    ]);
    expect(data).toEqual(await show(id));
    expect(data.inQuestionSince).toEqual(expect.any(String));
  });

  it('writes every kind of content in that shape', async () => {
    const account = { id: accountId };
    const base = { chatId: '120363000000000000@g.us', from: '77@lid', fromAlias: '62877@c.us', text: '' };
    await incomingService.storeIncoming(account, [
      {
        ...base,
        whatsappId: 'PLACE',
        type: 'location',
        location: { latitude: 1, longitude: 2, description: 'Home\nA street' },
        mentions: ['6281@c.us'],
        quoted: 'NOBODYS',
      },
      {
        ...base,
        whatsappId: 'CARD',
        type: 'vcard',
        vcards: ['BEGIN:VCARD\nFN:Siti\u0000\nTEL;waid=6281234567890:+62 812\nEND:VCARD'],
      },
      { ...base, whatsappId: 'ORDER', type: 'order' },
      { ...base, whatsappId: 'NOTICE', type: 'e2e_notification' },
      { ...base, whatsappId: 'ONCE', type: 'image', isViewOnce: true },
      { ...base, whatsappId: 'GIF', type: 'video', isGif: true },
    ]);
    const rows = await database.query(
      `select m.id, message_json(m) as data from messages m where account_id = $1 order by id`,
      [accountId],
    );
    for (const { id, data } of rows) expect(data).toEqual(await show(id));
    const participant = { phone: '62877', lid: '77@lid' };
    expect(rows.map(({ data }: { data: object }) => data)).toMatchObject([
      {
        type: 'location',
        from: '120363000000000000@g.us',
        participant,
        text: null,
        location: { latitude: 1, longitude: 2, name: 'Home', address: 'A street' },
        mentions: ['6281'],
        replyTo: null,
        quotedWhatsappId: 'NOBODYS',
      },
      { type: 'contact', contact: [{ name: 'Siti', phone: '6281234567890', organization: null }] },
      { type: 'unsupported', whatsappType: 'order' },
      {
        type: 'image',
        media: { mediaId: null, error: { code: 'media.unavailable' } },
        viewOnce: true,
        gif: false,
      },
      { type: 'video', viewOnce: false, gif: true },
    ]);
  });
});
