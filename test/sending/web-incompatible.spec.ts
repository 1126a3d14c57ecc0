import type { INestApplicationContext } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { AcceptService } from '../../src/messages/accept.service.js';
import { MessagesService } from '../../src/messages/messages.service.js';
import type { Config } from '../../src/platform/config/config.js';
import { queuePolicies } from '../../src/queues/queue-policies.js';
import { LaneRunner } from '../../src/sending/lane-runner.js';
import { strictOrder } from '../../src/sending/lane-order.js';
import { LanesService } from '../../src/sending/lanes.service.js';
import { MessageSender } from '../../src/sending/message-sender.js';
import { PacingReservations } from '../../src/sending/pacing-reservations.js';
import type { AccountDriver } from '../../src/sessions/account-driver.js';
import type { WhatsAppSession } from '../../src/whatsapp/whatsapp-session.js';
import { insertAccount, insertWorkspace, ready } from '../support/factories.js';
import { allowedChecks, noFiles, sessionsWith } from '../support/fakes.js';
import { scratchDatabase } from '../support/scratch-database.js';
import { silent, startServices } from '../support/services.js';

/* What a lane does while its page is broken, with a page that the test breaks. The real page is in test/e2e/pains.spec.ts. */

let context: INestApplicationContext;
let drop: () => Promise<void>;
let config: Config;
let database: DataSource;
let workspaceId: string;
let accountId: string;
let lane: LaneRunner;
/** The error that the page fails with, for a message; null if it sends the message. */
let errorOf: (text: string) => string | null;
let sent: string[] = [];
/** Resolves when the driver of the account has written what the session said. */
let written: Promise<unknown> = Promise.resolve();
const distrust = vi.fn<WhatsAppSession['distrust']>();
const restart = vi.fn<AccountDriver['restart']>();
const changed = 'TypeError: e.frobnicate is not a function';

beforeAll(async () => {
  const scratch = await scratchDatabase();
  ({ drop, config } = scratch);
  ({ context, database } = await startServices(config));
});
afterAll(async () => {
  await context?.close();
  await drop?.();
});

beforeEach(async () => {
  workspaceId = await insertWorkspace(database);
  accountId = await insertAccount(database, workspaceId, ready);
  sent = [];
  distrust.mockReset();
  // The driver of the account writes what the session says.
  distrust.mockImplementation(() => void (written = setContract('broken')));
  restart.mockReset();
  const send: WhatsAppSession['send'] = async ({ content, whatsappId }) => {
    const text = 'text' in content ? content.text : '';
    const detail = errorOf(text);
    if (detail !== null) return { outcome: 'not_sent', detail };
    sent.push(text);
    return { outcome: 'known', ack: 1, whatsappId };
  };
  const sender = new MessageSender(
    sessionsWith({ send, distrust }, { restart }),
    noFiles,
    config,
    silent,
    allowedChecks,
  );
  lane = new LaneRunner(database, sender, new PacingReservations(database), config, silent);
});

afterEach(() => database.query('delete from messages'));

const setContract = (contract: 'ok' | 'broken') =>
  database.query(`update accounts set web_contract = $2 where id = $1`, [accountId, contract]);
const accept = async (text: string) => {
  const wanted = { accountId, to: '+6281234567890', text, type: 'text', priority: 'normal' } as const;
  return (await context.get(AcceptService).accept(workspaceId, wanted)).id;
};
const found = async (id: string) => {
  const { status, attempts, errorCode } = await context.get(MessagesService).get(workspaceId, id);
  return { status, attempts, errorCode };
};
const waiting = { status: 'queued', attempts: 0, errorCode: null };
const aside = { status: 'scheduled', attempts: 0, errorCode: 'whatsapp.not_sent' };

/** Sends the head of the lane, which is due now. @returns whether there was one */
async function sendNext(): Promise<boolean> {
  await written;
  await database.query(
    `update messages set next_attempt_at = now() where account_id = $1 and stage = 'queued'`,
    [accountId],
  );
  const policy = queuePolicies['whatsapp-normal'];
  const run = { epoch: 0, order: strictOrder, most: 1, forMs: 5_000, asUrgentOnly: false, policy };
  return !(await lane.run(accountId, run)).isUnclaimed;
}

/** The time of the messages that stepped aside has come. */
async function come(): Promise<void> {
  await database.query(
    `update messages set scheduled_for = now() where account_id = $1 and stage = 'scheduled'`,
    [accountId],
  );
  await context.get(LanesService).promote();
}

describe('a page that fails with errors that nobody knows', () => {
  it('holds the lane: nothing fails, nothing counts as a try, no browser restarts, and all leave in order when it works again', async () => {
    const texts = ['one', 'two', 'three', 'four'];
    const ids: string[] = [];
    for (const text of texts) ids.push(await accept(text));
    errorOf = () => changed;
    for (let tries = 1; tries <= 5; tries += 1) await sendNext();
    expect(await found(ids[0]!)).toEqual(aside);
    await sendNext();
    expect(await found(ids[1]!)).toEqual(aside);
    expect(distrust).not.toHaveBeenCalled();
    await sendNext();
    expect(distrust).toHaveBeenCalledExactlyOnceWith(changed, 30_000);
    for (const id of ids) expect(await found(id)).toEqual(waiting);

    expect(await sendNext()).toBe(false);
    expect(await context.get(LanesService).sweep()).toBe(0);

    errorOf = () => null;
    await setContract('ok');
    while (await sendNext());
    expect(sent).toEqual(texts);
    expect(restart).not.toHaveBeenCalled();
  });

  it('is tried with one new message after it was loaded again', async () => {
    const ids: string[] = [];
    for (const text of ['one', 'two', 'three', 'four']) ids.push(await accept(text));
    errorOf = () => changed;
    while (await sendNext());
    await setContract('ok');
    // The three suspects step aside, and the fourth decides.
    for (let tries = 1; tries <= 4; tries += 1) await sendNext();
    expect(distrust).toHaveBeenCalledTimes(2);
    expect(distrust).toHaveBeenLastCalledWith(changed, 60_000);
    for (const id of ids) expect(await found(id)).toEqual(waiting);
  });
});

it('a message that may have left already holds the lane and keeps its place: no browser restarts', async () => {
  const id = await accept('may have left');
  await database.query(`update messages set status = 'sending', attempts = 1 where id = $1`, [id]);
  errorOf = () => changed;
  for (const attempts of [2, 3]) {
    await database.query('update messages set next_attempt_at = now() where id = $1', [id]);
    await sendNext();
    expect(await found(id)).toEqual({ status: 'sending', attempts, errorCode: null });
  }
  expect(distrust).toHaveBeenCalledExactlyOnceWith(changed, 30_000);
  expect(restart).not.toHaveBeenCalled();
});

it('a message without an account goes to an account whose page works, although it has more to send', async () => {
  const other = await insertAccount(database, workspaceId, ready);
  const wanted = { to: '+6281234567890', text: 'x', type: 'text', priority: 'normal' } as const;
  const accepting = context.get(AcceptService);
  await accepting.accept(workspaceId, { ...wanted, accountId: other });
  await setContract('broken');
  const chosen = await accepting.accept(workspaceId, { ...wanted, to: '+6281234567891' });
  expect(chosen.accountId).toBe(other);
});

it('a single bad message fails after it has let the next one pass', async () => {
  const [bad, good] = [await accept('bad'), await accept('good')];
  errorOf = (text) => (text === 'bad' ? changed : null);
  while (await sendNext());
  expect(await found(bad)).toEqual(aside);
  expect((await found(good)).status).toBe('sent');
  await come();
  await sendNext();
  expect(await found(bad)).toMatchObject({ status: 'failed', errorCode: 'whatsapp.not_sent' });
  expect(distrust).not.toHaveBeenCalled();
});

it('acks of messages that the page does not find hold the lane, and the messages are sent', async () => {
  const sender = new MessageSender(
    sessionsWith({
      distrust,
      send: async ({ whatsappId }) => ({ outcome: 'known', ack: 1, whatsappId, isUnfound: true }),
    }),
    noFiles,
    config,
    silent,
    allowedChecks,
  );
  lane = new LaneRunner(database, sender, new PacingReservations(database), config, silent);
  const ids = [await accept('one'), await accept('two'), await accept('three'), await accept('four')];
  for (const id of ids.slice(0, 3)) {
    await sendNext();
    expect((await found(id)).status).toBe('sent');
  }
  expect(distrust).toHaveBeenCalledExactlyOnceWith(
    'acks come for messages that the page does not find',
    30_000,
  );
  expect(await sendNext()).toBe(false);
  expect(await found(ids[3]!)).toEqual(waiting);
});
