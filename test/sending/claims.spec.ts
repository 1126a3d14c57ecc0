import { randomUUID } from 'node:crypto';
import type { INestApplicationContext } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { PacingReservations } from '../../src/sending/pacing-reservations.js';
import { LanesService } from '../../src/sending/lanes.service.js';
import type { MessageSender } from '../../src/sending/message-sender.js';
import { strictOrder } from '../../src/sending/lane-order.js';
import { AcceptService } from '../../src/messages/accept.service.js';
import { MessagesService } from '../../src/messages/messages.service.js';
import { IncomingService } from '../../src/receiving/incoming.service.js';
import { UpdatesService } from '../../src/receiving/updates.service.js';
import { LaneRunner } from '../../src/sending/lane-runner.js';
import { OutcomesService } from '../../src/receiving/outcomes.service.js';
import { FailedJobsService } from '../../src/queues/failed-jobs.service.js';
import { QueueStates } from '../../src/queues/queue-states.js';
import { QueuesService } from '../../src/queues/queues.service.js';
import { insertAccount, insertWorkspace, ready } from '../support/factories.js';
import { fake } from '../support/fake.js';
import { silent, startServices } from '../support/services.js';
import { scratchDatabase } from '../support/scratch-database.js';

const day = 24 * 3_600_000;

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let accepting: AcceptService;
let messages: MessagesService;
let sending: LaneRunner;
let updates: UpdatesService;
let incomingService: IncomingService;
/** Claiming needs no session. */
const neverSends = fake<MessageSender>({});
let workspaceId: string;
let accountId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  ({ context, database } = await startServices(scratch.config));
  accepting = context.get(AcceptService);
  messages = context.get(MessagesService);
  sending = new LaneRunner(database, neverSends, new PacingReservations(database), scratch.config, silent);
  updates = new UpdatesService(database);
  incomingService = new IncomingService(database, new PacingReservations(database));
});
afterAll(async () => {
  await context?.close();
  await drop?.();
});

/** Each test has its own ready account. No instance is asked to send. */
beforeEach(async () => {
  workspaceId = await insertWorkspace(database);
  accountId = await newAccount();
});

function newAccount(): Promise<string> {
  return insertAccount(database, workspaceId, ready);
}

async function accept(text: string, more: object = {}): Promise<string> {
  const wanted = {
    accountId,
    to: '+6281234567890',
    text,
    type: 'text' as const,
    priority: 'normal' as const,
    ...more,
  };
  return (await accepting.accept(workspaceId, wanted)).id;
}

async function statusOf(id: string): Promise<string> {
  return (await messages.get(workspaceId, id)).status;
}

/** Claims under the first epoch of an account. */
const claim = (order: readonly number[] = strictOrder, account = accountId) =>
  sending.claim(account, 0, order);

describe('claiming', () => {
  it('takes the most urgent message, the oldest of its priority first', async () => {
    const first = await accept('first');
    const second = await accept('second');
    const urgent = await accept('urgent', { priority: 'urgent' });
    const claimed = await claim();
    expect(claimed?.id).toBe(urgent);
    expect(await claim()).toBeNull();
    for (const next of [first, second]) {
      await updates.writeAcks([
        { accountId, whatsappId: (await messages.get(workspaceId, urgent)).whatsappId, ack: 1 },
      ]);
      await database.query(
        `update messages set status = 'sent' where stage = 'sending' and account_id = $1`,
        [accountId],
      );
      expect((await claim())?.id).toBe(next);
    }
  });

  it('takes only the priorities that its worker serves, in the given order', async () => {
    const normal = await accept('normal');
    const high = await accept('high', { priority: 'high' });
    const campaign = await accept('campaign');
    await database.query('update messages set priority = 0 where id = $1', [campaign]);
    expect(await claim([3])).toBeNull();
    expect((await claim([3, 0, 2, 1]))?.id).toBe(campaign);
    await database.query(`update messages set status = 'sent' where id = $1`, [campaign]);
    expect((await claim([1, 2]))?.id).toBe(normal);
    expect(await statusOf(high)).toBe('queued');
  });

  it('succeeds once for each account, if many claim at the same time', async () => {
    const accounts = [accountId, await newAccount(), await newAccount()];
    for (const id of accounts)
      for (let number = 0; number < 5; number += 1) await accept(`${number}`, { accountId: id });
    const tries = accounts.flatMap((id) => Array.from({ length: 5 }, () => claim(strictOrder, id)));
    const claims = (await Promise.all(tries)).filter((claimed) => claimed !== null);
    expect(claims.map((claimed) => claimed.accountId).sort()).toEqual([...accounts].sort());
    expect(claims.every(({ text }) => text === '0')).toBe(true);
  });

  it('holds a lane back while its first message waits for another attempt', async () => {
    const first = await accept('first');
    await accept('second');
    await database.query(`update messages set next_attempt_at = now() + interval '1 minute' where id = $1`, [
      first,
    ]);
    expect(await claim()).toBeNull();
  });

  it('is not held back by a campaign message that is first but not due', async () => {
    const campaign = await accept('campaign');
    await database.query(`update messages set priority = 0, next_attempt_at = 'infinity' where id = $1`, [
      campaign,
    ]);
    const normal = await accept('normal');
    expect((await claim([3, 0, 2, 1]))?.id).toBe(normal);
  });

  it('skips expired messages, and the scheduler marks them', async () => {
    const expired = await accept('expired', { expiresAt: new Date(Date.now() + 60_000).toISOString() });
    await database.query(`update messages set expires_at = now() - interval '1 second' where id = $1`, [
      expired,
    ]);
    const next = await accept('next');
    expect((await claim())?.id).toBe(next);
    await context.get(LanesService).promote();
    expect((await messages.get(workspaceId, expired)).status).toBe('expired');
  });

  it('takes over a send whose claim has run out, and not a fresh one', async () => {
    const id = await accept('once');
    expect((await claim())?.attempt).toBe(1);
    expect(await claim()).toBeNull();
    await database.query(`update messages set next_attempt_at = now() - interval '1 second' where id = $1`, [
      id,
    ]);
    expect((await claim())?.attempt).toBe(2);
  });

  it('is refused under an earlier epoch', async () => {
    await accept('stale');
    await database.query('update accounts set epoch = 7 where id = $1', [accountId]);
    expect(await sending.claim(accountId, 6, strictOrder)).toBeNull();
    expect(await sending.claim(accountId, 7, strictOrder)).not.toBeNull();
  });

  it('puts no head of an account that is not ready', async () => {
    const id = await accept('patience');
    await database.query(`update accounts set status = 'disconnected' where id = $1`, [accountId]);
    expect(await claim()).toBeNull();
    expect(await statusOf(id)).toBe('queued');
  });
});

describe('acks', () => {
  it('move a message only forward, and make one event for every step', async () => {
    const id = await accept('acked');
    const { whatsappId } = await messages.get(workspaceId, id);
    await claim();
    const ack = (value: number) => ({ accountId, whatsappId, ack: value });
    await updates.writeAcks([ack(3), ack(1), ack(2)]);
    expect(await statusOf(id)).toBe('read');
    await updates.writeAcks([ack(1), ack(2), ack(-1)]);
    expect(await statusOf(id)).toBe('read');
    const events: { type: string }[] = await database.query(
      'select type from events where account_id = $1 order by id',
      [accountId],
    );
    expect(events.map(({ type }) => type)).toEqual([
      'message.queued',
      'message.sent',
      'message.delivered',
      'message.read',
    ]);
  });

  it('make a refused message failed, with the reason', async () => {
    const id = await accept('refused');
    const { whatsappId } = await messages.get(workspaceId, id);
    await claim();
    await updates.writeAcks([{ accountId, whatsappId, ack: -1 }]);
    expect(await messages.get(workspaceId, id)).toMatchObject({
      status: 'failed',
      errorCode: 'whatsapp.refused',
    });
  });

  it('move a refused message forward if its page sent it later, and remove its error', async () => {
    const id = await accept('refused first');
    const { whatsappId } = await messages.get(workspaceId, id);
    await claim();
    await updates.writeAcks([{ accountId, whatsappId, ack: -1 }]);
    await updates.writeAcks([{ accountId, whatsappId, ack: 2 }]);
    expect(await messages.get(workspaceId, id)).toMatchObject({
      status: 'delivered',
      errorCode: null,
      errorMessage: null,
      failedAt: null,
    });
    expect(await database.query('select from failed_jobs where message_id = $1', [id])).toEqual([]);
    const events: { type: string; failed: string | null }[] = await database.query(
      `select type, data ->> 'failedAt' is not null as failed from events where account_id = $1 order by id`,
      [accountId],
    );
    expect(events.map(({ type, failed }) => [type, failed])).toEqual([
      ['message.queued', false],
      ['message.failed', true],
      ['message.sent', false],
      ['message.delivered', false],
    ]);
  });

  it('of both kinds for one message leave it as the last ack says, but a delivered message stays delivered', async () => {
    for (const [told, status] of [
      [[-1, 1], 'sent'],
      [[1, -1], 'failed'],
      [[-1, 2, 1], 'delivered'],
      [[2, -1], 'delivered'],
      [[1, -1, 0], 'failed'],
    ] as const) {
      const id = await accept('both');
      const { whatsappId } = await messages.get(workspaceId, id);
      await claim();
      await updates.writeAcks(told.map((ack) => ({ accountId, whatsappId, ack })));
      expect([told, await statusOf(id)]).toEqual([told, status]);
    }
  });

  it('are also looked up for a refused message: its page may have sent it while no session listened', async () => {
    const id = await accept('refused');
    const { whatsappId } = await messages.get(workspaceId, id);
    await claim();
    await updates.writeAcks([{ accountId, whatsappId, ack: -1 }]);
    expect(await updates.awaitingAcks(accountId, 10)).toEqual([expect.objectContaining({ whatsappId })]);
  });
});

describe('an incoming message', () => {
  it('is stored once, however often it comes', async () => {
    const account = { id: accountId };
    const incoming = { whatsappId: 'ABC', chatId: '6281@c.us', from: '6281@c.us', type: 'chat', text: 'hi' };
    await incomingService.storeIncoming(account, [incoming, incoming]);
    await incomingService.storeIncoming(account, [incoming]);
    const stored: object[] = await database.query(
      'select type, sender, status from messages where account_id = $1',
      [accountId],
    );
    expect(stored).toEqual([{ type: 'text', sender: '6281', status: 'received' }]);
  });
});

describe('a paused queue', () => {
  it('holds its messages, while the other queues still get heads', async () => {
    const states = context.get(QueueStates);
    const lanes = context.get(LanesService);
    const queue = context.get(QueuesService).queue('whatsapp-normal');
    await accept('held', { priority: 'high' });
    const id = await accept('goes on');
    await states.pause('whatsapp-high');
    try {
      await queue.drain();
      await lanes.sweep();
      expect(await queue.getJob(`message-${id}`)).toBeDefined();
    } finally {
      await states.resume('whatsapp-high');
    }
  });
});

describe('messages with an unknown outcome', () => {
  it('are looked up by one job for each ready account with such messages', async () => {
    const messaging = context.get(QueuesService).queue('messaging');
    const outcomes = context.get(OutcomesService);
    const [away, broken] = [await newAccount(), await newAccount()];
    for (const account of [accountId, accountId, away, broken]) {
      const id = await accept('unknown', { accountId: account });
      await database.query(`update messages set status = 'unknown' where id = $1`, [id]);
    }
    await database.query(`update accounts set status = 'disconnected' where id = $1`, [away]);
    await database.query(`update accounts set web_contract = 'broken' where id = $1`, [broken]);
    await messaging.drain();
    await outcomes.put();
    expect((await messaging.getJobs(['waiting'])).map(({ data }) => data)).toEqual([{ accountId }]);
    await database.query(`update messages set status = 'sent' where account_id = $1`, [accountId]);
    await messaging.drain();
    expect(await outcomes.put()).toBe(0);
  });

  it('are looked up even if their failed jobs were deleted', async () => {
    const failedJobs = context.get(FailedJobsService);
    const ids = [await accept('unknown'), await accept('refused')];
    const [unknown, refused] = await Promise.all(ids.map((id) => messages.get(workspaceId, id)));
    await database.query(`update messages set status = 'unknown' where id = $1`, [ids[0]]);
    await updates.writeAcks([{ accountId, whatsappId: refused!.whatsappId, ack: -1 }]);
    expect(await failedJobs.forget(ids[0]!)).toBe(true);
    expect(await failedJobs.prune(0)).toBeGreaterThan(0);
    expect(await context.get(OutcomesService).put()).toBe(1);
    expect((await updates.awaitingAcks(accountId, 10)).map(({ whatsappId }) => whatsappId).sort()).toEqual(
      [unknown!.whatsappId, refused!.whatsappId].sort(),
    );
    await updates.writeAcks([{ accountId, whatsappId: unknown!.whatsappId, ack: 3 }]);
    expect(await updates.awaitingAcks(accountId, 10)).toEqual([
      expect.objectContaining({ whatsappId: refused!.whatsappId }),
    ]);
    expect(await context.get(OutcomesService).put()).toBe(0);
  });

  it('are found again after many refused messages, and so are sent messages', async () => {
    const [unknown, sent] = [await accept('unknown'), await accept('sent')];
    await database.query(`update messages set status = 'unknown' where id = $1`, [unknown]);
    await database.query(`update messages set status = 'sent', sent_at = now() where id = $1`, [sent]);
    for (let count = 0; count < 10; count += 1) {
      const { whatsappId } = await messages.get(workspaceId, await accept('refused'));
      await updates.writeAcks([{ accountId, whatsappId, ack: -1 }]);
    }
    const awaited = (await updates.awaitingAcks(accountId, 10)).map(({ whatsappId }) => whatsappId);
    for (const id of [unknown, sent])
      expect(awaited).toContain((await messages.get(workspaceId, id)).whatsappId);
    expect(awaited).toHaveLength(4);
    await database.query(`update messages set status = 'sent' where id = $1`, [unknown]);
  });

  it('are looked up for two days, and for two more days if they wait to be sent again', async () => {
    const id = await accept('unknown');
    await database.query(`update messages set status = 'unknown' where id = $1`, [id]);
    await database.query(
      `update uncertain_messages set since = now() - interval '49 hours' where message_id = $1`,
      [id],
    );
    expect(await context.get(OutcomesService).put()).toBe(0);
    expect(await updates.awaitingAcks(accountId, 10)).toEqual([]);
    await accepting.resend(workspaceId, id);
    expect(await updates.awaitingAcks(accountId, 10)).toHaveLength(1);
  });
});

describe('an uncertain send of an account that was unlinked', () => {
  const become = (status: string, linkedAt: Date | null) =>
    database.query('update accounts set status = $2, linked_at = $3 where id = $1', [
      accountId,
      status,
      linkedAt,
    ]);
  const waitFor = (id: string, seconds: number) =>
    database.query(`update messages set next_attempt_at = now() + $2 * interval '1 second' where id = $1`, [
      id,
      seconds,
    ]);
  const sweep = () => context.get(LanesService).sweep();

  it('becomes unknown, also while it waits for its next attempt, and even if the account is linked again', async () => {
    for (const status of ['logged_out', 'starting', 'qr', 'syncing', 'disconnected']) {
      const id = await accept(status);
      await become('ready', new Date());
      expect((await claim())?.id).toBe(id);
      await waitFor(id, 30);
      await become(status, null);
      await sweep();
      const { status: now, errorCode } = await messages.get(workspaceId, id);
      expect([status, now, errorCode]).toEqual([status, 'unknown', 'account.logged_out']);
      await database.query('delete from messages where id = $1', [id]);
    }
  });

  it('becomes unknown if WhatsApp Web asks for a new link', async () => {
    const id = await accept('unlinked unnoticed');
    await become('ready', new Date());
    await claim();
    await waitFor(id, 0);
    await become('qr', new Date());
    await sweep();
    expect(await statusOf(id)).toBe('unknown');
  });

  it('is left to an instance that may still be sending it', async () => {
    const id = await accept('under way');
    await become('ready', new Date());
    await claim();
    await become('logged_out', null);
    await sweep();
    expect(await statusOf(id)).toBe('sending');
    await waitFor(id, 0);
    await sweep();
    expect(await statusOf(id)).toBe('unknown');
  });

  it('waits while its account is linked', async () => {
    const id = await accept('in doubt');
    await become('ready', new Date());
    await claim();
    await waitFor(id, 0);
    await become('disconnected', new Date());
    await sweep();
    expect(await statusOf(id)).toBe('sending');
  });
});

describe('the messages to ask a page for when its account is ready', () => {
  const awaited = async () => (await updates.awaitingAcks(accountId, 10)).map(({ whatsappId }) => whatsappId);
  /** A message that was accepted three days ago, and waited until now. */
  async function acceptedLongAgo(): Promise<{ id: string; whatsappId: string }> {
    const whatsappId = randomUUID();
    const id = uuidv7({ msecs: Date.now() - 3 * day });
    await database.query(
      `insert into messages (id, workspace_id, account_id, direction, type, chat_id, recipient, text, status, whatsapp_id, created_at)
       values ($1, $2, $3, 'outgoing', 'text', '1@c.us', '1', 'late', 'queued', $4, now() - interval '3 days')`,
      [id, workspaceId, accountId, whatsappId],
    );
    return { id, whatsappId };
  }

  it('depend on the time of the send, not of the acceptance', async () => {
    const { whatsappId } = await acceptedLongAgo();
    await claim();
    expect(await awaited()).toEqual([whatsappId]);
    await updates.writeAcks([{ accountId, whatsappId, ack: 1 }]);
    expect(await awaited()).toEqual([whatsappId]);
    await database.query(`update messages set sent_at = now() - interval '49 hours' where whatsapp_id = $1`, [
      whatsappId,
    ]);
    expect(await awaited()).toEqual([]);
  });

  it('depend on the time at which the outcome became unknown', async () => {
    const { id, whatsappId } = await acceptedLongAgo();
    await claim();
    await database.query(`update messages set status = 'unknown' where id = $1`, [id]);
    expect(await awaited()).toEqual([whatsappId]);
    await accepting.resend(workspaceId, id);
    expect(await awaited()).toEqual([whatsappId]);
  });

  it('depend on the last change: a message that was refused after the send does not count as sent', async () => {
    const id = await accept('refused after ack 1');
    const { whatsappId } = await messages.get(workspaceId, id);
    await claim();
    await updates.writeAcks([{ accountId, whatsappId, ack: 1 }]);
    await updates.writeAcks([{ accountId, whatsappId, ack: -1 }]);
    expect((await messages.get(workspaceId, id)).sentAt).toBeNull();
  });
});
