import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import type { WebVersionPolicyDto, WebVersionPolicyResponse } from './web-versions.dto.js';

export class WebVersionNotKept extends Problem {
  constructor(version: string) {
    super(
      409,
      'web_version.not_kept',
      `Flotilla has not kept the page of version ${version}. GET /admin/web-versions lists the versions; choose a version with isKept.`,
    );
  }
}

/** SQL: the accounts that get a new version first. The operator marks them; else it is the oldest linked account. */
export const canaries = `
  select a.id, a.environment from accounts a, web_version_policy p where a.id = any(p.canary_ids)
  union all
  select oldest.id, e.environment from (values ('live'), ('sandbox')) e (environment), lateral (
    select a.id from accounts a where a.environment = e.environment and a.desired_state = 'connected'
      and a.linked_at is not null order by a.id limit 1) oldest
  where not exists (select from accounts a, web_version_policy p
    where a.id = any(p.canary_ids) and a.environment = e.environment)`;

/** SQL: while the policy is canary, the version that accounts get unless they are canaries. @param environment SQL */
export const versionForAll = (environment: string) => `(
  select v.version from web_versions v where v.environment = ${environment} and v.promoted_at is not null
    and v.page is not null order by v.promoted_at desc limit 1)`;

/** Which version of WhatsApp Web accounts get. The policy is the same for all programs. */
@Injectable()
export class WebVersionPolicyService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  async get(): Promise<WebVersionPolicyResponse> {
    return read(this.database.manager);
  }

  /**
   * Replaces the policy, and writes the old and the new policy to the log.
   * @throws WebVersionNotKept, ValidationFailed for an unknown account
   */
  async set({
    mode,
    version,
    canaries: marked = [],
    sends = 20,
  }: WebVersionPolicyDto): Promise<WebVersionPolicyResponse> {
    return this.database.transaction(async (manager) => {
      await manager.query('select from web_version_policy for update');
      await assertAccounts(manager, marked);
      if (version !== undefined) await assertKept(manager, version);
      const before = await read(manager);
      if (mode === 'canary') await promoteFirst(manager, before.mode, version);
      await manager.query(
        'update web_version_policy set mode = $1, version = $2, canary_ids = $3, sends = $4, updated_at = now()',
        [mode, mode === 'pinned' ? version : null, marked, sends],
      );
      const after = await read(manager);
      await manager.query(
        `insert into server_logs (log_type, message, details) values ('info', 'Policy of WhatsApp Web versions changed', $1)`,
        [JSON.stringify({ old: before, new: after })],
      );
      return after;
    });
  }

  /**
   * Decides about the versions on trial, while the policy is canary. A version is `good`, and the version for all, once no
   * account finds its page broken, a canary has sent a message to itself, and enough sends in a row were acknowledged. A version
   * whose page is broken is `refused`. If its page works later (Flotilla was updated), its trial begins again.
   */
  async judge(): Promise<void> {
    await this.database.query(
      `with seen as (
         select environment, web_version as version, bool_or(web_contract = 'broken') as is_broken,
           min(web_missing::text) filter (where web_contract = 'broken') as missing
         from accounts where desired_state = 'connected' and web_contract is not null group by 1, 2
       ), decided as (
         select v.environment, v.version, seen.missing,
           case when v.status = 'new' and seen.is_broken then 'refused'
             when v.status = 'refused' and not seen.is_broken then 'new'
             when v.status = 'new' and not seen.is_broken and v.page is not null and v.self_sent_at is not null
               and v.sends_in_a_row >= p.sends then 'good' end as status
         from web_versions v join seen using (environment, version), web_version_policy p
         where p.mode = 'canary' and v.status <> 'good'
       )
       update web_versions v set status = d.status,
         reason = case d.status when 'refused' then left('its page lacks ' || d.missing, 1000) end,
         -- It may have been kept before sends showed that it is broken.
         page = case when d.status <> 'refused' then v.page end,
         promoted_at = case when d.status = 'good' then clock_timestamp() else v.promoted_at end,
         -- A broken page sends nothing, so that all later sends are of a page that works.
         self_sent_at = case when d.status <> 'refused' then v.self_sent_at end,
         sends_in_a_row = case when d.status <> 'refused' then v.sends_in_a_row else 0 end
       from decided d where d.environment = v.environment and d.version = v.version and d.status is not null`,
    );
  }
}

/** The version that accounts get from the beginning: the given version, or the version that most accounts have and that works. */
async function promoteFirst(
  manager: EntityManager,
  before: string,
  version: string | undefined,
): Promise<void> {
  if (version === undefined && before === 'canary') return;
  await manager.query(
    `update web_versions v set status = 'good', reason = null, promoted_at = clock_timestamp()
     where page is not null and case when $1::text is not null then version = $1 else version = (
       select a.web_version from accounts a join web_versions w on w.environment = a.environment
         and w.version = a.web_version and w.page is not null
       where a.environment = v.environment and a.desired_state = 'connected' and a.web_contract = 'ok'
       group by a.web_version order by count(*) desc, max(a.web_checked_at) desc limit 1) end`,
    [version ?? null],
  );
}

async function assertKept(manager: EntityManager, version: string): Promise<void> {
  const kept = await manager.query<object[]>(
    'select from web_versions where version = $1 and page is not null',
    [version],
  );
  if (kept.length === 0) throw new WebVersionNotKept(version);
}

async function assertAccounts(manager: EntityManager, ids: string[]): Promise<void> {
  const missing = await manager.query<{ id: string }[]>(
    'select id from unnest($1::uuid[]) id where not exists (select from accounts a where a.id = id.id)',
    [ids],
  );
  if (missing.length > 0)
    throw new ValidationFailed(
      missing.map(({ id }) => ({ path: 'canaries', message: `there is no account ${id}` })),
    );
}

async function read(manager: EntityManager): Promise<WebVersionPolicyResponse> {
  const [policy] = await manager.query<(Omit<WebVersionPolicyResponse, 'updatedAt'> & { updatedAt: Date })[]>(
    `select p.mode, p.version, p.sends, p.updated_at as "updatedAt",
       array(select id from accounts where id = any(p.canary_ids) order by id) as canaries,
       case when p.mode = 'canary' then array(select id from (${canaries}) c order by id) else '{}' end as "canariesNow",
       (select jsonb_object_agg(e.environment, case p.mode
           when 'pinned' then (select v.version from web_versions v
             where v.environment = e.environment and v.version = p.version and v.page is not null)
           when 'canary' then ${versionForAll('e.environment')} end)
         from (values ('live'), ('sandbox')) e (environment)) as "versionForAll"
     from web_version_policy p`,
  );
  return { ...policy!, updatedAt: policy!.updatedAt.toISOString() };
}
