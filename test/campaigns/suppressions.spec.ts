import type { INestApplicationContext } from '@nestjs/common';
import { Readable } from 'node:stream';
import type { DataSource, QueryRunner } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { CampaignsService } from '../../src/campaigns/campaigns.service.js';
import { DealingService } from '../../src/campaigns/dealing.service.js';
import { OptOutService } from '../../src/campaigns/opt-out.service.js';
import { RecipientsService } from '../../src/campaigns/recipients.service.js';
import { SuppressionsService } from '../../src/campaigns/suppressions.service.js';
import { IncomingService } from '../../src/receiving/incoming.service.js';
import { PacingReservations } from '../../src/sending/pacing-reservations.js';
import type { PageMessage } from '../../src/whatsapp/in-page/page-functions.js';
import { eventually } from '../support/eventually.js';
import { insertAccount, insertWorkspace, pageMessageOf, ready } from '../support/factories.js';
import { scratchDatabase } from '../support/scratch-database.js';
import { startServices } from '../support/services.js';

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let suppressions: SuppressionsService;
let campaigns: CampaignsService;
let recipients: RecipientsService;
let dealing: DealingService;
let incoming: IncomingService;
let workspaceId: string;
let accountId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  ({ context, database } = await startServices(scratch.config));
  suppressions = context.get(SuppressionsService);
  campaigns = context.get(CampaignsService);
  recipients = context.get(RecipientsService);
  dealing = context.get(DealingService);
  incoming = new IncomingService(database, new PacingReservations(database));
  new OptOutService(database, suppressions, incoming);
});
afterAll(async () => {
  await context?.close();
  await drop?.();
});
beforeEach(async () => {
  workspaceId = await insertWorkspace(database);
  accountId = await insertAccount(database, workspaceId, { ...ready, phone_number: '6281900000000' });
});

let count = 0;
const newNumber = () => `62812${String(30_000_000 + (count += 1))}`;

async function runningCampaign(numbers: string[]): Promise<string> {
  const campaign = await campaigns.create(workspaceId, {
    name: 'sale',
    accountIds: [accountId],
    message: { type: 'text', text: 'Hello' },
  });
  const list = `to\n${numbers.join('\n')}\n`;
  await recipients.load(campaign, Readable.from([Buffer.from(list)]), { format: 'csv' });
  await campaigns.start(workspaceId, campaign.id);
  return campaign.id;
}

/** By number: the status, and the code of the error. */
async function outcomes(id: string): Promise<Record<string, string>> {
  const rows = await recipients.list(await campaigns.get(workspaceId, id), { limit: 200 });
  return Object.fromEntries(
    rows.map(({ recipient, status, error_code: code }) => [
      recipient,
      [status, code].filter(Boolean).join(' '),
    ]),
  );
}

const suppressed = 'cancelled campaign.suppressed';
const hears = (...told: Partial<PageMessage>[]) =>
  incoming.storeIncoming(
    { id: accountId },
    told.map((own) => pageMessageOf({ whatsappId: uuidv7(), ...own })),
  );
const says = (number: string, text: string, own: Partial<PageMessage> = {}) =>
  hears({ chatId: `${number}@c.us`, from: `${number}@c.us`, text, ...own });
const listed = async () =>
  (await suppressions.list(workspaceId, { limit: 100 })).map(({ address, source }) => `${address} ${source}`);
const add = (to: string) => suppressions.add(workspaceId, { to });

describe('a suppressed person', () => {
  it('gets nothing: neither what waits already, nor what is dealt later', async () => {
    const [early, late, other] = [newNumber(), newNumber(), newNumber()];
    await add(early);
    const id = await runningCampaign([early, late, other]);
    await dealing.deal();
    expect(await outcomes(id)).toEqual({ [early]: suppressed, [late]: 'queued', [other]: 'queued' });
    await add(late);
    expect(await outcomes(id)).toEqual({ [early]: suppressed, [late]: suppressed, [other]: 'queued' });
    const { counts } = await campaigns.get(workspaceId, id);
    expect(counts).toMatchObject({ cancelled: 2, queued: 1, waiting: 0 });
  });

  it('is found in any form of the number, and by the hidden number that an account has learnt', async () => {
    const [mexican, withDigit] = ['525512345678', '5215512345678'];
    const [phone, lid] = [newNumber(), `7${newNumber()}@lid`];
    await database.query(
      'insert into recipient_ids (account_id, workspace_id, number, chat_id) values ($1, $2, $3, $4)',
      [accountId, workspaceId, `${phone}@c.us`, lid],
    );
    await add(withDigit);
    await says(lid, 'STOP', { chatId: lid, from: lid });
    const id = await runningCampaign([mexican, phone]);
    await dealing.deal();
    expect(await outcomes(id)).toEqual({ [mexican]: suppressed, [phone]: suppressed });
  });

  it('with a phone number and a hidden one is left out under both', async () => {
    const [phone, lid] = [newNumber(), `7${newNumber()}@lid`];
    await add(phone);
    await says(phone, 'stop', { alias: lid, fromAlias: lid });
    const id = await runningCampaign([phone, lid]);
    await dealing.deal();
    expect(await outcomes(id)).toEqual({ [phone]: suppressed, [lid]: suppressed });
    expect(await listed()).toEqual([`${phone} manual`]);
  });

  it('gets no later attempt and no resume; what may have left is only looked for', async () => {
    const [failed, retried, uncertain] = [newNumber(), newNumber(), newNumber()];
    const id = await runningCampaign([failed, retried, uncertain]);
    await dealing.deal();
    const set = (number: string, columns: string) =>
      database.query(`update messages set ${columns} where campaign_id = $1 and recipient = $2`, [
        id,
        number,
      ]);
    await set(failed, `status = 'failed', failed_at = now()`);
    await set(retried, `status = 'sending', attempts = 1`);
    for (const number of [failed, retried]) await add(number);
    await set(retried, `status = 'queued', attempts = 0`);
    await set(uncertain, `status = 'sending', attempts = 1`);
    await add(uncertain);
    await set(uncertain, `status = 'queued'`);
    await campaigns.resume(workspaceId, id, { which: 'failed' });
    expect(await outcomes(id)).toEqual({
      [failed]: suppressed,
      [retried]: suppressed,
      [uncertain]: 'queued',
    });
    const [{ late }] = await database.query<[{ late: boolean }]>(
      'select expires_at <= now() as late from messages where campaign_id = $1 and recipient = $2',
      [id, uncertain],
    );
    expect(late).toBe(true);
  });

  it('still gets messages that no campaign sends, and other workspaces are as before', async () => {
    const number = newNumber();
    await add(number);
    await database.query(
      `insert into messages (id, workspace_id, account_id, direction, priority, type, chat_id, recipient, text, status, whatsapp_id)
       values ($1, $2, $3, 'outgoing', 1, 'text', $4, $5, 'direct', 'queued', 'X')`,
      [uuidv7(), workspaceId, accountId, `${number}@c.us`, number],
    );
    expect(await database.query('select status from messages where account_id = $1', [accountId])).toEqual([
      { status: 'queued' },
    ]);
    workspaceId = await insertWorkspace(database);
    accountId = await insertAccount(database, workspaceId, { ...ready, phone_number: '6281900000009' });
    const id = await runningCampaign([number]);
    await dealing.deal();
    expect(await outcomes(id)).toEqual({ [number]: 'queued' });
  });
});

describe('a suppression and a deal at the same moment', () => {
  const insertion = `insert into suppressions (id, workspace_id, person, address, source) values ($1, $2, $3, $3, 'manual')`;

  async function inTransaction(work: (runner: QueryRunner) => Promise<void>): Promise<void> {
    const runner = database.createQueryRunner();
    await runner.startTransaction();
    try {
      await work(runner);
    } finally {
      if (runner.isTransactionActive) await runner.rollbackTransaction();
      await runner.release();
    }
  }

  const untilSomebodyWaits = () =>
    eventually('somebody waits for the lock', async () => {
      const waiting = await database.query<unknown[]>(
        `select from pg_locks where locktype = 'advisory' and not granted
           and database = (select oid from pg_database where datname = current_database())`,
      );
      return waiting.length > 0;
    });

  it('the suppression first: the deal waits, and cancels', async () => {
    const number = newNumber();
    const id = await runningCampaign([number]);
    await inTransaction(async (runner) => {
      await runner.query(insertion, [uuidv7(), workspaceId, number]);
      const dealt = dealing.deal();
      await untilSomebodyWaits();
      await runner.commitTransaction();
      await dealt;
    });
    expect(await outcomes(id)).toEqual({ [number]: suppressed });
  });

  it('the deal first: the suppression waits, and cancels', async () => {
    const number = newNumber();
    const id = await runningCampaign([number]);
    await database.query('update campaign_recipients set is_dealt = true where campaign_id = $1', [id]);
    const [recipient] = await recipients.list(await campaigns.get(workspaceId, id), { limit: 1 });
    await inTransaction(async (runner) => {
      await runner.query(
        `insert into messages (id, workspace_id, account_id, campaign_id, direction, priority, type, chat_id, recipient, text, status, whatsapp_id)
         values ($1, $2, $3, $4, 'outgoing', 0, 'text', $5, $6, 'Hello', 'queued', 'Y')`,
        [recipient!.id, workspaceId, accountId, id, `${number}@c.us`, number],
      );
      const adding = add(number);
      await untilSomebodyWaits();
      await runner.commitTransaction();
      await adding;
    });
    expect(await outcomes(id)).toEqual({ [number]: suppressed });
  });
});

describe('an answer', () => {
  it('is an opt-out only if it says nothing else, and comes from a person to the account', async () => {
    const [one, two] = [newNumber(), newNumber()];
    await says(one, 'stop by at five');
    await says(one, 'STOP', { fromMe: true });
    await says(one, 'STOP', { chatId: '6281-77@g.us' });
    await says(one, 'STOP', { chatId: 'status@broadcast', source: 'stories' });
    await says(one, 'STOP', { type: 'image', media: { mimetype: 'image/png', size: 1, filename: null } });
    expect(await listed()).toEqual([]);
    const whatsappId = uuidv7();
    for (let time = 0; time < 2; time += 1) await says(two, ' Stop! ', { whatsappId });
    expect(await listed()).toEqual([`${two} reply`]);
    const [row] = await suppressions.list(workspaceId, { limit: 1 });
    expect(row).toMatchObject({ reason: 'Stop!', account_id: accountId });
    const [message] = await database.query<[{ text: string }]>('select text from messages where id = $1', [
      row!.message_id,
    ]);
    expect(message).toEqual({ text: ' Stop! ' });
  });

  it('opts in again only who has opted out by an answer, and the last word counts', async () => {
    const [one, two, three] = [newNumber(), newNumber(), newNumber()];
    await add(one);
    await says(one, 'START');
    await says(two, 'STOP');
    await says(two, 'START');
    const now = Math.floor(Date.now() / 1_000);
    const person = { chatId: `${three}@c.us`, from: `${three}@c.us` };
    await hears(
      { ...person, text: 'stop', timestamp: now },
      { ...person, text: 'start', timestamp: now - 5 },
    );
    expect(await listed()).toEqual([`${three} reply`, `${one} manual`]);
    const events = await database.query<{ type: string; to: string }[]>(
      `select type, data ->> 'to' as to from events where workspace_id = $1 and type like 'suppression.%' order by id`,
      [workspaceId],
    );
    expect(events).toEqual([
      { type: 'suppression.added', to: one },
      { type: 'suppression.added', to: two },
      { type: 'suppression.removed', to: two },
      { type: 'suppression.added', to: three },
    ]);
  });

  it('may be a word of the workspace', async () => {
    await database.query('update workspaces set opt_out_words = $2 where id = $1', [
      workspaceId,
      ['Kein Interesse'],
    ]);
    const number = newNumber();
    await says(number, 'kein interesse.');
    expect(await listed()).toEqual([`${number} reply`]);
  });

  it('is stored with its message or not at all', async () => {
    const number = newNumber();
    const stored = () => database.query<unknown[]>('select from messages where account_id = $1', [accountId]);
    await database.query('alter table suppressions rename to away');
    try {
      await expect(says(number, 'STOP', { whatsappId: 'twice' })).rejects.toThrow('suppressions');
      expect(await stored()).toHaveLength(0);
    } finally {
      await database.query('alter table away rename to suppressions');
    }
    await says(number, 'STOP', { whatsappId: 'twice' });
    expect(await stored()).toHaveLength(1);
    expect(await listed()).toEqual([`${number} reply`]);
  });

  it('counts once for the campaign whose message was the last one before it', async () => {
    const [answers, silent, late] = [newNumber(), newNumber(), newNumber()];
    const first = await runningCampaign([answers, silent, late]);
    const second = await runningCampaign([answers]);
    await dealing.deal();
    const sentAt = (id: string, at: string, number = '%') =>
      database.query(
        `update messages set status = 'delivered', sent_at = now() - $2::interval where campaign_id = $1 and recipient like $3`,
        [id, at, number],
      );
    await sentAt(first, '2 hours');
    await sentAt(first, '8 days', late);
    await sentAt(second, '1 hour');
    await says(answers, 'how much is it?');
    await says(answers, 'hello?');
    await says(late, 'who are you?');
    await hears({ chatId: '6281-77@g.us', from: `${silent}@c.us`, text: 'hello group' });
    const { counts } = await campaigns.get(workspaceId, second);
    expect(counts).toMatchObject({ replied: 1 });
    expect((await campaigns.get(workspaceId, first)).counts.replied ?? 0).toBe(0);
    const [row] = await recipients.list(await campaigns.get(workspaceId, second), { limit: 1 });
    expect(row!.replied_at).toBeInstanceOf(Date);
  });
});
