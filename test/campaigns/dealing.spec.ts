import type { INestApplicationContext } from '@nestjs/common';
import { Readable } from 'node:stream';
import type { DataSource } from 'typeorm';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { CampaignStatsService } from '../../src/campaigns/campaign-stats.service.js';
import { CreateCampaignDto, UpdateCampaignDto } from '../../src/campaigns/campaigns.dto.js';
import { CampaignsService } from '../../src/campaigns/campaigns.service.js';
import { DealingService } from '../../src/campaigns/dealing.service.js';
import { PreflightService } from '../../src/campaigns/preflight.service.js';
import { RecipientsService } from '../../src/campaigns/recipients.service.js';
import { toDto } from '../../src/platform/http/validation.js';
import { insertAccount, insertWorkspace, ready } from '../support/factories.js';
import { scratchDatabase } from '../support/scratch-database.js';
import { startServices } from '../support/services.js';

let context: INestApplicationContext;
let drop: () => Promise<void>;
let database: DataSource;
let campaigns: CampaignsService;
let dealing: DealingService;
let workspaceId: string;
let accountId: string;

beforeAll(async () => {
  const scratch = await scratchDatabase();
  drop = scratch.drop;
  ({ context, database } = await startServices(scratch.config));
  campaigns = context.get(CampaignsService);
  dealing = context.get(DealingService);
  workspaceId = await insertWorkspace(database);
}, 60_000);
afterAll(async () => {
  await context?.close();
  await drop?.();
});

/** A number of Iceland, whose clock is UTC, and one of Japan, where it is nine hours later. */
const icelander = (index: number) => `+354611${String(1000 + index)}`;
const japanese = (index: number) => `+819012${String(340000 + index)}`;

/** A part of the day around now, by the clock of Iceland. */
function aroundNow(): { from: string; to: string } {
  const at = (hours: number) => new Date(Date.now() + hours * 3_600_000).toISOString().slice(11, 16);
  return { from: at(-2), to: at(2) };
}

async function runningCampaign(numbers: string[], fields: object = {}): Promise<string> {
  accountId = await insertAccount(database, workspaceId, ready);
  const wanted = toDto(CreateCampaignDto, {
    name: 'test',
    accountIds: [accountId],
    message: { text: 'Hello' },
    ...fields,
  });
  const campaign = await campaigns.create(workspaceId, wanted);
  const list = Readable.from([Buffer.from(`to\n${numbers.join('\n')}\n`)]);
  const loaded = await context.get(RecipientsService).load(campaign, list, { format: 'csv' });
  expect(loaded).toMatchObject({ accepted: numbers.length });
  await campaigns.start(workspaceId, campaign.id);
  return campaign.id;
}

const messagesOf = (
  id: string,
): Promise<{ recipient: string; status: string; scheduled_for: Date | null }[]> =>
  database.query('select recipient, status, scheduled_for from messages where campaign_id = $1 order by id', [
    id,
  ]);

/** The account has sent what it has. */
const sendAll = (id: string, status = 'sent') =>
  database.query(
    `update messages set status = $2, sent_at = case when $2 = 'sent' then now() end, failed_at = case when $2 = 'failed' then now() end
     where campaign_id = $1 and stage = 'queued'`,
    [id, status],
  );

/** As if all of it were so many seconds ago. */
async function pass(id: string, seconds: number): Promise<void> {
  await database.query(
    `update campaign_accounts set next_at = next_at - $2 * interval '1 second', last_sent_at = last_sent_at - $2 * interval '1 second',
       day = (day - $2 * interval '1 second')::date
     where campaign_id = $1`,
    [id, seconds],
  );
  await database.query(
    `update messages set sent_at = sent_at - $2 * interval '1 second' where campaign_id = $1`,
    [id, seconds],
  );
}

it('sends to the zones whose window is open, and holds nobody else back', async () => {
  const id = await runningCampaign([japanese(1), icelander(1), japanese(2), icelander(2), '+354 611 1003'], {
    windows: [aroundNow()],
  });
  await dealing.deal();
  await sendAll(id);
  await dealing.deal();
  const open = await messagesOf(id);
  expect(open.map(({ recipient }) => `+${recipient}`)).toEqual([icelander(1), icelander(2), icelander(3)]);

  // The window of Japan opens: nine hours later.
  await database.query(
    `update campaign_zones set opens_at = now(), closes_at = now() + interval '1 hour' where campaign_id = $1 and zone = 'JP'`,
    [id],
  );
  await dealing.deal();
  expect(await messagesOf(id)).toHaveLength(5);
});

it('lets a message wait for the next window if its window closes before it leaves', async () => {
  const id = await runningCampaign([icelander(1)], { windows: [aroundNow()] });
  await dealing.deal();
  expect(await messagesOf(id)).toMatchObject([{ status: 'queued' }]);
  await campaigns.pause(workspaceId, id);
  const opens = new Date(Math.ceil(Date.now() / 60_000 + 120) * 60_000);
  const hhmm = (time: number) => new Date(time).toISOString().slice(11, 16);
  const later = { from: hhmm(opens.getTime()), to: hhmm(opens.getTime() + 3_600_000) };
  await campaigns.update(workspaceId, id, toDto(UpdateCampaignDto, { windows: [later] }));
  expect(await messagesOf(id)).toEqual([
    { recipient: icelander(1).slice(1), status: 'scheduled', scheduled_for: opens },
  ]);
  // Without windows it leaves again.
  await campaigns.update(workspaceId, id, toDto(UpdateCampaignDto, { windows: null }));
  expect(await messagesOf(id)).toMatchObject([{ status: 'queued', scheduled_for: null }]);
});

it('says at the start that no moment is allowed for a country, and how to change that', async () => {
  const start = runningCampaign(['+79161234567'], { windows: [{ from: '10:00', to: '10:30' }] });
  await expect(start).rejects.toMatchObject({
    code: 'campaign.never_allowed',
    message: expect.stringContaining('set timeZone to one zone'),
  });
});

it('gives an account one recipient at a time, with gaps and pauses after batches', async () => {
  const numbers = Array.from({ length: 6 }, (_, index) => icelander(index));
  const id = await runningCampaign(numbers, {
    pacing: { gapSeconds: 10, jitter: 0, batch: { size: 2, pauseSeconds: 60 } },
  });
  const deals = async () => {
    const count = await dealing.deal();
    await sendAll(id);
    return count;
  };
  expect(await dealing.deal()).toBe(1);
  await pass(id, 100);
  expect(await dealing.deal(), 'the first one has not left').toBe(0);
  await sendAll(id);
  // It left 100 seconds after it was dealt: the gap begins there.
  expect(await deals()).toBe(0);
  await pass(id, 11);
  expect(await deals()).toBe(1);
  await pass(id, 11);
  expect(await deals(), 'a pause follows the batch').toBe(0);
  await pass(id, 60);
  expect(await deals()).toBe(1);
});

it('keeps the daily maximum of an account', async () => {
  const numbers = Array.from({ length: 6 }, (_, index) => icelander(index));
  const id = await runningCampaign(numbers, { pacing: { dailyCap: 4 } });
  await dealing.deal();
  await sendAll(id);
  await dealing.deal();
  expect(await messagesOf(id)).toHaveLength(4);
  await pass(id, 86_400);
  await dealing.deal();
  expect(await messagesOf(id)).toHaveLength(6);
});

it('sends failed messages again at its pace', async () => {
  const numbers = Array.from({ length: 4 }, (_, index) => icelander(index));
  const id = await runningCampaign(numbers, { safety: { failedPercent: 100 } });
  await dealing.deal();
  await sendAll(id, 'failed');
  await campaigns.pause(workspaceId, id);
  const pacing = { gapSeconds: 100, jitter: 0, dailyCap: 3 };
  await campaigns.update(workspaceId, id, toDto(UpdateCampaignDto, { pacing }));
  await campaigns.resume(workspaceId, id, { which: 'failed' });
  const [first, ...others] = (await messagesOf(id)).map(({ scheduled_for: at }) => at!.getTime());
  expect(others.map((at) => Math.round((at - first!) / 1_000))).toEqual([100, 200, 86_400]);
});

it('gives no recipient to an account whose owner writes on the phone', async () => {
  const id = await runningCampaign([icelander(1)], { safety: { afterPhoneSeconds: 60 } });
  await database.query(
    `insert into messages (id, workspace_id, account_id, direction, is_from_device, priority, type, chat_id, recipient, text, status, whatsapp_id, sent_at)
     values (gen_random_uuid(), $1, $2, 'outgoing', true, 1, 'text', '3546110000@c.us', '3546110000', 'mine', 'sent', 'PHONE', now())`,
    [workspaceId, accountId],
  );
  expect(await dealing.deal()).toBe(0);
  await database.query(`update messages set sent_at = now() - interval '61 seconds' where account_id = $1`, [
    accountId,
  ]);
  expect(await dealing.deal()).toBe(1);
  expect(await messagesOf(id)).toHaveLength(1);
});

it('pauses itself if too many messages fail, and not again for the same ones', async () => {
  const stats = context.get(CampaignStatsService);
  const numbers = Array.from({ length: 40 }, (_, index) => icelander(index));
  const id = await runningCampaign(numbers, { safety: { failedPercent: 25, ofLast: 10 } });
  await dealing.deal();
  const end = (status: string, from: number, to: number) =>
    database.query(
      `update messages set status = $2, sent_at = case when $2 = 'sent' then now() end, failed_at = case when $2 = 'failed' then now() end
       where id in (select id from messages where campaign_id = $1 order by id offset $3 limit $4)`,
      [id, status, from, to - from],
    );
  await end('sent', 0, 8);
  await end('failed', 8, 10);
  await stats.update(id);
  expect(await campaigns.get(workspaceId, id), '20 %').toMatchObject({ status: 'running' });
  await end('failed', 10, 11);
  await stats.update(id);
  expect(await campaigns.get(workspaceId, id), '30 %').toMatchObject({
    status: 'paused',
    pauseReason: 'failure_rate',
  });
  await campaigns.resume(workspaceId, id, { which: 'pending' });
  await end('sent', 11, 20);
  await stats.update(id);
  expect(await campaigns.get(workspaceId, id)).toMatchObject({ status: 'running', pauseReason: null });
});

it('pauses itself when WhatsApp has refused messages of all its accounts', async () => {
  const id = await runningCampaign([icelander(1)]);
  await database.query(
    `insert into account_pacing (account_id, workspace_id, next_send_at, pause_after, cool_down) select id, workspace_id, array_fill('-infinity'::timestamptz, array[4]), 1,
       interval '1 hour' from accounts where id = $1`,
    [accountId],
  );
  await dealing.deal();
  expect((await campaigns.get(workspaceId, id)).status).toBe('running');
  await database.query(
    `update account_pacing set cold_paused_until = now() + cool_down, cold_pause_reason = 'refused' where account_id = $1`,
    [accountId],
  );
  await dealing.deal();
  expect(await campaigns.get(workspaceId, id)).toMatchObject({ status: 'paused', pauseReason: 'refusals' });
  await campaigns.resume(workspaceId, id, { which: 'pending' });
  await dealing.deal();
  expect((await campaigns.get(workspaceId, id)).status, 'resumed by hand').toBe('running');
});

it('says before the start who will be reached, who is left out, when it ends and what is risky; and keeps its word', async () => {
  const preflights = context.get(PreflightService);
  const first = await runningCampaign([icelander(50)]);
  await dealing.deal();
  await sendAll(first);
  await campaigns.cancel(workspaceId, first);

  const message = { text: 'HELLO {{name|FRIEND}}, LOOK: https://bit.ly/x' };
  accountId = await insertAccount(database, workspaceId, { status: 'disconnected' });
  const startAt = new Date(Date.now() - 60_000).toISOString();
  const draft = await campaigns.create(
    workspaceId,
    toDto(CreateCampaignDto, {
      name: 'test',
      accountIds: [accountId],
      message,
      startAt,
      notWithinDays: 7,
      pacing: { gapSeconds: 60, jitter: 0 },
    }),
  );
  const empty = await preflights.preflight(draft);
  expect(empty).toMatchObject({ reached: 0, estimate: { budgetDays: 0 } });
  expect(empty.warnings.map(({ code }) => code)).toContain('campaign.no_recipients');

  const lines = [
    'to,code',
    `${icelander(50)},a`,
    `${icelander(51)},b`,
    `${icelander(52)},`,
    `${icelander(53)},c`,
    `${icelander(53)},d`,
    'x,e',
  ];
  await context
    .get(RecipientsService)
    .load(draft, Readable.from([Buffer.from(lines.join('\n'))]), { format: 'csv' });
  await campaigns.update(
    workspaceId,
    draft.id,
    toDto(UpdateCampaignDto, { message: { text: `${message.text} {{code}}` } }),
  );
  const preflight = await preflights.preflight(await campaigns.get(workspaceId, draft.id));
  expect(preflight).toMatchObject({
    reached: 2,
    leftOut: { invalid: 1, duplicate: 1, missingVariable: 1, receivedRecently: 1, neverAllowed: 0 },
    estimate: { accounts: [{ accountId, messages: 2, budgetDays: 0 }] },
  });
  const { start, end } = preflight.estimate;
  expect(Date.parse(end!) - Date.parse(start)).toBe(60_000);
  expect(preflight.warnings.map(({ code }) => code).sort()).toEqual([
    'account.not_ready',
    'campaign.start_in_past',
    'text.link_shortener',
    'text.no_opt_out',
  ]);

  await database.query(`update accounts set status = 'ready' where id = $1`, [accountId]);
  await campaigns.update(workspaceId, draft.id, toDto(UpdateCampaignDto, { pacing: null }));
  await campaigns.start(workspaceId, draft.id);
  await dealing.deal();
  const dealt = await database.query(
    'select status, error_code from messages where campaign_id = $1 order by id',
    [draft.id],
  );
  expect(dealt).toEqual([
    { status: 'cancelled', error_code: 'campaign.received_recently' },
    { status: 'queued', error_code: null },
    { status: 'failed', error_code: 'campaign.not_rendered' },
    { status: 'queued', error_code: null },
  ]);
});

it('warns of an account in its warm-up, and counts its budgets', async () => {
  const id = await runningCampaign(Array.from({ length: 60 }, (_, index) => icelander(index)));
  await campaigns.pause(workspaceId, id);
  await database.query(`update accounts set pacing = $2 where id = $1`, [
    accountId,
    { enabled: true, dailyBudget: { cold: 200 }, warmUp: { days: 10, startPercent: 10 } },
  ]);
  await database.query(
    `insert into account_pacing (account_id, workspace_id, pause_after, cool_down) values ($1, $2, 1, '1 hour')`,
    [accountId, workspaceId],
  );
  const preflight = await context.get(PreflightService).preflight(await campaigns.get(workspaceId, id));
  expect(preflight.warnings.map(({ code }) => code)).toContain('account.warm_up');
  // The first day has 20, the second 38, the third the rest.
  expect(preflight.estimate.budgetDays).toBeCloseTo(2 + 2 / 56, 1);
  const days = (Date.parse(preflight.estimate.end!) - Date.parse(preflight.estimate.start)) / 86_400_000;
  expect(days).toBeGreaterThan(1);
  expect(days).toBeLessThan(2.1);
});

it('completes a campaign that was paused when its last message had been sent', async () => {
  const id = await runningCampaign([icelander(901), icelander(902)]);
  await dealing.deal();
  await sendAll(id);
  await campaigns.pause(workspaceId, id);
  const stats = context.get(CampaignStatsService);
  await stats.update(id);
  expect((await campaigns.get(workspaceId, id)).status).toBe('paused');
  await campaigns.resume(workspaceId, id, { which: 'pending' });
  // Only a campaign with changes gets a job.
  const changed = await database.query('select from campaign_changes where campaign_id = $1', [id]);
  expect(changed.length).toBeGreaterThan(0);
  await stats.update(id);
  const { status, counts } = await campaigns.get(workspaceId, id);
  expect([status, counts.sent, counts.waiting]).toEqual(['completed', 2, 0]);
});
