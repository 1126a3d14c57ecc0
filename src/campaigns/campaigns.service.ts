import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager, LessThan } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { AccountNotFound } from '../accounts/account-errors.js';
import { AcceptService, NoAccountReady } from '../messages/accept.service.js';
import type { Message } from '../messages/message.entity.js';
import { SendMessageDto } from '../messages/messages.dto.js';
import { parseDestination } from '../messages/recipient.js';
import { ValidationFailed } from '../platform/errors/problem.js';
import { given } from '../platform/database/given.js';
import { toDto } from '../platform/http/validation.js';
import { Campaign, type CampaignDetails } from './campaign.entity.js';
import { isEnded } from './campaign-statuses.js';
import {
  CampaignHasNoRecipients,
  CampaignNeverAllowed,
  CampaignNotFound,
  CampaignStatusConflict,
} from './campaign-errors.js';
import type {
  CreateCampaignDto,
  ListCampaignsQuery,
  ResumeCampaignDto,
  UpdateCampaignDto,
} from './campaigns.dto.js';
import type { CampaignStatsResponse, FunnelResponse, TestCampaignDto } from './campaign-rules.dto.js';
import { CampaignTemplate } from './campaign-template.js';
import { maySend } from '../sending/claims.js';
import type { CampaignPacingDto, SendingTimesDto } from './campaign-pacing.dto.js';
import { campaignPaceOf, secondsPerMessage } from './pace.js';
import { toVariables } from './template.js';
import { CampaignMessagesService } from './campaign-messages.service.js';
import { variantName, variantOf } from './variants.js';
import { ZonesService } from './zones.service.js';

/** How many messages one statement of a resume or a cancellation changes. */
const batchSize = 5_000;

/** The speed of a campaign and its expected end. */
export interface CampaignPace {
  ratePerMinute: number;
  etaSeconds: number | null;
}

const funnelColumns = `count(*) filter (where m.status in ('sent', 'delivered', 'read', 'played'))::int as sent,
  count(*) filter (where m.status in ('delivered', 'read', 'played'))::int as delivered,
  count(*) filter (where m.status in ('read', 'played'))::int as read,
  count(*) filter (where m.status in ('failed', 'expired'))::int as failed`;
const nothing: FunnelResponse = { sent: 0, delivered: 0, read: 0, failed: 0 };

interface StatsRow extends FunnelResponse {
  kind: number;
  accountId: string | null;
  variant: string | null;
  code: string | null;
  count: number;
}

const details = `campaign_counts(c) as counts, array(select account_id::text from campaign_accounts where campaign_id = c.id
  order by account_id) as "accountIds"`;

/** Creates campaigns, and starts, pauses, resumes and cancels them. */
@Injectable()
export class CampaignsService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly messages: CampaignMessagesService,
    private readonly zones: ZonesService,
    private readonly accepting: AcceptService,
  ) {}

  /** @throws AccountNotFound, ValidationFailed, ContentMismatch, TemplateMalformed, and the errors of `MediaService.take` */
  async create(workspaceId: string, wanted: CreateCampaignDto): Promise<CampaignDetails> {
    await this.assertAccounts(workspaceId, wanted.accountIds);
    const content = await this.messages.contentOf(workspaceId, wanted);
    const times = timesOf(wanted);
    this.zones.planOf({ times });
    const id = uuidv7();
    await this.database.transaction(async (manager) => {
      await manager.query(
        `insert into campaigns (id, workspace_id, name, message, country, start_at, pacing, is_paced, times, safety, not_within_days,
           variants, template_id, template_version)
         select $1, w.id, $3, $4, coalesce($5, w.default_country), $6, $7, $8, $9, $10, $11, $12, $13, $14 from workspaces w where w.id = $2`,
        [
          id,
          workspaceId,
          wanted.name,
          content.message,
          wanted.country ?? null,
          wanted.startAt ?? null,
          wanted.pacing ?? null,
          hasGaps(wanted.pacing),
          times,
          wanted.safety ?? null,
          wanted.notWithinDays ?? null,
          content.variants && JSON.stringify(content.variants),
          content.templateId,
          content.templateVersion,
        ],
      );
      await setAccounts(manager, workspaceId, id, wanted.accountIds);
    });
    return this.get(workspaceId, id);
  }

  /** @throws CampaignNotFound, also for a campaign of another workspace */
  async get(workspaceId: string, id: string): Promise<CampaignDetails> {
    const campaign = await this.database.manager.findOneBy(Campaign, { id, workspaceId });
    if (!campaign) throw new CampaignNotFound(id);
    return (await this.withDetails([campaign]))[0]!;
  }

  /** Campaigns, newest first: one more than `limit` if there are more. */
  async list(workspaceId: string, { status, limit, cursor }: ListCampaignsQuery): Promise<CampaignDetails[]> {
    const id = cursor === undefined ? undefined : LessThan(cursor);
    const where = given({ workspaceId, status, id });
    const found = await this.database.manager.find(Campaign, {
      where,
      order: { id: 'DESC' },
      take: limit + 1,
    });
    return this.withDetails(found);
  }

  /** @throws CampaignNotFound, CampaignStatusConflict if more than the name changes after the start, and the errors of `create` */
  async update(workspaceId: string, id: string, wanted: UpdateCampaignDto): Promise<CampaignDetails> {
    const { message, variants, templateId, templateVersion } = wanted;
    const isOther = [message, variants, templateId, templateVersion].some((part) => part !== undefined);
    const content = isOther ? await this.messages.contentOf(workspaceId, wanted) : undefined;
    if (wanted.accountIds) await this.assertAccounts(workspaceId, wanted.accountIds);
    await this.database.transaction(async (manager) => {
      const campaign = await lock(manager, workspaceId, id);
      const { status } = campaign;
      const isFrozen = isOther || wanted.startAt !== undefined;
      if (isFrozen && status !== 'draft') throw new CampaignStatusConflict('changed', status);
      if (wanted.accountIds && isEnded(status)) throw new CampaignStatusConflict('changed', status);
      const { name, startAt, pacing, safety, notWithinDays, windows, quietHours, timeZone } = wanted;
      const rules = { pacing, safety, notWithinDays, windows, quietHours, timeZone };
      if (Object.values(rules).some((rule) => rule !== undefined)) {
        if (status !== 'draft' && status !== 'paused') throw new CampaignStatusConflict('changed', status);
        const times = timesOf({ ...campaign.times, ...given({ windows, quietHours, timeZone }) });
        await manager.update(
          Campaign,
          { id },
          {
            ...given({ pacing, safety, notWithinDays }),
            times,
            ...(pacing === undefined ? {} : { isPaced: hasGaps(pacing) }),
          },
        );
        if ([windows, quietHours, timeZone].some((part) => part !== undefined)) {
          this.zones.planOf({ times });
          assertAllowed(await this.zones.reset(manager, { id, times }));
        }
      }
      await manager.query(
        `update campaigns set name = coalesce($2, name), start_at = case when $3 then $4::timestamptz else start_at end
         where id = $1`,
        [id, name ?? null, startAt !== undefined, startAt ?? null],
      );
      if (content)
        await manager.query(
          'update campaigns set message = $2, variants = $3, template_id = $4, template_version = $5 where id = $1',
          [
            id,
            content.message,
            content.variants && JSON.stringify(content.variants),
            content.templateId,
            content.templateVersion,
          ],
        );
      if (wanted.accountIds) await setAccounts(manager, workspaceId, id, wanted.accountIds);
    });
    return this.get(workspaceId, id);
  }

  /** Deletes a draft, or a campaign that has ended, with its lists. Messages that were sent stay. @throws CampaignNotFound, CampaignStatusConflict */
  async delete(workspaceId: string, id: string): Promise<void> {
    await this.database.transaction(async (manager) => {
      const { status } = await lock(manager, workspaceId, id);
      if (status !== 'draft' && !isEnded(status)) throw new CampaignStatusConflict('deleted', status);
      await manager.query('delete from campaign_changes where campaign_id = $1', [id]);
      await manager.delete(Campaign, { id });
    });
  }

  /** @throws CampaignNotFound, CampaignStatusConflict, CampaignHasNoRecipients */
  async start(workspaceId: string, id: string): Promise<CampaignDetails> {
    await this.database.transaction(async (manager) => {
      const campaign = await lock(manager, workspaceId, id);
      const { status, startAt } = campaign;
      if (status === 'running' || status === 'scheduled') return;
      if (status !== 'draft') throw new CampaignStatusConflict('started', status);
      await assertRecipients(manager, id);
      assertAllowed(await this.zones.refresh(manager, campaign));
      const isLater = startAt !== null && startAt.getTime() > Date.now();
      await manager.update(
        Campaign,
        { id },
        isLater
          ? { status: 'scheduled' }
          : { status: 'running', startedAt: new Date(), watchedFrom: () => 'now()' },
      );
    });
    return this.get(workspaceId, id);
  }

  /**
   * From the end of this call on, no message of the campaign begins to be sent: each claim reads the status.
   * @throws CampaignNotFound, CampaignStatusConflict
   */
  async pause(workspaceId: string, id: string, reason = 'user_initiated'): Promise<CampaignDetails> {
    await this.database.transaction(async (manager) => {
      const { status } = await lock(manager, workspaceId, id);
      if (status === 'paused') return;
      if (status !== 'running' && status !== 'scheduled') throw new CampaignStatusConflict('paused', status);
      await manager.update(Campaign, { id }, { status: 'paused', pauseReason: reason });
    });
    return this.get(workspaceId, id);
  }

  /** @throws CampaignNotFound, CampaignStatusConflict */
  async resume(workspaceId: string, id: string, { which }: ResumeCampaignDto): Promise<CampaignDetails> {
    const { status } = await this.get(workspaceId, id);
    const again = which !== 'pending';
    if (status !== 'paused' && !(again && (status === 'running' || status === 'completed')))
      throw new CampaignStatusConflict('resumed', status);
    if (again) while (await this.sendFailedAgain(id));
    await this.database.transaction(async (manager) => {
      const campaign = await lock(manager, workspaceId, id);
      const { status: now, startedAt, pacing } = campaign;
      if (pacing) await spread(manager, campaign);
      if (now === 'running') return;
      if (now !== 'paused' && now !== 'completed') throw new CampaignStatusConflict('resumed', now);
      assertAllowed(await this.zones.refresh(manager, campaign));
      await this.zones.postpone(manager, id);
      await manager.update(
        Campaign,
        { id },
        {
          status: 'running',
          pauseReason: null,
          finishedAt: null,
          startedAt: startedAt ?? new Date(),
          watchedFrom: () => 'now()',
        },
      );
      // Nobody may be left to send to. Only a change of the counts makes a job, and only that job completes a campaign.
      await manager.query(
        `insert into campaign_changes (campaign_id, workspace_id, new_status, recipients) values ($1, $2, 'waiting', 0)`,
        [id, workspaceId],
      );
    });
    return this.get(workspaceId, id);
  }

  /** Cancels the messages that have not been tried. @throws CampaignNotFound, CampaignStatusConflict if it is completed */
  async cancel(workspaceId: string, id: string): Promise<CampaignDetails> {
    await this.database.transaction(async (manager) => {
      const { status } = await lock(manager, workspaceId, id);
      if (status === 'cancelled') return;
      if (status === 'completed') throw new CampaignStatusConflict('cancelled', status);
      await manager.update(
        Campaign,
        { id },
        { status: 'cancelled', pauseReason: null, finishedAt: new Date() },
      );
    });
    // Only what accounts have already: the other recipients are cancelled because their campaign is.
    await this.database.query(
      // In the order of the ids, as suppressions lock them: the two never wait for each other in a ring.
      `update messages set status = 'cancelled' where stage in ('queued', 'scheduled') and id = any(array(
         select id from messages where campaign_id = $1 and stage in ('queued', 'scheduled') and attempts = 0 order by id for update))`,
      [id],
    );
    return this.get(workspaceId, id);
  }

  /** Whether any campaign runs or waits for its start: most of the time none does. */
  async hasActive(): Promise<boolean> {
    const found = await this.database.query<unknown[]>(
      `(select 1 from campaigns where status = 'running' limit 1) union all (select 1 from campaigns where status = 'scheduled' limit 1)`,
    );
    return found.length > 0;
  }

  /** Starts the scheduled campaigns whose time has come. */
  async startDue(): Promise<void> {
    await this.database.query(
      `update campaigns set status = 'running', started_at = now(), watched_from = now() where status = 'scheduled' and start_at <= now()`,
    );
  }

  /** How fast a running campaign is, by the last minute, and when it ends at this speed. */
  async pace({ id, status, counts, accountIds }: CampaignDetails): Promise<CampaignPace> {
    if (status !== 'running') return { ratePerMinute: 0, etaSeconds: null };
    const [row] = await this.database.query<{ rate: number; seconds: number }[]>(
      `select count(*)::int as rate, extract(epoch from now() - min(m.sent_at))::float as seconds
       from unnest($2::uuid[]) as own (account_id) join messages m on m.account_id = own.account_id
       where m.direction = 'outgoing' and m.stage is null and m.sent_at > now() - interval '1 minute' and m.campaign_id = $1`,
      [id, accountIds],
    );
    const { rate, seconds } = row!;
    const left =
      (counts.waiting ?? 0) + (counts.queued ?? 0) + (counts.scheduled ?? 0) + (counts.sending ?? 0);
    if (left === 0) return { ratePerMinute: rate, etaSeconds: 0 };
    return {
      ratePerMinute: rate,
      etaSeconds: rate === 0 ? null : Math.ceil((left * Math.max(seconds, 1)) / rate),
    };
  }

  /** What became of the messages, in all, per account and per variant. */
  async stats(workspaceId: string, id: string): Promise<CampaignStatsResponse> {
    const { variants } = await this.get(workspaceId, id);
    const rows = await this.database.query<StatsRow[]>(
      `select grouping(m.account_id, r.variant, m.error_code) as kind, m.account_id as "accountId", r.variant, m.error_code as code, count(*)::int as count,
         ${funnelColumns}
       from messages m left join campaign_recipients r on ${variants ? '' : 'false and'} r.campaign_id = m.campaign_id and r.id = m.id
       where m.campaign_id = $1 group by grouping sets ((), (m.account_id), (r.variant), (m.error_code))
       order by count desc`,
      [id],
    );
    // Which columns a row does not group by: one bit for each, the last one for the error.
    const of = (kind: number) => rows.filter((row) => row.kind === kind);
    const funnelOf = ({ sent, delivered, read, failed }: StatsRow) => ({ sent, delivered, read, failed });
    return {
      funnel: funnelOf(of(7)[0]!),
      failures: of(6).flatMap(({ code, count }) => (code === null ? [] : [{ code, count }])),
      accounts: of(3).map((row) => ({ accountId: row.accountId!, ...funnelOf(row) })),
      variants: (variants ?? []).map(({ share }, index) => {
        const variant = variantName(index);
        const row = of(5).find((one) => one.variant === variant);
        return { variant, share, ...(row ? funnelOf(row) : nothing) };
      }),
    };
  }

  /**
   * Sends the message to one number, as a message of its own that counts for nothing in the campaign.
   * @throws CampaignNotFound, AccountNotFound, NoAccountReady, ValidationFailed if a variable is missing, MessageLimitReached
   */
  async test(
    workspaceId: string,
    id: string,
    { to, variables, accountId }: TestCampaignDto,
  ): Promise<Message> {
    const campaign = await this.get(workspaceId, id);
    const { accountIds } = campaign;
    const [first] = await this.database.query<{ id: string; variables: Record<string, string> }[]>(
      'select id, variables from campaign_recipients where campaign_id = $1 order by id limit 1',
      [id],
    );
    const values = variables === undefined ? first?.variables : valuesOf(variables);
    const template = CampaignTemplate.allOf(campaign)[variantOf(campaign, first?.id ?? id)]!;
    const { content, problem } = template.render({
      id: first?.id ?? id,
      recipient: parseDestination(to)!.chatId.replace(/@c\.us$/, ''),
      variables: values ?? {},
    });
    if (!content)
      throw new ValidationFailed([{ path: 'variables', message: `do not fit: the message ${problem}` }]);
    const [ready] = await this.database.query<{ id: string }[]>(
      `select a.id from accounts a where a.id = any($1) and ${maySend('a')} order by a.id limit 1`,
      [accountIds],
    );
    const account = accountId ?? ready?.id;
    if (account === undefined) throw new NoAccountReady();
    const { type, metadata } = template.message;
    const wanted = Object.assign(toDto(SendMessageDto, {}), { to, type, accountId: account, metadata });
    return this.accepting.acceptPrepared(workspaceId, wanted, content);
  }

  /** @throws AccountNotFound */
  private async assertAccounts(workspaceId: string, ids: string[]): Promise<void> {
    const found = await this.database.query<{ id: string }[]>(
      'select id from accounts where workspace_id = $1 and id = any($2)',
      [workspaceId, ids],
    );
    const known = new Set(found.map(({ id }) => id));
    const missing = ids.find((id) => !known.has(id.toLowerCase()));
    if (missing !== undefined) throw new AccountNotFound(missing);
  }

  private async withDetails(campaigns: Campaign[]): Promise<CampaignDetails[]> {
    const rows = await this.database.query<
      (Pick<CampaignDetails, 'counts' | 'accountIds'> & { id: string })[]
    >(`select c.id, ${details} from campaigns c where c.id = any($1)`, [campaigns.map(({ id }) => id)]);
    const byId = new Map(rows.map((row) => [row.id, row]));
    return campaigns.map((campaign) => {
      const { counts, accountIds } = byId.get(campaign.id)!;
      return Object.assign(campaign, { counts, accountIds });
    });
  }

  /** Puts failed messages into their lanes again, with new WhatsApp ids: WhatsApp Web remembers those that were refused. */
  private async sendFailedAgain(id: string): Promise<boolean> {
    const [, changed] = await this.database.query<[unknown[], number]>(
      `with failed as (select id from messages where campaign_id = $1 and status in ('failed', 'expired') limit ${batchSize} for update)
       update messages m set attempts = 0, resends = m.resends + 1, next_attempt_at = now(), failed_at = null,
         -- In a paced campaign each then gets its time.
         status = case when c.pacing is null then 'queued' else 'scheduled' end,
         scheduled_for = case when c.pacing is null then null else now() + interval '1 hour' end,
         error_code = null, error_message = null, expires_at = null,
         whatsapp_id = '3EB0' || upper(left(encode(sha256(convert_to(m.id || '/' || m.resends + 1, 'UTF8')), 'hex'), 18))
       from failed, campaigns c where m.id = failed.id and c.id = $1`,
      [id],
    );
    return changed === batchSize;
  }
}

/** @throws CampaignNotFound */
async function lock(manager: EntityManager, workspaceId: string, id: string): Promise<Campaign> {
  const campaign = await manager.findOne(Campaign, {
    where: { id, workspaceId },
    lock: { mode: 'for_no_key_update' },
  });
  if (!campaign) throw new CampaignNotFound(id);
  return campaign;
}

/** @throws CampaignHasNoRecipients */
async function assertRecipients(manager: EntityManager, id: string): Promise<void> {
  const found = await manager.query<unknown[]>(
    'select from campaign_recipients where campaign_id = $1 limit 1',
    [id],
  );
  if (found.length === 0) throw new CampaignHasNoRecipients();
}

async function setAccounts(
  manager: EntityManager,
  workspaceId: string,
  id: string,
  accountIds: string[],
): Promise<void> {
  await manager.query(
    `with gone as (delete from campaign_accounts where campaign_id = $1 and account_id <> all($3::uuid[]))
     insert into campaign_accounts (campaign_id, account_id, workspace_id) select $1, account_id, $2 from unnest($3::uuid[]) as given (account_id)
     on conflict do nothing`,
    [id, workspaceId, accountIds],
  );
}

/** The sending times of a request. Null: any time. */
function timesOf({ windows, quietHours, timeZone }: SendingTimesDto): SendingTimesDto | null {
  const times = Object.fromEntries(
    Object.entries({ windows, quietHours, timeZone }).filter(([, value]) => value != null),
  ) as SendingTimesDto;
  return Object.keys(times).length === 0 ? null : times;
}

/** Whether an account waits between two messages. */
function hasGaps(pacing: CampaignPacingDto | null | undefined): boolean {
  return secondsPerMessage(campaignPaceOf(pacing)) > 0;
}

/** @throws CampaignNeverAllowed */
function assertAllowed(neverAllowed: string[]): void {
  if (neverAllowed.length > 0) throw new CampaignNeverAllowed(neverAllowed[0]!);
}

/** The messages that accounts have already leave one after the other at the pace of the campaign. */
async function spread(manager: EntityManager, { id, pacing }: Campaign): Promise<void> {
  const pace = campaignPaceOf(pacing);
  await manager.query(
    `with queue as (select m.id, m.account_id, row_number() over (partition by m.account_id order by m.seq) - 1 as place
         from messages m where m.campaign_id = $1 and m.stage is not null and m.stage in ('queued', 'scheduled') and m.attempts = 0),
       begun as (select account_id, greatest(next_at, now()) as at from campaign_accounts where campaign_id = $1),
       timed as (select queue.id, queue.account_id, begun.at + coalesce(place / $3::int, 0) * interval '1 day'
           + coalesce(place % $3::int, place) * $2::float8 * interval '1 second' as at
         from queue join begun on begun.account_id = queue.account_id),
       moved as (update messages m set status = 'scheduled', scheduled_for = timed.at from timed where m.id = timed.id)
     update campaign_accounts ca set next_at = last.at + $2::float8 * interval '1 second'
     from (select account_id, max(at) as at from timed group by account_id) last
     where ca.campaign_id = $1 and ca.account_id = last.account_id`,
    [id, secondsPerMessage(pace), pace.dailyCap],
  );
}

/** @throws ValidationFailed */
function valuesOf(variables: Record<string, unknown>): Record<string, string> {
  try {
    return toVariables(variables);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new ValidationFailed([{ path: 'variables', message: error.message }]);
  }
}
