import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { LRUCache } from 'lru-cache';
import { DataSource } from 'typeorm';
import type { Environment } from './account.entity.js';
import { canaries, versionForAll } from './web-version-policy.service.js';
import type { WebVersionResponse } from './web-versions.dto.js';

/** The index of a version. */
export interface KeptPage {
  version: string;
  html: string;
}

/** What the policy wants of an account, and what its page is now. */
export interface WantedPage {
  id: string;
  environment: Environment;
  /** The version whose page the account must get. Null: the page that WhatsApp serves. */
  version: string | null;
  /** The version is on trial, the account is a canary, and no message of a canary to itself was acknowledged yet. */
  needsSelfTest: boolean;
}

/** How many versions are kept of each environment, besides those that are in use. */
const keptVersions = 20;
/** How many pages this process keeps in memory. In most fleets all accounts have one page. */
const cachedPages = 3;

/** The versions of WhatsApp Web: what instances report about them, and the pages that they keep. */
@Injectable()
export class WebVersionsService {
  private readonly pages = new LRUCache<string, string>({ max: cachedPages });

  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /** All known versions, the newest first. */
  async list(): Promise<WebVersionResponse[]> {
    const rows = await this.database.query<
      (Omit<WebVersionResponse, 'firstSeenAt' | 'lastSeenAt'> & { firstSeenAt: Date; lastSeenAt: Date })[]
    >(
      `select v.environment, v.version, v.status, v.reason, v.contract, v.page is not null as "isKept",
         v.sends::float8 as sends, v.failures::float8 as failures, v.sends_in_a_row as "sendsInARow",
         v.self_sent_at is not null as "isSelfTested", coalesce(now_on.accounts, 0) as accounts,
         coalesce(now_on.broken, 0) as "brokenAccounts", v.first_seen_at as "firstSeenAt", v.last_seen_at as "lastSeenAt"
       from web_versions v
       left join (
         select environment, web_version, count(*)::int as accounts,
           count(*) filter (where web_contract = 'broken')::int as broken
         from accounts where desired_state = 'connected' and web_version is not null group by 1, 2
       ) now_on on now_on.environment = v.environment and now_on.web_version = v.version
       order by v.first_seen_at desc, v.environment, v.version desc`,
    );
    return rows.map((row) => ({
      ...row,
      firstSeenAt: row.firstSeenAt.toISOString(),
      lastSeenAt: row.lastSeenAt.toISOString(),
    }));
  }

  /** Keeps the index of a version as WhatsApp served it, of a page that works. The first one stays. */
  async keep(environment: Environment, version: string, html: string): Promise<void> {
    const kept = await this.database.query<object[]>(
      'select from web_versions where environment = $1 and version = $2 and page is not null',
      [environment, version],
    );
    if (kept.length > 0) return;
    await this.database.query(
      `insert into web_versions (environment, version, page) values ($1, $2, $3)
       on conflict (environment, version) do update set page = coalesce(web_versions.page, excluded.page)`,
      [environment, version, html],
    );
    await this.prune(environment);
  }

  /** Adds sends of several messages. */
  async count(environment: Environment, version: string, sends: number, failures: number): Promise<void> {
    await this.database.query(
      `update web_versions set sends = sends + $3, failures = failures + $4, last_seen_at = now(),
         sends_in_a_row = case when $4 > 0 then 0 else least(sends_in_a_row + $3, 1000000) end
       where environment = $1 and version = $2`,
      [environment, version, sends, failures],
    );
  }

  /** Notes the id of a message of a canary to itself before it is sent. No message of the ledger has it. */
  async useId(accountId: string, whatsappId: string): Promise<void> {
    await this.database.query(
      'insert into used_whatsapp_ids (account_id, whatsapp_id) values ($1, $2) on conflict do nothing',
      [accountId, whatsappId],
    );
  }

  /** Records that WhatsApp has acknowledged a message of a canary to itself. */
  async selfSent(environment: Environment, version: string): Promise<void> {
    await this.database.query(
      'update web_versions set self_sent_at = now() where environment = $1 and version = $2',
      [environment, version],
    );
  }

  /** What the policy wants of these accounts. */
  async wanted(accountIds: string[]): Promise<WantedPage[]> {
    return this.database.query(
      `with policy as (select * from web_version_policy), canaries as (${canaries})
       select a.id, a.environment,
         case policy.mode
           when 'pinned' then (select v.version from web_versions v
             where v.environment = a.environment and v.version = policy.version and v.page is not null)
           when 'canary' then case when not exists (select from canaries c where c.id = a.id)
             then ${versionForAll('a.environment')} end
         end as version,
         coalesce(policy.mode = 'canary' and exists (select from canaries c where c.id = a.id) and a.web_contract = 'ok'
           and (select v.status = 'new' and v.self_sent_at is null from web_versions v
             where v.environment = a.environment and v.version = a.web_version), false) as "needsSelfTest"
       from accounts a, policy where a.id = any($1)`,
      [accountIds],
    );
  }

  /** The page that an account must get now. Null: the page that WhatsApp serves. */
  async pageFor(accountId: string): Promise<KeptPage | null> {
    const [wanted] = await this.wanted([accountId]);
    return wanted?.version ? this.page(wanted.environment, wanted.version) : null;
  }

  /** @throws if the page is not kept */
  async page(environment: Environment, version: string): Promise<KeptPage> {
    const key = `${environment}/${version}`;
    let html = this.pages.get(key);
    if (html === undefined) {
      const [row] = await this.database.query<{ page: string | null }[]>(
        'select page from web_versions where environment = $1 and version = $2',
        [environment, version],
      );
      if (!row?.page) throw new Error(`The page of version ${version} is not kept.`);
      html = row.page;
      this.pages.set(key, html);
    }
    return { version, html };
  }

  /** Deletes the versions that nobody uses, except the latest. */
  private async prune(environment: Environment): Promise<void> {
    await this.database.query(
      `delete from web_versions v where environment = $1
         and version not in (select version from web_versions where environment = $1
           order by last_seen_at desc limit $2)
         and not exists (select from web_version_policy p where p.version = v.version)
         and version is distinct from ${versionForAll('$1')}
         and not exists (select from accounts a where a.environment = v.environment and a.web_version = v.version
           and a.desired_state = 'connected')`,
      [environment, keptVersions],
    );
  }
}
