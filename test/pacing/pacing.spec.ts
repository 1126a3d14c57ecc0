import type { INestApplicationContext } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { AccountsService } from '../../src/accounts/accounts.service.js';
import { PacingReservations } from '../../src/sending/pacing-reservations.js';
import { NumberChecksPaused } from '../../src/sending/recipient-checks.js';
import { PacingService } from '../../src/pacing/pacing.service.js';
import { LanesService } from '../../src/sending/lanes.service.js';
import { laneHead, strictOrder } from '../../src/sending/lane-order.js';
import { AcceptService } from '../../src/messages/accept.service.js';
import { MessagesService } from '../../src/messages/messages.service.js';
import { RecipientIds } from '../../src/messages/recipient-ids.service.js';
import { IncomingService } from '../../src/receiving/incoming.service.js';
import { UpdatesService } from '../../src/receiving/updates.service.js';
import type { Claim } from '../../src/sending/claims.js';
import { LaneRunner } from '../../src/sending/lane-runner.js';
import { Problem } from '../../src/platform/errors/problem.js';
import { queuePolicies } from '../../src/queues/queue-policies.js';
import type { PacingDto } from '../../src/workspaces/pacing-settings.dto.js';
import { WorkspacesService } from '../../src/workspaces/workspaces.service.js';
import { eventually } from '../support/eventually.js';
import { senderThat } from '../support/fakes.js';
import { silent, startServices } from '../support/services.js';
import { scratchDatabase } from '../support/scratch-database.js';

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let accounts: AccountsService;
let workspaces: WorkspacesService;
let pacing: PacingService;
let reservations: PacingReservations;
let accepting: AcceptService;
let messages: MessagesService;
let sending: LaneRunner;
let updates: UpdatesService;
let incomingService: IncomingService;
let workspaceId: string;

/** A simulated session: the messages that it gets to send, and the outcome. */
let asked: Claim[] = [];
let problem: string | null = null;
const sender = senderThat(async (message) => {
  asked.push(message);
  if (problem === 'whatsapp.number_checks_paused') throw new NumberChecksPaused(Date.now() + 60_000, true);
  if (problem) throw new Problem(422, problem, 'as told');
  return { ack: 1 };
});

const cold = '6281100000001';
const friend = '6281100000002';

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  ({ context, database } = await startServices(scratch.config));
  accounts = context.get(AccountsService);
  workspaces = context.get(WorkspacesService);
  pacing = context.get(PacingService);
  reservations = context.get(PacingReservations);
  accepting = context.get(AcceptService);
  messages = context.get(MessagesService);
  sending = new LaneRunner(database, sender, reservations, scratch.config, silent);
  updates = new UpdatesService(database);
  incomingService = new IncomingService(database, new PacingReservations(database));
});
afterAll(async () => {
  await context?.close();
  await drop?.();
});

beforeEach(async () => {
  asked = [];
  problem = null;
  await database.query('delete from accounts');
  workspaceId = (await workspaces.create({ name: 'test' })).id;
});

/** A ready account, linked some days ago. Typing is off, because it takes 1 to 3 seconds of each gap. */
async function newAccount(
  own: PacingDto | null = {},
  { environment = 'live' as 'live' | 'sandbox', linked = 100 } = {},
): Promise<string> {
  const { id } = await accounts.create(workspaceId, {
    name: 'a',
    environment,
    pacing: own && { typing: false, ...own },
  });
  await database.query(
    `update accounts set status = 'ready', linked_at = now() - $2 * interval '1 day' where id = $1`,
    [id, linked],
  );
  // As if the account had been linked before it was paced.
  await database.query(
    `update account_pacing set warm_up_from = ((now() - $2 * interval '1 day') at time zone 'UTC')::date where account_id = $1`,
    [id, linked],
  );
  return id;
}

async function accept(accountId: string, to: string, priority: 'urgent' | 'high' | 'normal' = 'normal') {
  return (await accepting.accept(workspaceId, { accountId, to, text: `to ${to}`, type: 'text', priority }))
    .id;
}

async function hears(accountId: string, from: string, alias: string | null = null): Promise<void> {
  const { id } = await accounts.get(workspaceId, accountId);
  const chatId = from.includes('@') ? from : `${from}@c.us`;
  await incomingService.storeIncoming({ id }, [
    { whatsappId: uuidv7(), chatId, alias, from: chatId, type: 'chat', text: 'hi' },
  ]);
}

/** Claims the first message of a lane, if a message may leave now. */
const claimNext = (accountId: string) => sending.claim(accountId, 0, strictOrder);

/** Sends the first message of a lane that may leave now. @returns the message, or null if pacing keeps all messages back */
async function sendNext(accountId: string): Promise<string | null> {
  const before = asked.length;
  await sending.run(accountId, {
    epoch: 0,
    order: strictOrder,
    most: 1,
    forMs: 1_000,
    asUrgentOnly: false,
    policy: queuePolicies['whatsapp-normal'],
  });
  await sending.settled();
  return asked[before]?.id ?? null;
}

async function sendTo(accountId: string, to: string): Promise<string | null> {
  await accept(accountId, to);
  return sendNext(accountId);
}

/** WhatsApp refuses the last message, in an ack after the send. */
async function refuseLast(): Promise<void> {
  const { accountId, whatsappId } = asked.at(-1)!;
  await updates.writeAcks([{ accountId, whatsappId, ack: -1 }]);
}

/** Simulates the passage of time: moves every time in the account's row back. It publishes no event. */
async function later(accountId: string, interval: string): Promise<void> {
  await database.transaction(async (manager) => {
    await manager.query('alter table account_pacing disable trigger account_cold_lane');
    await manager.query(
      `update account_pacing set day = day - extract(day from $2::interval)::int,
         next_send_at = array(select time - $2::interval from unnest(next_send_at) with ordinality as t (time, n) order by n),
         last_sent_at = last_sent_at - $2::interval, cold_closed_until = cold_closed_until - $2::interval,
         replies_closed_until = replies_closed_until - $2::interval, cold_paused_until = cold_paused_until - $2::interval
       where account_id = $1`,
      [accountId, interval],
    );
    await manager.query('alter table account_pacing enable trigger account_cold_lane');
  });
}

async function sendingOf(accountId: string) {
  return (await pacing.describe([accountId])).get(accountId)!;
}

async function statusOf(id: string): Promise<string> {
  return (await messages.get(workspaceId, id)).status;
}

async function isPaced(accountId: string): Promise<boolean> {
  const rows: object[] = await database.query('select from account_pacing where account_id = $1', [
    accountId,
  ]);
  return rows.length === 1;
}

async function eventsOf(accountId: string): Promise<{ type: string; data: Record<string, unknown> }[]> {
  return database.query(
    `select type, data from events where account_id = $1 and type like 'account.cold_%' order by id`,
    [accountId],
  );
}

describe('settings', () => {
  it('pace live accounts and not sandbox accounts, unless the account or its workspace says otherwise', async () => {
    const live = await newAccount(null);
    const sandbox = await newAccount(null, { environment: 'sandbox' });
    const own = await newAccount({ enabled: true }, { environment: 'sandbox' });
    const all = async () => [await isPaced(live), await isPaced(sandbox), await isPaced(own)];
    expect(await all()).toEqual([true, false, true]);
    await workspaces.update(workspaceId, { pacing: { enabled: false } });
    expect(await all()).toEqual([false, false, true]);
    await workspaces.update(workspaceId, { pacing: { enabled: true } });
    expect(await all()).toEqual([true, true, true]);
    await accounts.update(workspaceId, live, { pacing: { enabled: false } });
    expect(await all()).toEqual([false, true, true]);
    await workspaces.update(workspaceId, { pacing: null });
    await accounts.update(workspaceId, live, { pacing: null });
    await accounts.update(workspaceId, own, { pacing: null });
    expect(await all()).toEqual([true, false, false]);
  });

  it('are merged field by field, and the API shows the settings in force', async () => {
    const id = await newAccount({ gapSeconds: { normal: 9 }, dailyBudget: { cold: 7 } });
    await workspaces.update(workspaceId, {
      pacing: { gapSeconds: { normal: 1, high: 3 }, dailyBudget: { replies: 99 }, typing: false },
    });
    const { settings, budget, paced, cold: lane, nextSendAt, warmUp } = await sendingOf(id);
    expect(settings).toMatchObject({
      gapSeconds: { urgent: 1, high: 3, normal: 9, campaign: 52 },
      dailyBudget: { cold: 7, replies: 99 },
      typing: false,
      checkNumbers: true,
    });
    expect({ paced, lane, nextSendAt, warmUp }).toEqual({
      paced: true,
      lane: { open: true, reason: null, until: null },
      nextSendAt: null,
      warmUp: null,
    });
    expect(budget).toMatchObject({
      cold: { limit: 7, used: 0, left: 7 },
      replies: { limit: 99, used: 0, left: 99 },
    });
  });

  it('apply at once: a larger budget opens what a smaller budget closed, a shorter gap ends a longer wait', async () => {
    const id = await newAccount({ dailyBudget: { cold: 1 }, gapSeconds: { normal: 3_000 } });
    await sendTo(id, cold);
    const next = await accept(id, cold);
    expect((await sendingOf(id)).cold).toMatchObject({ open: false, reason: 'budget' });
    await accounts.update(workspaceId, id, {
      pacing: { dailyBudget: { cold: 2 }, gapSeconds: { normal: 0 }, burst: { pauseSeconds: 0 } },
    });
    expect((await sendingOf(id)).cold.open).toBe(true);
    expect(await sendNext(id)).toBe(next);
  });

  it('cost nothing for an account that is not paced: its messages are neither cold nor counted', async () => {
    const id = await newAccount(null, { environment: 'sandbox' });
    const first = await accept(id, cold);
    const second = await accept(id, cold);
    expect((await messages.get(workspaceId, first)).isCold).toBeNull();
    expect(await sendNext(id)).toBe(first);
    expect(asked[0]!.isPaced).toBe(false);
    expect(await sendNext(id)).toBe(second);
    expect(
      asked.every((message) => message.typingMs === undefined && message.checkNumber === undefined),
    ).toBe(true);
    expect(await sendingOf(id)).toMatchObject({ paced: false, budget: null, nextSendAt: null });
  });
});

describe('gaps', () => {
  it('keep the next message of a priority back, and a more urgent message for a shorter time', async () => {
    const id = await newAccount();
    const first = await accept(id, cold);
    const second = await accept(id, cold);
    expect(await sendNext(id)).toBe(first);
    expect(await claimNext(id)).toBeNull();
    const wait = Date.parse((await sendingOf(id)).nextSendAt!) - Date.now();
    expect(wait).toBeGreaterThan(3_000);
    expect(wait).toBeLessThan(6_300);
    const urgent = await accept(id, cold, 'urgent');
    await later(id, '2 seconds');
    expect(await sendNext(id)).toBe(urgent);
    expect(await claimNext(id)).toBeNull();
    await later(id, '7 seconds');
    expect(await sendNext(id)).toBe(second);
  });

  it('are longer after a burst, but not for urgent and high messages', async () => {
    const id = await newAccount({ burst: { size: 3, pauseSeconds: 600 }, jitter: 0 });
    for (let number = 0; number < 3; number += 1) {
      expect(await sendTo(id, cold)).not.toBeNull();
      await later(id, '5 seconds');
    }
    const normal = await accept(id, cold);
    expect(await claimNext(id)).toBeNull();
    const high = await accept(id, cold, 'high');
    expect(await sendNext(id)).toBe(high);
    await later(id, '600 seconds');
    expect(await sendNext(id)).toBe(normal);
  });

  it('keep the heads of lanes out of Redis until they may leave', async () => {
    const id = await newAccount();
    const lanes = context.get(LanesService);
    await sendTo(id, cold);
    const next = await accept(id, cold);
    expect(await lanes.sweep()).toBe(0);
    await later(id, '7 seconds');
    expect(await lanes.sweep()).toBe(1);
    expect(await statusOf(next)).toBe('queued');
  });
});

describe('budgets', () => {
  it('keep cold messages back until midnight when they are used up, while replies still leave', async () => {
    const id = await newAccount({ dailyBudget: { cold: 1 } });
    await hears(id, friend);
    await sendTo(id, cold);
    await later(id, '1 minute');
    const second = await accept(id, cold);
    const reply = await accept(id, friend);
    expect(await sendNext(id)).toBe(reply);
    await later(id, '1 minute');
    expect(await claimNext(id)).toBeNull();
    const { budget, cold: lane } = await sendingOf(id);
    expect(budget).toMatchObject({
      cold: { limit: 1, used: 1, left: 0 },
      replies: { limit: 2000, used: 1, left: 1999 },
    });
    expect(lane).toEqual({ open: false, reason: 'budget', until: budget!.resetsAt });
    expect(Date.parse(budget!.resetsAt)).toBe(Math.ceil(Date.now() / 86_400_000) * 86_400_000);
    await later(id, '1 day');
    expect(await sendNext(id)).toBe(second);
    expect((await sendingOf(id)).budget!.cold).toEqual({ limit: 1, used: 1, left: 0 });
    expect((await sendingOf(id)).budget!.replies.used).toBe(0);
  });

  it('keep replies back while cold messages still leave, and everything when both are used up', async () => {
    const id = await newAccount({ dailyBudget: { cold: 1, replies: 0 } });
    await hears(id, friend);
    const reply = await accept(id, friend, 'urgent');
    const stranger = await accept(id, cold);
    expect(await sendNext(id)).toBe(stranger);
    await later(id, '1 minute');
    await accept(id, cold);
    expect(await claimNext(id)).toBeNull();
    expect(await statusOf(reply)).toBe('queued');
  });

  it('of 0 keep all cold messages back, and say so', async () => {
    const id = await newAccount({ dailyBudget: { cold: 0 } });
    const first = await accept(id, cold);
    expect(await claimNext(id)).toBeNull();
    expect((await sendingOf(id)).cold).toEqual({ open: false, reason: 'no_budget', until: null });
    await hears(id, cold);
    expect(await sendNext(id)).toBe(first);
  });

  it('count a contact as known from its first message on, and a group always', async () => {
    const id = await newAccount();
    const before = await accept(id, friend);
    const group = await accept(id, '120363000000000001@g.us');
    expect((await messages.get(workspaceId, before)).isCold).toBe(true);
    expect((await messages.get(workspaceId, group)).isCold).toBe(false);
    await hears(id, friend);
    expect((await messages.get(workspaceId, before)).isCold).toBe(false);
    expect((await messages.get(workspaceId, await accept(id, friend))).isCold).toBe(false);
    expect((await messages.get(workspaceId, await accept(id, cold))).isCold).toBe(true);
  });

  it('know a person by phone number and by hidden number (lid)', async () => {
    const id = await newAccount();
    const waiting = await accept(id, friend);
    await hears(id, '199000000000002@lid', `${friend}@c.us`);
    expect((await messages.get(workspaceId, waiting)).isCold).toBe(false);
    for (const to of [friend, '199000000000002@lid'])
      expect((await messages.get(workspaceId, await accept(id, to))).isCold).toBe(false);
  });

  it('know a person by the number that WhatsApp has, also for a message to another form of it', async () => {
    const id = await newAccount();
    const message = await accept(id, '5511987654321');
    await hears(id, '551187654321');
    expect((await messages.get(workspaceId, message)).isCold).toBe(true);
    const recipients = context.get(RecipientIds);
    await recipients.remember(id, '5511987654321@c.us', '551187654321@c.us', message);
    expect((await messages.get(workspaceId, message)).isCold).toBe(false);
  });

  it('grow while a new account warms up', async () => {
    const id = await newAccount({ warmUp: { days: 10, startPercent: 10 } }, { linked: 0 });
    await sendTo(id, cold);
    expect(await sendingOf(id)).toMatchObject({
      warmUp: { day: 1, ofDays: 10 },
      budget: { cold: { limit: 25, used: 1 }, replies: { limit: 200 } },
    });
    await database.query('update account_pacing set warm_up_from = warm_up_from - 5 where account_id = $1', [
      id,
    ]);
    expect(await sendingOf(id)).toMatchObject({ warmUp: { day: 6 }, budget: { cold: { limit: 137 } } });
    await database.query('update account_pacing set warm_up_from = warm_up_from - 5 where account_id = $1', [
      id,
    ]);
    expect(await sendingOf(id)).toMatchObject({ warmUp: null, budget: { cold: { limit: 250 } } });
  });

  it('start the warm-up of an account without a session at its first message', async () => {
    const { id } = await accounts.create(workspaceId, { name: 'new', environment: 'live' });
    const [row] = await database.query('select warm_up_from from account_pacing where account_id = $1', [id]);
    expect(row.warm_up_from).toBeNull();
    expect((await sendingOf(id)).warmUp).toEqual({ day: 1, ofDays: 14 });
  });
});

describe('a reservation', () => {
  it('counts a message once, for any number of attempts and workers', async () => {
    const id = await newAccount();
    const message = await accept(id, cold);
    const claim = (await claimNext(id))!;
    await reservations.reserve(claim);
    const { nextSendAt } = await sendingOf(id);
    await reservations.reserve(claim);
    await database.query(`update messages set next_attempt_at = now() - interval '1 second' where id = $1`, [
      message,
    ]);
    expect(await sendNext(id)).toBe(message);
    expect(asked[0]!.attempt).toBe(2);
    expect(await statusOf(message)).toBe('sent');
    expect(await sendingOf(id)).toMatchObject({ nextSendAt, budget: { cold: { used: 1 } } });
  });

  it('counts a message as a reply if its recipient has written since', async () => {
    const id = await newAccount();
    await accept(id, cold);
    const claim = (await claimNext(id))!;
    await hears(id, cold);
    await reservations.reserve(claim);
    expect((await sendingOf(id)).budget).toMatchObject({ cold: { used: 0 }, replies: { used: 1 } });
  });

  it.each(['account.session_not_ready', 'media.storage_unavailable'])(
    'is undone when the instance did nothing: %s',
    async (code) => {
      const id = await newAccount();
      const before = await sendingOf(id);
      problem = code;
      const message = await accept(id, cold);
      await sendNext(id);
      expect(await statusOf(message)).toBe('queued');
      expect(await sendingOf(id)).toEqual(before);
    },
  );

  it('returns its budget if the number is not on WhatsApp, but the next message waits: numbers are not tried in a row', async () => {
    const id = await newAccount();
    problem = 'recipient.not_registered';
    const message = await accept(id, cold);
    await sendNext(id);
    expect(await statusOf(message)).toBe('failed');
    const { budget, nextSendAt, cold: lane } = await sendingOf(id);
    expect(budget!.cold.used).toBe(0);
    expect(nextSendAt).not.toBeNull();
    expect(lane.open).toBe(true);
  });

  it('returns its budget while WhatsApp throttles the check of the number', async () => {
    const id = await newAccount();
    problem = 'whatsapp.number_checks_paused';
    const message = await accept(id, cold);
    await sendNext(id);
    expect(await statusOf(message)).toBe('scheduled');
    expect((await sendingOf(id)).budget!.cold.used).toBe(0);
  });

  it('returns its budget if WhatsApp Web cannot send the message, and the next attempt waits like any message', async () => {
    const id = await newAccount();
    problem = 'whatsapp.not_sent';
    const message = await accept(id, cold);
    for (let tries = 1; tries <= 5; tries += 1) {
      await database.query('update messages set next_attempt_at = now() where id = $1', [message]);
      expect(await sendNext(id)).toBe(message);
      expect(await sendNext(id)).toBeNull();
      expect((await sendingOf(id)).budget!.cold.used).toBe(0);
      await later(id, '1 hour');
    }
    expect(await statusOf(message)).toBe('failed');
  });

  it('says how to send: typing, and a number check before the first message to a cold contact', async () => {
    const id = await newAccount({ typing: true });
    await hears(id, friend);
    for (const to of [cold, cold, friend]) {
      await sendTo(id, to);
      await later(id, '1 hour');
    }
    expect(asked.map(({ checkNumber }) => checkNumber)).toEqual([true, undefined, undefined]);
    for (const { typingMs } of asked) {
      expect(typingMs).toBeGreaterThanOrEqual(1_000);
      expect(typingMs).toBeLessThanOrEqual(3_000);
    }
    await accounts.update(workspaceId, id, { pacing: { typing: false, checkNumbers: false } });
    await sendTo(id, '6281100000003');
    expect(asked.at(-1)).not.toHaveProperty('typingMs');
    expect(asked.at(-1)).not.toHaveProperty('checkNumber');
  });
});

describe('a refusal', () => {
  it.each(['of the send itself', 'by a later ack'])(
    'pauses the cold lane, and tells why: %s',
    async (when) => {
      const id = await newAccount();
      await hears(id, friend);
      const first = await accept(id, cold);
      if (when === 'of the send itself') {
        problem = 'whatsapp.refused';
        await sendNext(id);
        problem = null;
      } else {
        await sendNext(id);
        await refuseLast();
      }
      expect(await statusOf(first)).toBe('failed');
      await later(id, '1 minute');
      const stranger = await accept(id, cold);
      const reply = await accept(id, friend);
      expect(await sendNext(id)).toBe(reply);
      await later(id, '1 minute');
      expect(await claimNext(id)).toBeNull();
      const { cold: lane } = await sendingOf(id);
      expect(lane).toMatchObject({ open: false, reason: 'refused' });
      const inMinutes = (Date.parse(lane.until!) - Date.now()) / 60_000;
      expect(inMinutes).toBeGreaterThan(24 * 60 - 5);
      expect(inMinutes).toBeLessThanOrEqual(24 * 60);
      const [paused] = await eventsOf(id);
      expect(paused).toMatchObject({
        type: 'account.cold_paused',
        data: { accountId: id, reason: 'refused' },
      });

      await accounts.resumeCold(workspaceId, id);
      expect((await sendingOf(id)).cold).toEqual({ open: true, reason: null, until: null });
      expect(await sendNext(id)).toBe(stranger);
      expect((await eventsOf(id)).at(-1)).toEqual({
        type: 'account.cold_resumed',
        data: { accountId: id, reason: 'user_initiated' },
      });
      await expect(accounts.resumeCold(workspaceId, id)).rejects.toMatchObject({
        status: 409,
        code: 'account.cold_not_paused',
      });
    },
  );

  it('ends by itself after the cool-down, and publishes it', async () => {
    const id = await newAccount({ coldPause: { coolDownMinutes: 30 } });
    await sendTo(id, cold);
    await refuseLast();
    const next = await accept(id, cold);
    await later(id, '29 minutes');
    await pacing.endCoolDowns();
    expect(await claimNext(id)).toBeNull();
    await later(id, '1 minute');
    expect(await sendNext(id)).toBe(next);
    await pacing.endCoolDowns();
    expect((await eventsOf(id)).map(({ type, data }) => [type, data.reason])).toEqual([
      ['account.cold_paused', 'refused'],
      ['account.cold_resumed', 'cool_down'],
    ]);
  });

  it('counts only for cold messages, up to the allowed number, once per message', async () => {
    const id = await newAccount({ coldPause: { afterRefusals: 2 } });
    await hears(id, friend);
    const refuse = async (to: string) => {
      await sendTo(id, to);
      await refuseLast();
      await refuseLast();
      await later(id, '1 hour');
    };
    await refuse(friend);
    await refuse(friend);
    await refuse(cold);
    expect((await sendingOf(id)).cold.open).toBe(true);
    await refuse(cold);
    expect((await sendingOf(id)).cold).toMatchObject({ open: false, reason: 'refused' });
    expect(await eventsOf(id)).toHaveLength(1);
  });
});

it('a notice, an undecrypted message, a story and a post of a channel warm no contact', async () => {
  const id = await newAccount();
  const chatId = `${friend}@c.us`;
  const from = { chatId, alias: null, from: chatId, text: '' };
  await incomingService.storeIncoming({ id }, [
    { ...from, whatsappId: 'notice', type: 'e2e_notification' },
    { ...from, whatsappId: 'undecrypted', type: 'ciphertext' },
    { ...from, whatsappId: 'story', type: 'chat', source: 'stories' },
    { ...from, whatsappId: 'post', type: 'chat', source: 'channels' },
  ]);
  const message = await accept(id, friend);
  expect((await messages.get(workspaceId, message)).isCold).toBe(true);
  const stored = await database.query('select 1 from messages where account_id = $1 and direction = $2', [
    id,
    'incoming',
  ]);
  expect(stored).toEqual([]);
});

it('a story and a post in a channel are no messages to strangers', async () => {
  const id = await newAccount();
  const isCold = async (to: string) => (await messages.get(workspaceId, await accept(id, to))).isCold;
  expect(await isCold('status')).toBe(false);
  expect(await isCold('120363012345678901@newsletter')).toBe(false);
  expect(await isCold('120363012345678901@g.us')).toBe(false);
  expect(await isCold(friend)).toBe(true);
});

it('a contact is known before its message is published, so that an immediate answer is a reply', async () => {
  const id = await newAccount();
  const other = database.createQueryRunner();
  await other.startTransaction();
  let storing: Promise<unknown> | undefined;
  try {
    // Another transaction stores the same message at the same time. This one must wait for it.
    await other.query(
      `insert into messages (id, workspace_id, account_id, direction, type, chat_id, recipient, sender, text, status, whatsapp_id)
       values ($1, $2, $3, 'incoming', 'text', '1@c.us', '', '1', 'hi', 'received', 'question')`,
      [uuidv7(), workspaceId, id],
    );
    const chatId = `${friend}@c.us`;
    storing = incomingService.storeIncoming({ id }, [
      { whatsappId: 'question', chatId, alias: null, from: chatId, type: 'chat', text: 'hi' },
    ]);
    await eventually('the contact is known', async () => {
      const answer = await accept(id, friend);
      return !(await messages.get(workspaceId, answer)).isCold;
    });
  } finally {
    await other.rollbackTransaction();
    await other.release();
    await storing;
  }
});

describe('with many messages waiting', () => {
  it('switching pacing on marks which of them are cold', async () => {
    const id = await newAccount(null, { environment: 'sandbox' });
    await hears(id, friend);
    const stranger = await accept(id, cold);
    const reply = await accept(id, friend);
    await accounts.update(workspaceId, id, { pacing: { enabled: true, dailyBudget: { cold: 0 } } });
    expect(await claimNext(id)).toBeNull();
    await reservations.markWaiting();
    expect((await messages.get(workspaceId, stranger)).isCold).toBe(true);
    expect(await sendNext(id)).toBe(reply);
  });

  it('linking another number starts again: no day of warm-up, and no contact has written to it', async () => {
    const id = await newAccount();
    await hears(id, friend);
    await database.query(`update accounts set phone_number = '62811' where id = $1`, [id]);
    const reply = await accept(id, friend);
    await database.query(`update accounts set phone_number = '62822' where id = $1`, [id]);
    const [row] = await database.query(
      `select (select is_cold from messages where id = $2) as "isCold", (select count(*)::int from contacts where account_id = $1) as contacts,
         (select warm_up_from = (now() at time zone 'UTC')::date from account_pacing where account_id = $1) as "isNew"`,
      [id, reply],
    );
    expect(row).toEqual({ isCold: true, contacts: 0, isNew: true });
  });

  it('after linking another number, a budget of 0 still keeps cold messages back', async () => {
    const id = await newAccount({ dailyBudget: { cold: 0, replies: 0 } });
    await database.query(`update accounts set phone_number = '62811' where id = $1`, [id]);
    await hears(id, friend);
    for (const to of [cold, friend]) await accept(id, to);
    await database.query(`update accounts set phone_number = '62822' where id = $1`, [id]);
    expect(await claimNext(id)).toBeNull();
    expect((await sendingOf(id)).cold).toMatchObject({ open: false, reason: 'no_budget' });
    await accounts.update(workspaceId, id, { pacing: null });
    expect(await claimNext(id)).not.toBeNull();
  });

  it('a reply is found without reading the cold messages before it', async () => {
    const id = await newAccount({ dailyBudget: { cold: 0 } });
    await hears(id, friend);
    await database.query(
      `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, text, status,
         whatsapp_id, is_cold)
       select gen_random_uuid(), $1, $2, 'outgoing', 1, 'text', n || '@c.us', n, 'hi', 'queued', 'W' || n, true
       from generate_series(1, 5000) n`,
      [workspaceId, id],
    );
    await database.query('analyze messages');
    const reply = await accept(id, friend);
    const [plan] = await database.query(
      `explain (analyze, format json) select * from ${laneHead('$1', '$2')} head`
        .replaceAll('$1', `'${id}'::uuid`)
        .replaceAll('$2', `'{${strictOrder.join(',')}}'`),
    );
    const nodes = nodesOf(plan['QUERY PLAN'][0].Plan);
    const looks = nodes.filter(
      (node) => node['Relation Name'] === 'messages' && Number(node['Actual Loops']) > 0,
    );
    expect(looks.map((node) => node['Index Name'])).toContain('messages_lane_kind');
    for (const node of looks) {
      expect(node['Node Type']).toBe('Index Scan');
      expect(node['Rows Removed by Filter'] ?? 0).toBe(0);
    }
    expect(await sendNext(id)).toBe(reply);
  });
});

interface PlanNode extends Record<string, unknown> {
  Plans?: PlanNode[];
}

function nodesOf(node: PlanNode): PlanNode[] {
  return [node, ...(node.Plans ?? []).flatMap(nodesOf)];
}
