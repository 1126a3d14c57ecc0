import type { INestApplicationContext } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AcceptService } from '../../src/messages/accept.service.js';
import { toMessageResponse } from '../../src/messages/messages.dto.js';
import { MessagesService } from '../../src/messages/messages.service.js';
import { PacingService } from '../../src/pacing/pacing.service.js';
import { IncomingService } from '../../src/receiving/incoming.service.js';
import type { MediaDownloader } from '../../src/receiving/media-downloader.js';
import type { OutcomeFinder } from '../../src/receiving/outcome-finder.js';
import { SessionListener } from '../../src/receiving/session.listener.js';
import { UpdatesService } from '../../src/receiving/updates.service.js';
import type { MessageSender } from '../../src/sending/message-sender.js';
import { PacingReservations } from '../../src/sending/pacing-reservations.js';
import type { PageMessage } from '../../src/whatsapp/in-page/page-functions.js';
import { eventually } from '../support/eventually.js';
import { accountOf, insertAccount, insertWorkspace, pageMessageOf, ready } from '../support/factories.js';
import { fake } from '../support/fake.js';
import { sessionsWith, startSession } from '../support/fakes.js';
import { scratchDatabase } from '../support/scratch-database.js';
import { silent, startServices } from '../support/services.js';

/* What a page reports is stored: by whom, when it was written, and never a message of ours as one from the phone. */

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let incoming: IncomingService;
let updates: UpdatesService;
let messages: MessagesService;
let workspaceId: string;
let accountId: string;

const own = '6289@c.us';
const friend = '6281234567890@c.us';
const group = '120363012345678901@g.us';
const seconds = (ago: number) => Math.floor(Date.now() / 1_000) - ago;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  ({ context, database } = await startServices(scratch.config));
  incoming = new IncomingService(database, new PacingReservations(database));
  updates = new UpdatesService(database);
  messages = context.get(MessagesService);
});
afterAll(async () => {
  await context?.close();
  await drop?.();
});
beforeEach(async () => {
  workspaceId = await insertWorkspace(database);
  accountId = await insertAccount(database, workspaceId, { ...ready, phone_number: '6289' });
});

/** A message that the owner wrote on the phone. */
function fromPhone(told: Partial<PageMessage>): PageMessage {
  return pageMessageOf({ fromMe: true, ack: 1, from: own, to: friend, ...told });
}

function store(...told: PageMessage[]): Promise<unknown> {
  return incoming.storeIncoming({ id: accountId }, told);
}

/** All messages of the account as the API shows them, oldest first. */
async function all() {
  const { rows } = await messages.list(workspaceId, { accountId, limit: 200 } as never);
  return rows.reverse().map(toMessageResponse);
}

async function events(): Promise<{ type: string; data: { whatsappId: string; status: string } }[]> {
  return database.query(
    'select type, data from events where workspace_id = $1 and type like $2 order by id',
    [workspaceId, 'message.%'],
  );
}

describe('a message from the phone', () => {
  it('is an outgoing message with the origin device, and one event tells of it', async () => {
    const message = fromPhone({
      whatsappId: 'PHONE',
      chatId: friend,
      text: 'by hand',
      timestamp: seconds(60),
    });
    await store(message);
    await store(message, { ...message, ack: 3 });
    const [shown, ...more] = await all();
    expect(more).toEqual([]);
    expect(shown).toMatchObject({
      direction: 'outgoing',
      origin: 'device',
      status: 'sent',
      to: '6281234567890',
      from: '6289',
      text: 'by hand',
      participant: null,
      sentAt: new Date(message.timestamp * 1_000).toISOString(),
    });
    expect(await events()).toEqual([{ type: 'message.sent_elsewhere', data: shown }]);
  });

  it('to a hidden number or a group keeps the chat, and shows the number only if WhatsApp does', async () => {
    await store(
      fromPhone({ whatsappId: 'A', chatId: '77@lid', timestamp: seconds(9) }),
      fromPhone({ whatsappId: 'B', chatId: '78@lid', alias: friend, timestamp: seconds(8) }),
      fromPhone({ whatsappId: 'C', chatId: group, subject: 'Depot', timestamp: seconds(7) }),
    );
    expect((await all()).map(({ to, group: where }) => [to, where])).toEqual([
      ['77@lid', null],
      ['6281234567890', null],
      [group, { id: group, subject: 'Depot' }],
    ]);
  });

  it('with media is told once, when its media is settled, whatever acks came before', async () => {
    const media = { mimetype: 'image/png', size: 1, filename: null };
    await store(fromPhone({ whatsappId: 'PICTURE', chatId: friend, type: 'image', media }));
    await updates.writeAcks([{ accountId, whatsappId: 'PICTURE', ack: 3 }]);
    expect(await events()).toEqual([]);
    await database.query('update messages set media_due_at = null where account_id = $1', [accountId]);
    await updates.writeAcks([{ accountId, whatsappId: 'PICTURE', ack: 4 }]);
    expect((await events()).map(({ type, data }) => [type, data.status])).toEqual([
      ['message.sent_elsewhere', 'read'],
      ['message.played', 'played'],
    ]);
  });

  it('gets the acks that come with it and right after it', async () => {
    const sessions = sessionsWith({});
    const sender = fake<MessageSender>({ hasJustSent: () => false });
    const none = [fake<OutcomeFinder>({}), fake<MediaDownloader>({})] as const;
    const listener = new SessionListener(sessions, incoming, updates, sender, ...none, silent);
    listener.onModuleInit();
    const session = startSession(sessions, accountOf({ id: accountId }));
    session.emit('ack', { whatsappId: 'SECOND', ack: 3 });
    session.emit('message', fromPhone({ whatsappId: 'FIRST', chatId: friend, ack: 2 }));
    session.emit('message', fromPhone({ whatsappId: 'SECOND', chatId: friend }));
    try {
      await eventually('both have their acks', async () => {
        const found = (await all()).map(({ status }) => status);
        return found.join() === 'delivered,read' || Promise.reject(new Error(found.join()));
      });
      expect((await events()).map(({ type }) => type).sort()).toEqual([
        'message.delivered',
        'message.delivered',
        'message.read',
        'message.sent_elsewhere',
        'message.sent_elsewhere',
      ]);
    } finally {
      await listener.beforeApplicationShutdown();
    }
  });
});

describe('a message of ours', () => {
  const accept = async (text: string) =>
    context
      .get(AcceptService)
      .accept(workspaceId, { accountId, to: `+6281234567890`, type: 'text', priority: 'normal', text });

  it.each(['queued', 'sending', 'sent', 'failed', 'unknown', 'cancelled', 'expired'])(
    'is never taken for one from the phone, when it is %s',
    async (status) => {
      const { id, whatsappId } = await accept('ours');
      await database.query('update messages set status = $2 where id = $1', [id, status]);
      const before = await all();
      await store(fromPhone({ whatsappId, chatId: friend, text: 'ours' }));
      expect(await all()).toEqual(before);
      expect(await incoming.unknownIds(accountId, [whatsappId, 'PHONE'])).toEqual(['PHONE']);
    },
  );

  it('nor under the id that it had before it was sent again', async () => {
    const { id, whatsappId: first } = await accept('refused');
    const used = [first];
    for (let round = 0; round < 2; round += 1) {
      await database.query(`update messages set status = 'failed' where id = $1`, [id]);
      used.push((await context.get(AcceptService).resend(workspaceId, id)).whatsappId);
    }
    expect(new Set(used).size).toBe(3);
    await store(...used.map((whatsappId) => fromPhone({ whatsappId, chatId: friend })));
    expect((await all()).map(({ origin }) => origin)).toEqual(['api']);
    expect(await incoming.unknownIds(accountId, used)).toEqual([]);
  });

  it('is one from the phone for another account: that one did not send it', async () => {
    const { whatsappId } = await accept('ours');
    accountId = await insertAccount(database, workspaceId, { ...ready, phone_number: '6289' });
    await store(fromPhone({ whatsappId, chatId: friend }));
    expect((await all()).map(({ origin }) => origin)).toEqual(['device']);
  });
});

describe('what arrives late', () => {
  it('has the time at which it was written, and is stored and told in that order', async () => {
    await store(
      pageMessageOf({ whatsappId: 'THIRD', quoted: 'SECOND', timestamp: seconds(60) }),
      pageMessageOf({ whatsappId: 'FIRST', timestamp: seconds(7_200) }),
      fromPhone({ whatsappId: 'SECOND', chatId: friend, quoted: 'FIRST', timestamp: seconds(3_600) }),
    );
    const shown = await all();
    expect(shown.map(({ whatsappId }) => whatsappId)).toEqual(['FIRST', 'SECOND', 'THIRD']);
    expect((await events()).map(({ data }) => data.whatsappId)).toEqual(['FIRST', 'SECOND', 'THIRD']);
    const ages = shown.map(({ sentAt, createdAt }) => Date.parse(createdAt) - Date.parse(sentAt!));
    for (const [index, age] of [7_200_000, 3_600_000, 60_000].entries())
      expect(Math.abs(ages[index]! - age)).toBeLessThan(30_000);
    // An answer has its original, also if both come at once.
    expect(shown.map(({ replyTo }) => replyTo)).toEqual([null, shown[0]!.id, shown[1]!.id]);
    await store(pageMessageOf({ whatsappId: 'FOURTH', quoted: 'SECOND' }));
    expect((await all()).at(-1)!.replyTo).toBe(shown[1]!.id);
  });

  it.each([NaN, -1, 0, 9e12])('with the time %s is dated to now', async (timestamp) => {
    await store(pageMessageOf({ timestamp }));
    const [shown] = await all();
    expect(Math.abs(Date.parse(shown!.sentAt!) - Date.now())).toBeLessThan(30_000);
  });
});

describe('who wrote it', () => {
  it('has the name that the page knows, and the subject of the group; no more than can be stored', async () => {
    await store(
      pageMessageOf({ whatsappId: 'A', fromName: 'Siti', timestamp: seconds(9) }),
      pageMessageOf({
        whatsappId: 'B',
        chatId: '77@lid',
        from: '77@lid',
        fromName: 'x\u0000'.repeat(2_000),
        timestamp: seconds(8),
      }),
      pageMessageOf({
        whatsappId: 'C',
        chatId: group,
        from: friend,
        fromName: null,
        subject: 'Depot',
        timestamp: seconds(7),
      }),
    );
    const shown = await all();
    expect(shown.map(({ participant }) => participant)).toEqual([
      { phone: '6281234567890', lid: null, name: 'Siti' },
      { phone: null, lid: '77@lid', name: expect.stringMatching(/^x{100,500}$/) },
      { phone: '6281234567890', lid: null, name: null },
    ]);
    expect(shown.map((message) => message.group)).toEqual([null, null, { id: group, subject: 'Depot' }]);
    expect((await events()).map(({ data }) => data)).toEqual(shown);
  });

  it('has no name in older rows, in answers and events alike', async () => {
    await store(pageMessageOf({ fromName: 'Siti' }));
    await database.query(
      `update messages set content = content #- '{participant,name}', edited_at = now(), text = 'x' where account_id = $1`,
      [accountId],
    );
    const [shown] = await all();
    expect(shown!.participant).toEqual({ phone: '6281234567890', lid: null, name: null });
    expect((await events()).at(-1)!.data).toMatchObject({ participant: shown!.participant, group: null });
  });
});

describe('pacing', () => {
  const state = async () => {
    const [row] = await database.query(
      `select cold_sent as cold, replies_sent as replies, last_sent_at as "lastSentAt", next_send_at as next
       from account_pacing where account_id = $1`,
      [accountId],
    );
    return row as { cold: number; replies: number; lastSentAt: Date | null; next: Date[] };
  };

  beforeEach(async () => {
    const pacing = { enabled: true, gapSeconds: { normal: 60, campaign: 600 }, jitter: 0 };
    await database.query('update accounts set pacing = $2 where id = $1', [accountId, pacing]);
    await context.get(PacingService).apply(database.manager, { accountId });
  });

  it('counts messages from the phone as WhatsApp does: once each, of today, strangers apart', async () => {
    await store(pageMessageOf({ whatsappId: 'HELLO' }));
    const toStranger = fromPhone({ whatsappId: 'STRANGER', chatId: '6285555555555@c.us' });
    const toFriend = fromPhone({ whatsappId: 'FRIEND', chatId: friend });
    const before = Date.now();
    await store(
      toStranger,
      toFriend,
      fromPhone({ whatsappId: 'OLD', chatId: friend, timestamp: seconds(2 * 86_400) }),
    );
    await store(toStranger, toFriend);
    const { cold, replies, next } = await state();
    expect({ cold, replies }).toEqual({ cold: 1, replies: 1 });
    // The next message of Flotilla keeps its distance from what a person has just written.
    for (const place of [0, 1]) expect(next[place]!.getTime()).toBeGreaterThanOrEqual(before + 55_000);
  });

  it('keeps the count when a message that was about to be sent gives its budget back', async () => {
    const reservations = new PacingReservations(database);
    const accepted = await context.get(AcceptService).accept(workspaceId, {
      accountId,
      to: `+6281234567890`,
      type: 'text',
      priority: 'normal',
      text: 'paced',
    });
    const paced = { id: accepted.id, accountId, priority: 1, chatId: friend, text: 'paced' };
    await reservations.reserve(paced);
    await store(fromPhone({ whatsappId: 'BETWEEN', chatId: friend }));
    expect(await state()).toMatchObject({ cold: 2, replies: 0 });
    await reservations.release(paced, 'not_tried');
    expect(await state()).toMatchObject({ cold: 1, replies: 0 });
  });
});
