import type { INestApplicationContext } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { oneAnswerMs } from '../../src/messages/call-answer.js';
import { PhoneCalls } from '../../src/receiving/phone-calls.js';
import type { PageCall } from '../../src/whatsapp/in-page/page-calls.js';
import { insertAccount, insertWorkspace, ready } from '../support/factories.js';
import { scratchDatabase } from '../support/scratch-database.js';
import { startServices } from '../support/services.js';

/* Calls in the log of events, and their answers: each once, whatever dies and is told again. */

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let calls: PhoneCalls;
let workspaceId: string;
let accountId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  ({ context, database } = await startServices(scratch.config));
  calls = new PhoneCalls(database);
});
afterAll(async () => {
  await context?.close();
  await drop?.();
});
beforeEach(async () => {
  workspaceId = await insertWorkspace(database);
  accountId = await insertAccount(database, workspaceId, { ...ready, phone_number: '6289' });
});

const now = Math.floor(Date.now() / 1000);

function ring(callId: string, told: Partial<PageCall> = {}): PageCall {
  return {
    callId,
    state: 'ringing',
    from: { chatId: '6281234567890@c.us', alias: null },
    fromName: 'Siti',
    group: null,
    isGroupCall: false,
    isVideo: true,
    timestamp: now,
    ...told,
  };
}
const missed = (callId: string, told: Partial<PageCall> = {}) => ring(callId, { state: 'missed', ...told });

async function events(): Promise<{ type: string; data: Record<string, unknown> }[]> {
  return database.query(
    `select type, data from events where account_id = $1 and type like 'call.%' order by id`,
    [accountId],
  );
}
async function answers(): Promise<Record<string, unknown>[]> {
  return database.query(
    `select id, recipient, chat_id, text, status, metadata, expires_at from messages where account_id = $1 order by id`,
    [accountId],
  );
}

describe('the events of calls', () => {
  it('come once for a call, and a missed call says what its ringing said', async () => {
    await calls.write(accountId, [ring('A'), ring('B', { isVideo: false })]);
    await calls.write(accountId, [ring('A'), missed('A', { fromName: null, isVideo: false }), missed('C')]);
    await calls.write(accountId, [missed('A')]);
    const common = { accountId, participant: { phone: '6281234567890', lid: null, name: 'Siti' } };
    const at = new Date(now * 1000).toISOString();
    const whole = { ...common, callId: 'A', group: null, groupCall: false, video: true, at };
    expect(await events()).toEqual([
      { type: 'call.received', data: whole },
      { type: 'call.received', data: { ...whole, callId: 'B', video: false } },
      { type: 'call.missed', data: whole },
      { type: 'call.missed', data: { ...whole, callId: 'C' } },
    ]);
  });

  it('show no number that is hidden, and lose no other call for one that cannot be stored', async () => {
    await calls.write(accountId, [
      ring('', {}),
      ring('x'.repeat(201)),
      ring('NO DATE', { timestamp: 1e15 }),
      ring('HIDDEN', {
        from: { chatId: '1234567890123@lid', alias: null },
        fromName: 'nul\u0000',
        timestamp: null,
      }),
    ]);
    expect(await events()).toMatchObject([
      {
        data: {
          callId: 'HIDDEN',
          participant: { phone: null, lid: '1234567890123@lid', name: 'nul' },
          at: null,
        },
      },
    ]);
  });

  it('do not call a rejected call missed', async () => {
    await calls.write(accountId, [ring('A')]);
    await calls.writeRejected(accountId, ring('A'), null);
    await calls.write(accountId, [missed('A')]);
    const told = await events();
    expect(told.map(({ type }) => type)).toEqual(['call.received', 'call.rejected']);
    expect(told[1]!.data).toMatchObject({ callId: 'A', answerId: null });
    expect(await answers()).toEqual([]);
  });
});

describe('the answer to a rejected call', () => {
  const reject = (callId: string, told: Partial<PageCall> = {}) =>
    calls.writeRejected(accountId, ring(callId, told), 'Please write.');

  it('is one message for a call, also if the rejection is written twice at the same moment', async () => {
    await Promise.all([reject('A'), reject('A')]);
    await reject('A');
    const [answer, ...more] = await answers();
    expect(more).toEqual([]);
    expect(answer).toMatchObject({
      recipient: '6281234567890',
      chat_id: '6281234567890@c.us',
      text: 'Please write.',
      status: 'queued',
      metadata: { callId: 'A' },
      expires_at: new Date((now + 3600) * 1000),
    });
    const told = await events();
    expect(told).toMatchObject([{ type: 'call.rejected', data: { callId: 'A', answerId: answer!.id } }]);
  });

  it('is one for ten calls of a person in a minute, and others get theirs', async () => {
    const ids = Array.from({ length: 10 }, (_, index) => `CALL ${index}`);
    await Promise.all(ids.map((id) => reject(id)));
    await reject('OTHER', { from: { chatId: '1234567890123@lid', alias: null } });
    // A group was called, not the account.
    await reject('GROUP', { from: { chatId: '628999@c.us', alias: null }, isGroupCall: true });
    expect((await answers()).map(({ recipient }) => recipient)).toEqual([
      '6281234567890',
      '1234567890123@lid',
    ]);
    const told = await events();
    expect(told).toHaveLength(12);
    expect(told.filter(({ data }) => data.answerId !== null)).toHaveLength(2);
  });

  it('comes again for a call that is made later', async () => {
    await reject('A');
    const [first] = await answers();
    // An id of that time: the time of a message is in its id.
    const earlier = (Date.now() - oneAnswerMs - 1_000).toString(16).padStart(12, '0');
    const id = `${earlier.slice(0, 8)}-${earlier.slice(8)}-7000-8000-000000000000`;
    await database.query('update messages set id = $2 where id = $1', [first!.id, id]);
    await reject('B');
    expect((await answers()).map(({ metadata }) => metadata)).toEqual([{ callId: 'A' }, { callId: 'B' }]);
  });
});
