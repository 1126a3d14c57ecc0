import type { INestApplicationContext } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { GroupsService } from '../../src/chats/groups.service.js';
import type { RemoteSession } from '../../src/chats/remote-session.js';
import { AcceptService } from '../../src/messages/accept.service.js';
import { MessagesService } from '../../src/messages/messages.service.js';
import { RecipientIds } from '../../src/messages/recipient-ids.service.js';
import type { Config } from '../../src/platform/config/config.js';
import { queuePolicies } from '../../src/queues/queue-policies.js';
import { LaneRunner } from '../../src/sending/lane-runner.js';
import { strictOrder } from '../../src/sending/lane-order.js';
import { LanesService } from '../../src/sending/lanes.service.js';
import { MessageSender } from '../../src/sending/message-sender.js';
import { PacingReservations } from '../../src/sending/pacing-reservations.js';
import { RecipientChecks } from '../../src/sending/recipient-checks.js';
import type { PageSend, PageSendResult } from '../../src/whatsapp/in-page/page-functions.js';
import { fake } from '../support/fake.js';
import { insertAccount, insertWorkspace, ready } from '../support/factories.js';
import { noFiles, sessionsWith } from '../support/fakes.js';
import { scratchDatabase } from '../support/scratch-database.js';
import { silent, startServices } from '../support/services.js';

const pauseMs = 300_000;
const number = '5511987654321';
const own = '551187654321@c.us';

let context: INestApplicationContext;
let config: Config;
let drop: () => Promise<void>;
let database: DataSource;
let accepting: AcceptService;
let messages: MessagesService;
let recipients: RecipientIds;
let checks: RecipientChecks;
let workspaceId: string;
let accountId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  config = { ...scratch.config, numberCheckPauseMs: pauseMs };
  ({ context, database } = await startServices(config));
  accepting = context.get(AcceptService);
  messages = context.get(MessagesService);
  recipients = context.get(RecipientIds);
});
afterAll(async () => {
  await context?.close();
  await drop?.();
});
beforeEach(async () => {
  checks = new RecipientChecks(recipients, config);
  workspaceId = await insertWorkspace(database);
  accountId = await insertAccount(database, workspaceId, ready);
});
afterEach(() => {
  vi.useRealTimers();
});

const accept = async (to: string, more: object = {}) =>
  (
    await accepting.accept(workspaceId, {
      accountId,
      to,
      text: 'x',
      type: 'text',
      priority: 'normal',
      ...more,
    })
  ).id;
const chatIdOf = async (id: string) => (await messages.get(workspaceId, id)).chatId;

/** Sends the head of the lane, and then at most one more message, through a page that answers so. @returns what sent them */
async function runLane(
  answer: (send: PageSend) => PageSendResult | Promise<PageSendResult>,
  most = 1,
): Promise<MessageSender> {
  const sessions = sessionsWith({ send: async (send) => answer(send) });
  const sender = new MessageSender(sessions, noFiles, config, silent, checks);
  const lane = new LaneRunner(database, sender, new PacingReservations(database), config, silent);
  const policy = queuePolicies['whatsapp-normal'];
  await lane.run(accountId, {
    epoch: 0,
    order: strictOrder,
    most,
    forMs: 1_000,
    asUrgentOnly: false,
    policy,
  });
  return sender;
}

const sent: PageSendResult = { outcome: 'known', ack: 1, whatsappId: 'X' };

describe('the id that WhatsApp answers with', () => {
  it('is kept before the message is sent there, and serves the messages that wait and that follow', async () => {
    const [first, waiting] = [await accept(number), await accept(number)];
    const asked: [string, string | undefined, string, string?][] = [];
    const page = async (send: PageSend): Promise<PageSendResult> => {
      const [kept] = await recipients.idsOf(accountId, [`${number}@c.us`]);
      asked.push([send.chatId, send.numberCheck, send.whatsappId, kept]);
      return send.chatId === own ? sent : { outcome: 'other_id', chatId: own };
    };
    const { whatsappId } = await messages.get(workspaceId, first);
    const keeping = vi.spyOn(recipients, 'remember');
    await runLane(page);
    expect(asked).toEqual([
      [`${number}@c.us`, 'allowed', whatsappId, `${number}@c.us`],
      [own, 'done', whatsappId, own],
    ]);
    expect(keeping).toHaveBeenCalledOnce();
    await runLane(page);
    expect(asked.slice(2).map(([chatId]) => chatId)).toEqual([own]);
    const following = await accept(number, { mentions: [`+${number}`] });
    expect(await chatIdOf(following)).toBe(own);
    let mentioned: string[] = [];
    await runLane((send) => {
      mentioned = send.mentions;
      return sent;
    });
    expect(mentioned).toEqual([own]);
    for (const id of [first, waiting, following]) expect(await chatIdOf(id)).toBe(own);
    expect(await messages.get(workspaceId, first)).toMatchObject({ status: 'sent', recipient: number });
    for (const form of [number, '551187654321'])
      expect((await recipients.forms(workspaceId, form)).sort()).toEqual(['551187654321', number]);
    expect(await recipients.forms(await insertWorkspace(database), number)).toEqual([number]);
  });

  it('makes both forms of the number the same person: for a reply, a filter, and the choice of an account', async () => {
    const first = await accept(number);
    await runLane(({ chatId }) => (chatId === own ? sent : { outcome: 'other_id', chatId: own }));
    const reply = await accept(number, { replyTo: first });
    const ownNumber = own.replace('@c.us', '');
    for (const to of [number, ownNumber]) {
      const { rows: found } = await messages.list(workspaceId, { to, limit: 10 });
      expect(found.map(({ id }) => id)).toEqual([reply, first]);
    }
    const call = vi.fn().mockResolvedValue({ group: {}, results: [] });
    const groups = new GroupsService(fake<RemoteSession>({ call }), recipients);
    await groups.create(workspaceId, accountId, { subject: 'One', participants: [number, ownNumber] });
    expect(call).toHaveBeenCalledExactlyOnceWith(workspaceId, accountId, 'createGroup', {
      subject: 'One',
      participants: [{ given: number, chatId: own }],
    });
    // It has no waiting message: it would be chosen for a stranger.
    await insertAccount(database, workspaceId, ready);
    const chosen = await accept(ownNumber, { accountId: undefined });
    expect((await messages.get(workspaceId, chosen)).accountId).toBe(accountId);
  });

  it('sends nothing, which is certain, if WhatsApp has another id for the answer too', async () => {
    const id = await accept(number);
    await runLane(({ chatId }) => ({ outcome: 'other_id', chatId: `1${chatId}` }));
    expect(await messages.get(workspaceId, id)).toMatchObject({ status: 'queued', attempts: 0 });
  });

  it('is asked for again after 30 days, and forgotten after a year', async () => {
    await recipients.remember(accountId, `${number}@c.us`, own);
    const aged = (age: string) =>
      database.query(`update recipient_ids set checked_at = now() - $2::interval where account_id = $1`, [
        accountId,
        age,
      ]);
    await aged('29 days');
    expect(await recipients.idsOf(accountId, [`${number}@c.us`, '1@lid'])).toEqual([own, '1@lid']);
    await aged('31 days');
    expect(await chatIdOf(await accept(number))).toBe(`${number}@c.us`);
    await recipients.prune();
    expect(await recipients.forms(workspaceId, number)).toHaveLength(2);
    await aged('366 days');
    await recipients.prune();
    expect(await recipients.forms(workspaceId, number)).toEqual([number]);
  });
});

describe('a throttled check', () => {
  const throttled = (send: PageSend): PageSendResult =>
    send.chatId.startsWith('6281')
      ? sent
      : { outcome: send.numberCheck === 'paused' ? 'paused' : 'throttled' };

  it('lets the message wait outside of the lane, without a try, and the next messages go on', async () => {
    const [id, stranger, known] = [
      await accept(number),
      await accept('+12025550108'),
      await accept('+6281234567890'),
    ];
    const sends: object[] = [];
    for (let run = 0; run < 3; run += 1) {
      const { ok, failed } = (await runLane(throttled)).meter.read();
      sends.push({ ok, failed });
    }
    // A message that only waits is no failed send in the statistics.
    expect(sends).toEqual([
      { ok: 0, failed: 0 },
      { ok: 0, failed: 0 },
      { ok: 1, failed: 0 },
    ]);
    for (const waiting of [id, stranger])
      expect(await messages.get(workspaceId, waiting)).toMatchObject({
        status: 'scheduled',
        attempts: 0,
        errorCode: 'whatsapp.number_checks_paused',
      });
    const { scheduledFor } = await messages.get(workspaceId, id);
    expect(scheduledFor!.getTime() - Date.now()).toBeGreaterThan(pauseMs - 10_000);
    expect((await messages.get(workspaceId, known)).status).toBe('sent');
    expect((await messages.cancel(workspaceId, stranger)).status).toBe('cancelled');
  });

  it('keeps what is not known about an earlier try: the message is looked for first, and cannot be cancelled', async () => {
    const id = await accept(number);
    await database.query(
      `update messages set status = 'sending', attempts = 1, next_attempt_at = now() where id = $1`,
      [id],
    );
    await runLane(throttled);
    expect(await messages.get(workspaceId, id)).toMatchObject({ status: 'scheduled', attempts: 1 });
    await expect(messages.cancel(workspaceId, id)).rejects.toMatchObject({ code: 'message.already_sending' });
    await database.query(`update messages set scheduled_for = now() where id = $1`, [id]);
    await context.get(LanesService).promote();
    checks = new RecipientChecks(recipients, config);
    await runLane(({ searchStorage }) => (searchStorage ? sent : { outcome: 'not_registered' }));
    expect(await messages.get(workspaceId, id)).toMatchObject({
      status: 'sent',
      errorCode: null,
      scheduledFor: null,
    });
  });

  it('ends with the deadline of the message', async () => {
    const id = await accept(number, { expiresAt: new Date(Date.now() + 60_000).toISOString() });
    await runLane(throttled);
    await database.query(`update messages set expires_at = now() where id = $1`, [id]);
    await context.get(LanesService).promote();
    expect((await messages.get(workspaceId, id)).status).toBe('expired');
  });

  it('keeps the order: near the end of the pause, the message waits at its place in the lane', async () => {
    const id = await accept(number);
    checks = fake<RecipientChecks>({ until: () => Date.now() + 1_500, idsOf: async () => [] });
    await runLane(throttled);
    expect(await messages.get(workspaceId, id)).toMatchObject({ status: 'queued', attempts: 0 });
  });

  it('pauses the checks of its account only, longer each time, up to an hour, and from the start after a quiet time', () => {
    vi.useFakeTimers();
    const minutes = (ms: number) => Math.round((ms - Date.now()) / 60_000);
    const lengths = [];
    for (let count = 0; count < 6; count += 1) {
      const until = checks.throttled('a');
      lengths.push(minutes(until));
      expect(checks.until('a')).toBe(until);
      // Another refusal of the same moment changes nothing.
      expect(checks.throttled('a')).toBe(until);
      expect(checks.until('b')).toBeNull();
      vi.setSystemTime(until + 1);
      expect(checks.until('a')).toBeNull();
    }
    expect(lengths).toEqual([5, 10, 20, 40, 60, 60]);
    vi.setSystemTime(Date.now() + 3_600_000);
    expect(minutes(checks.throttled('a'))).toBe(5);
  });
});
