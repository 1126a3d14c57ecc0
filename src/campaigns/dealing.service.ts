import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { LRUCache } from 'lru-cache';
import { DataSource, type EntityManager } from 'typeorm';
import { priorities, whatsappIdOf } from '../messages/message.entity.js';
import { knownIdSql } from '../messages/recipient-ids.service.js';
import { isColdSql } from '../pacing/pacing-rows.js';
import { dayOf } from '../pacing/pacing.js';
import { maySend } from '../sending/claims.js';
import { LanesService } from '../sending/lanes.service.js';
import { Campaign, type CampaignMessage } from './campaign.entity.js';
import type { CampaignPacingDto } from './campaign-pacing.dto.js';
import { CampaignTemplate } from './campaign-template.js';
import { type CampaignPace, campaignPaceOf, type CampaignPaceState, nextAfter } from './pace.js';
import { leftOutReasons, leftOutSql } from './left-out.js';
import { messagesOf, variantName, variantOf } from './variants.js';
import { ZonesService } from './zones.service.js';

/** How many recipients of a campaign an account has ahead of its sends. A paced account has one. */
const ahead = 40;
/** How many pairs of a campaign and an account one run deals to. The next run goes on. */
const maxPairs = 1_000;
/** How long before a paced account may send to the next recipient it gets that recipient, in milliseconds. */
const earlyMs = 1_000;
const templatesKept = 100;
const priority = priorities.indexOf('campaign');

/** An account that takes part in a running campaign and has room for more recipients. */
interface Player {
  campaignId: string;
  accountId: string;
  room: number;
  pacing: CampaignPacingDto | null;
  isPaced: boolean;
}

/** What an account has sent of a campaign, as its row has it. */
interface PaceRow {
  day: string | null;
  sentToday: number;
  batchSent: number;
  lastSentAt: Date | null;
  nextAt: Date | null;
  now: Date;
}

type DealtCampaign = Pick<Campaign, 'id' | 'message' | 'variants' | 'notWithinDays'>;

interface Taken {
  id: string;
  accountId: string;
  campaignId: string;
  pacing: CampaignPacingDto | null;
}

interface Dealt {
  id: string;
  recipient: string;
  variables: Record<string, string>;
}

/**
 * Deals the recipients of running campaigns to their accounts, a few at a time: an account gets more when it has sent those that it
 * has. So the accounts share the recipients by their speed, and an account that is away holds back only the few that it has, until
 * another account takes them.
 */
@Injectable()
export class DealingService {
  /** The parsed messages of campaigns, by id and text: a draft may change its message. */
  private readonly templates = new LRUCache<string, CampaignTemplate>({ max: templatesKept });

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly lanes: LanesService,
    private readonly zones: ZonesService,
  ) {}

  /** @returns how many recipients were dealt */
  async deal(): Promise<number> {
    await this.pauseRefused();
    await this.openZones();
    await this.takeOver();
    const players = await this.players();
    let dealt = 0;
    const accounts = new Set<string>();
    for (const player of players) {
      const count = await this.dealTo(player);
      if (count > 0) accounts.add(player.accountId);
      dealt += count;
    }
    await this.lanes.feed([...accounts]);
    return dealt;
  }

  /** Pauses the campaigns whose accounts have all been refused since the start: going on would make it worse. */
  private async pauseRefused(): Promise<void> {
    await this.database.query(
      `update campaigns c set status = 'paused', pause_reason = 'refusals'
       where c.status = 'running' and exists (select from campaign_accounts ca where ca.campaign_id = c.id)
         and not exists (select from campaign_accounts ca left join account_pacing p on p.account_id = ca.account_id
           where ca.campaign_id = c.id
             and not coalesce(p.cold_paused_until > now() and p.cold_paused_until - p.cool_down >= c.watched_from, false))`,
    );
  }

  /** Finds the next windows of zones that have closed. Who waits there with an account waits for them. */
  private async openZones(): Promise<void> {
    const campaigns = await this.database.query<Pick<Campaign, 'id' | 'times'>[]>(
      `select id, times from campaigns c where status = 'running'
         and exists (select from campaign_zones z where z.campaign_id = c.id and z.closes_at <= now())`,
    );
    for (const campaign of campaigns)
      await this.database.transaction(async (manager) => {
        const never = await this.zones.refresh(manager, campaign);
        if (never.length > 0)
          await manager.query(
            `update campaigns set status = 'paused', pause_reason = 'never_allowed' where id = $1 and status = 'running'`,
            [campaign.id],
          );
      });
    await this.zones.postpone(this.database.manager);
  }

  /** The accounts with room, those with the fewest recipients first. */
  private async players(): Promise<Player[]> {
    return this.database.query(
      `select c.id as "campaignId", a.id as "accountId", c.pacing, c.is_paced as "isPaced",
         case when p.account_id is null and not c.is_paced then ${ahead} - has.count else 1 end::int as room
       from campaigns c join campaign_accounts ca on ca.campaign_id = c.id join accounts a on a.id = ca.account_id
       cross join lateral (select count(*) from (select from messages m where m.campaign_id = c.id and m.account_id = a.id
         and m.stage is not null and m.stage <> 'scheduled' limit ${ahead}) few) has
       left join account_pacing p on p.account_id = a.id
       where c.status = 'running' and ${maySend('a')} and ${isDue('c', 'ca')}
         and case when p.account_id is null then has.count <= case when c.is_paced then 0 else ${ahead / 2} end
           else has.count = 0 and p.next_send_at[${priority + 1}] <= now() + ${earlyMs} * interval '1 millisecond'
             and (coalesce(greatest(p.cold_closed_until, p.cold_paused_until) <= now(), true)
               or coalesce(p.replies_closed_until <= now(), true)) end
         and exists (select from campaign_zones z where z.campaign_id = c.id and ${isOpen('z')} and exists (
           select from campaign_recipients r where r.campaign_id = c.id and r.zone = z.zone and not r.is_dealt))
         and (c.safety -> 'afterPhoneSeconds' is null or not exists (select from messages own where own.account_id = a.id
           and own.direction = 'outgoing' and own.stage is null and own.is_from_device
           and own.sent_at > now() - (c.safety ->> 'afterPhoneSeconds')::float8 * interval '1 second'))
       order by has.count, c.id limit ${maxPairs}`,
    );
  }

  /** Gives an account its next recipients: first those to whom it has written before, then those to whom no account has. */
  private async dealTo({ campaignId, accountId, room, pacing }: Player): Promise<number> {
    return this.database.transaction(async (manager) => {
      // From here on, a pause waits for this deal, and no deal follows the pause.
      const [campaign] = await manager.query<DealtCampaign[]>(
        `select id, message, variants, not_within_days as "notWithinDays" from campaigns where id = $1 and status = 'running' for share skip locked`,
        [campaignId],
      );
      if (!campaign) return 0;
      const pace = pacing && campaignPaceOf(pacing);
      const state = pace && (await this.lockPace(manager, campaignId, accountId));
      if (pace && !state) return 0;
      const most = pace && state ? Math.min(room, leftToday(pace, state)) : room;
      const dealt = await this.take(manager, campaignId, accountId, most);
      if (dealt.length < most)
        dealt.push(...(await this.take(manager, campaignId, null, most - dealt.length)));
      if (dealt.length === 0) {
        const away = await this.awayFrom(manager, campaignId);
        if (away.length > 0) dealt.push(...(await this.take(manager, campaignId, away, most)));
      }
      if (dealt.length > 0) {
        const sent = await this.insert(manager, campaign, accountId, dealt);
        if (pace && state) await this.advance(manager, campaignId, accountId, pace, state, sent);
      }
      return dealt.length;
    });
  }

  /** What an account has sent of a campaign. Null: another deal is just giving it a recipient, or has done so. */
  private async lockPace(
    manager: EntityManager,
    campaignId: string,
    accountId: string,
  ): Promise<PaceRow | null> {
    const [row] = await manager.query<PaceRow[]>(
      `select ca.day::text, ca.sent_today as "sentToday", ca.batch_sent as "batchSent", ca.next_at as "nextAt",
         greatest(ca.last_sent_at, (select last.sent_at from messages last where last.id = ca.last_message_id)) as "lastSentAt", now() as now
       from campaign_accounts ca where campaign_id = $1 and account_id = $2 and coalesce(next_at <= now(), true)
       for no key update skip locked`,
      [campaignId, accountId],
    );
    return row ?? null;
  }

  /** Writes down when the account may get its next recipient. */
  private async advance(
    manager: EntityManager,
    campaignId: string,
    accountId: string,
    pace: CampaignPace,
    row: PaceRow,
    sent: string[],
  ): Promise<void> {
    if (sent.length === 0) return;
    const now = row.now.getTime();
    let state = stateOf(row);
    for (let count = 0; count < sent.length; count += 1)
      state = nextAfter(state, pace, { now, random: Math.random() });
    await manager.query(
      `update campaign_accounts set day = $3, sent_today = $4, batch_sent = $5, last_sent_at = $6, next_at = $7, last_message_id = $8
       where campaign_id = $1 and account_id = $2`,
      [
        campaignId,
        accountId,
        state.day,
        state.sentToday,
        state.batchSent,
        row.now,
        new Date(state.nextAt),
        sent.at(-1),
      ],
    );
  }

  /**
   * Locks the next recipients of open zones. An id: to whom this account has written before. Null: to whom no account has. Ids: to whom one
   * of these accounts has. It is one index look-up for each zone.
   */
  private async take(
    manager: EntityManager,
    campaignId: string,
    writers: string | string[] | null,
    most: number,
  ): Promise<Dealt[]> {
    const condition =
      writers === null
        ? 'r.account_id is null and $3::uuid[] is null'
        : // One account: then the index has the order.
          typeof writers === 'string'
          ? 'r.account_id = ($3::uuid[])[1]'
          : 'r.account_id = any($3::uuid[])';
    return manager.query(
      `with next as materialized (
         select near.id from campaign_zones z cross join lateral (
           select r.id from campaign_recipients r
           where r.campaign_id = $1 and r.zone = z.zone and not r.is_dealt and ${condition}
           order by r.account_id, r.id limit $2) near
         where z.campaign_id = $1 and ${isOpen('z')} order by near.id limit $2)
       select r.id, r.recipient, r.variables from campaign_recipients r
       where r.campaign_id = $1 and r.id = any(array(select id from next)) and not r.is_dealt order by r.id for update skip locked`,
      [campaignId, most, typeof writers === 'string' ? [writers] : writers],
    );
  }

  /**
   * The accounts that have written to recipients of open zones, and cannot send or take part no more. It needs one index look-up for each
   * zone and account.
   */
  private async awayFrom(manager: EntityManager, campaignId: string): Promise<string[]> {
    const rows = await manager.query<{ account_id: string }[]>(
      `select distinct writer.account_id from campaign_zones z cross join lateral (
         with recursive each as (
           (select account_id from campaign_recipients where campaign_id = $1 and zone = z.zone and not is_dealt and account_id is not null
             order by account_id limit 1)
           union all
           select (select r.account_id from campaign_recipients r where r.campaign_id = $1 and r.zone = z.zone and not r.is_dealt
             and r.account_id > each.account_id order by r.account_id limit 1) from each where each.account_id is not null)
         select each.account_id from each where each.account_id is not null) writer
       where z.campaign_id = $1 and ${isOpen('z')}
         and not exists (select from accounts a join campaign_accounts ca on ca.account_id = a.id and ca.campaign_id = $1
           where a.id = writer.account_id and ${maySend('a')})`,
      [campaignId],
    );
    return rows.map(({ account_id: id }) => id);
  }

  /**
   * Writes the messages of recipients into the ledger, as they are from now on.
   * @returns those that will be sent
   */
  private async insert(
    manager: EntityManager,
    campaign: DealtCampaign,
    accountId: string,
    dealt: Dealt[],
  ): Promise<string[]> {
    const { id: campaignId, variants, notWithinDays } = campaign;
    const templates = messagesOf(campaign).map((message) => this.templateOf(campaignId, message));
    const chosen = dealt.map(({ id }) => variantOf(campaign, id));
    const messages = chosen.map((index) => templates[index]!.message);
    const rendered = dealt.map((recipient, index) => templates[chosen[index]!]!.render(recipient));
    const made = await manager.query<{ id: string; status: string }[]>(
      `with taken as (update campaign_recipients r set is_dealt = true, variant = given.variant
         from unnest($3::uuid[], $14::text[]) as given (id, variant) where r.campaign_id = $1 and r.id = given.id)
       insert into messages (id, workspace_id, account_id, campaign_id, direction, priority, type, chat_id, recipient, sender, text, status,
         whatsapp_id, metadata, is_cold, media, content, error_code, error_message, failed_at)
       select given.id, a.workspace_id, a.id, $1, 'outgoing', ${priority}, given.type, known.chat_id, given.recipient, a.phone_number, given.text,
         case when given.problem is not null then 'failed' when left_out.reason is not null then 'cancelled' else 'queued' end, given.whatsapp_id, given.metadata,
         ${isColdSql('a.id', 'known.chat_id')}, given.media, given.content,
         case when given.problem is not null then 'campaign.not_rendered' else left_out.reason end,
         coalesce(given.problem, $12::jsonb ->> left_out.reason),
         case when given.problem is not null then now() end
       from accounts a,
         unnest($3::uuid[], $6::text[], $7::text[], $8::text[], $9::jsonb[], $10::jsonb[], $11::text[], $4::text[], $5::jsonb[])
           as given (id, recipient, whatsapp_id, text, media, content, problem, type, metadata)
         cross join lateral (select case when given.recipient like '%@%' then given.recipient else given.recipient || '@c.us' end as written) chat
         cross join lateral (select ${knownIdSql('a.id', 'chat.written')} as chat_id) known
         cross join lateral (select ${leftOutSql('$1', 'a.workspace_id', 'given.recipient', '$13')} as reason) left_out
       where a.id = $2
       on conflict (id) do nothing returning id, status`,
      [
        campaignId,
        accountId,
        dealt.map(({ id }) => id),
        messages.map(({ type }) => type),
        messages.map(({ metadata }) => JSON.stringify(metadata)),
        dealt.map(({ recipient }) => recipient),
        dealt.map(({ id }) => whatsappIdOf(id)),
        rendered.map(({ content }) => content?.text ?? null),
        rendered.map(({ content }) => (content?.media ? JSON.stringify(content.media) : null)),
        rendered.map(({ content }) => (content?.content ? JSON.stringify(content.content) : null)),
        rendered.map(({ problem }) => problem),
        JSON.stringify(leftOutReasons),
        notWithinDays,
        chosen.map((index) => (variants ? variantName(index) : null)),
      ],
    );
    return made.flatMap(({ id, status }) => (status === 'queued' ? [id] : []));
  }

  /** Gives the recipients of accounts that cannot send to other accounts of their campaign. A message that may have left stays where it is. */
  private async takeOver(): Promise<void> {
    await this.database.transaction(async (manager) => {
      const taken = await manager
        .query<unknown>(
          `with away as (
         select c.id as campaign_id, c.is_paced, a.id as account_id,
           (select other.id from campaign_accounts oca join accounts other on other.id = oca.account_id
             where oca.campaign_id = c.id and ${maySend('other')} and ${isDue('c', 'oca')}
               and not (c.is_paced and exists (select from messages busy where busy.campaign_id = c.id and busy.account_id = other.id
                 and busy.stage is not null and busy.stage <> 'scheduled'))
             order by random() limit 1) as next_id
         from campaigns c join campaign_accounts ca on ca.campaign_id = c.id join accounts a on a.id = ca.account_id
         where c.status = 'running' and not (${maySend('a')})
           and exists (select from messages m where m.campaign_id = c.id and m.account_id = a.id and m.stage is not null)),
       -- Locks the messages first: a claim may just be taking one. An account of a paced campaign takes one message at a time.
       stuck as (select m.id, away.next_id from away cross join lateral (select first.id from messages first
           where first.campaign_id = away.campaign_id and first.account_id = away.account_id and first.stage is not null
             and first.stage = 'queued' and first.attempts = 0
           limit case when away.is_paced then 1 else 1000 end) few
         join messages m on m.id = few.id
         where m.stage = 'queued' and m.attempts = 0 and away.next_id is not null limit 1000 for update of m skip locked)
       update messages m set account_id = a.id, sender = a.phone_number, chat_id = known.chat_id,
         is_cold = ${isColdSql('a.id', 'known.chat_id')}
       from stuck join accounts a on a.id = stuck.next_id join messages own on own.id = stuck.id
         cross join lateral (select case when own.recipient like '%@%' then own.recipient else own.recipient || '@c.us' end as written) chat
         cross join lateral (select ${knownIdSql('a.id', 'chat.written')} as chat_id) known
       where m.id = stuck.id and m.stage = 'queued'
       returning m.id, m.account_id as "accountId", m.campaign_id as "campaignId",
         (select pacing from campaigns where campaigns.id = m.campaign_id) as pacing`,
        )
        .then((result) => (result as [Taken[]])[0]);
      for (const { id, accountId, campaignId, pacing } of taken) {
        const row = pacing && (await this.lockPace(manager, campaignId, accountId));
        if (row) await this.advance(manager, campaignId, accountId, campaignPaceOf(pacing), row, [id]);
      }
    });
  }

  private templateOf(campaignId: string, message: CampaignMessage): CampaignTemplate {
    const key = `${campaignId} ${JSON.stringify(message)}`;
    const known = this.templates.get(key);
    if (known) return known;
    const template = new CampaignTemplate(message);
    this.templates.set(key, template);
    return template;
  }
}

/** SQL: a message to this zone may leave now. */
function isOpen(zone: string): string {
  return `${zone}.opens_at <= now() and ${zone}.closes_at > now()`;
}

/** SQL: the pace of the campaign lets the account have a recipient. Its last message may have left later than it was dealt. */
function isDue(campaign: string, account: string): string {
  return `(${campaign}.pacing is null or ${account}.next_at is null or ${account}.next_at
    + greatest((select last.sent_at from messages last where last.id = ${account}.last_message_id) - ${account}.last_sent_at, interval '0')
    <= now())`;
}

function stateOf({ day, sentToday, batchSent, lastSentAt, nextAt }: PaceRow): CampaignPaceState {
  return {
    day,
    sentToday,
    batchSent,
    lastSentAt: lastSentAt?.getTime() ?? null,
    nextAt: nextAt?.getTime() ?? 0,
  };
}

function leftToday({ dailyCap }: CampaignPace, { day, sentToday, now }: PaceRow): number {
  if (dailyCap === null) return Infinity;
  return Math.max(0, dailyCap - (day === dayOf(now.getTime()) ? sentToday : 0));
}
