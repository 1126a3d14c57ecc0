import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { LRUCache } from 'lru-cache';
import { DataSource, type EntityManager } from 'typeorm';
import { priorities, whatsappIdOf } from '../messages/message.entity.js';
import { knownIdSql } from '../messages/recipient-ids.service.js';
import { isColdSql } from '../pacing/pacing-rows.js';
import { maySend } from '../sending/claims.js';
import { LanesService } from '../sending/lanes.service.js';
import { Campaign, type CampaignMessage } from './campaign.entity.js';
import { CampaignTemplate } from './campaign-template.js';

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
  ) {}

  /** @returns how many recipients were dealt */
  async deal(): Promise<number> {
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

  /** The accounts with room, those with the fewest recipients first. */
  private async players(): Promise<Player[]> {
    return this.database.query(
      `select c.id as "campaignId", a.id as "accountId", case when p.account_id is null then ${ahead} - has.count else 1 end::int as room
       from campaigns c join campaign_accounts ca on ca.campaign_id = c.id join accounts a on a.id = ca.account_id
       cross join lateral (select count(*) from (select from messages m where m.campaign_id = c.id and m.account_id = a.id
         and m.stage is not null limit ${ahead}) few) has
       left join account_pacing p on p.account_id = a.id
       where c.status = 'running' and ${maySend('a')}
         and case when p.account_id is null then has.count <= ${ahead / 2}
           else has.count = 0 and p.next_send_at[${priority + 1}] <= now() + ${earlyMs} * interval '1 millisecond'
             and (coalesce(greatest(p.cold_closed_until, p.cold_paused_until) <= now(), true)
               or coalesce(p.replies_closed_until <= now(), true)) end
         and exists (select from campaign_recipients r where r.campaign_id = c.id and not r.is_dealt)
       order by has.count, c.id limit ${maxPairs}`,
    );
  }

  /** Gives an account its next recipients: first those to whom it has written before, then those to whom no account has. */
  private async dealTo({ campaignId, accountId, room }: Player): Promise<number> {
    return this.database.transaction(async (manager) => {
      // From here on, a pause waits for this deal, and no deal follows the pause.
      const [campaign] = await manager.query<Pick<Campaign, 'message'>[]>(
        `select message from campaigns where id = $1 and status = 'running' for share skip locked`,
        [campaignId],
      );
      if (!campaign) return 0;
      const dealt = await this.take(manager, campaignId, [accountId], room);
      if (dealt.length < room)
        dealt.push(...(await this.take(manager, campaignId, null, room - dealt.length)));
      if (dealt.length === 0) {
        const away = await this.awayFrom(manager, campaignId);
        if (away.length > 0) dealt.push(...(await this.take(manager, campaignId, away, room)));
      }
      if (dealt.length > 0) await this.insert(manager, campaignId, accountId, campaign.message, dealt);
      return dealt.length;
    });
  }

  /** Locks the next recipients to whom one of these accounts has written before. Null: to whom no account has written. */
  private async take(
    manager: EntityManager,
    campaignId: string,
    accountIds: string[] | null,
    most: number,
  ): Promise<Dealt[]> {
    return manager.query(
      `select id, recipient, variables from campaign_recipients
       where campaign_id = $1 and not is_dealt and ${accountIds ? 'account_id = any($3)' : 'account_id is null and $3::uuid[] is null'}
       order by id limit $2 for update skip locked`,
      [campaignId, most, accountIds],
    );
  }

  /** The accounts that have written to recipients, and cannot send or take part no more. It needs one index look-up for each account. */
  private async awayFrom(manager: EntityManager, campaignId: string): Promise<string[]> {
    const rows = await manager.query<{ account_id: string }[]>(
      `with recursive each as (
         (select account_id from campaign_recipients where campaign_id = $1 and not is_dealt and account_id is not null
           order by account_id limit 1)
         union all
         select (select r.account_id from campaign_recipients r where r.campaign_id = $1 and not r.is_dealt
           and r.account_id > each.account_id order by r.account_id limit 1) from each where each.account_id is not null)
       select each.account_id from each where each.account_id is not null
         and not exists (select from accounts a join campaign_accounts ca on ca.account_id = a.id and ca.campaign_id = $1
           where a.id = each.account_id and ${maySend('a')})`,
      [campaignId],
    );
    return rows.map(({ account_id: id }) => id);
  }

  /** Writes the messages of recipients into the ledger, as they are from now on. */
  private async insert(
    manager: EntityManager,
    campaignId: string,
    accountId: string,
    message: CampaignMessage,
    dealt: Dealt[],
  ): Promise<void> {
    const template = this.templateOf(campaignId, message);
    const rendered = dealt.map((recipient) => template.render(recipient));
    await manager.query(
      `with taken as (update campaign_recipients set is_dealt = true where campaign_id = $1 and id = any($3::uuid[]))
       insert into messages (id, workspace_id, account_id, campaign_id, direction, priority, type, chat_id, recipient, sender, text, status,
         whatsapp_id, metadata, is_cold, media, content, error_code, error_message, failed_at)
       select given.id, a.workspace_id, a.id, $1, 'outgoing', ${priority}, $4, known.chat_id, given.recipient, a.phone_number, given.text,
         case when given.problem is null then 'queued' else 'failed' end, given.whatsapp_id, $5::jsonb,
         ${isColdSql('a.id', 'known.chat_id')}, given.media, given.content,
         case when given.problem is not null then 'campaign.not_rendered' end, given.problem,
         case when given.problem is not null then now() end
       from accounts a,
         unnest($3::uuid[], $6::text[], $7::text[], $8::text[], $9::jsonb[], $10::jsonb[], $11::text[])
           as given (id, recipient, whatsapp_id, text, media, content, problem)
         cross join lateral (select case when given.recipient like '%@%' then given.recipient else given.recipient || '@c.us' end as written) chat
         cross join lateral (select ${knownIdSql('a.id', 'chat.written')} as chat_id) known
       where a.id = $2
       on conflict (id) do nothing`,
      [
        campaignId,
        accountId,
        dealt.map(({ id }) => id),
        message.type,
        JSON.stringify(message.metadata),
        dealt.map(({ recipient }) => recipient),
        dealt.map(({ id }) => whatsappIdOf(id)),
        rendered.map(({ content }) => content?.text ?? null),
        rendered.map(({ content }) => (content?.media ? JSON.stringify(content.media) : null)),
        rendered.map(({ content }) => (content?.content ? JSON.stringify(content.content) : null)),
        rendered.map(({ problem }) => problem),
      ],
    );
  }

  /** Gives the recipients of accounts that cannot send to other accounts of their campaign. A message that may have left stays where it is. */
  private async takeOver(): Promise<void> {
    await this.database.query(
      `with away as (
         select c.id as campaign_id, a.id as account_id, (select other.id from campaign_accounts oca join accounts other on other.id = oca.account_id
             where oca.campaign_id = c.id and ${maySend('other')} order by random() limit 1) as next_id
         from campaigns c join campaign_accounts ca on ca.campaign_id = c.id join accounts a on a.id = ca.account_id
         where c.status = 'running' and not (${maySend('a')})
           and exists (select from messages m where m.campaign_id = c.id and m.account_id = a.id and m.stage is not null)),
       -- Locks the messages first: a claim may just be taking one.
       stuck as (select m.id, away.next_id from away join messages m on m.campaign_id = away.campaign_id and m.account_id = away.account_id
         where m.stage = 'queued' and m.attempts = 0 and away.next_id is not null limit 1000 for update of m skip locked)
       update messages m set account_id = a.id, sender = a.phone_number, chat_id = known.chat_id,
         is_cold = ${isColdSql('a.id', 'known.chat_id')}
       from stuck join accounts a on a.id = stuck.next_id join messages own on own.id = stuck.id
         cross join lateral (select case when own.recipient like '%@%' then own.recipient else own.recipient || '@c.us' end as written) chat
         cross join lateral (select ${knownIdSql('a.id', 'chat.written')} as chat_id) known
       where m.id = stuck.id and m.stage = 'queued'`,
    );
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
