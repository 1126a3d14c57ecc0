import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { newPacingState, warmUpDay } from '../pacing/pacing.js';
import { pacingColumns, type PacingRow, settingsOf, stateOf } from '../pacing/pacing-rows.js';
import type { CampaignDetails } from './campaign.entity.js';
import type { PreflightResponse, PreflightWarning } from './campaign-rules.dto.js';
import { CampaignTemplate } from './campaign-template.js';
import { estimate } from './estimate.js';
import { receivedRecently } from './left-out.js';
import { campaignPaceOf } from './pace.js';
import { neverAllowedHint } from './sending-windows.js';
import { variableKey } from './template.js';
import { ZonesService } from './zones.service.js';

/** How long the estimate takes one message to last, if no gap is longer. In seconds. */
const sendSeconds = 1;
/** What each step of the count may take in PostgreSQL. */
const workMemory = '64MB';

interface ZoneRow {
  zone: string;
  missing: number;
  suppressed: number;
  recent: number;
  cold: number;
  replies: number;
}

type AccountRow = PacingRow & { name: string; status: string; statusReason: string | null };

/** Says what a campaign will do before it does it. */
@Injectable()
export class PreflightService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly zones: ZonesService,
  ) {}

  /** Looks at the recipients that no account has yet. */
  async preflight(campaign: CampaignDetails): Promise<PreflightResponse> {
    const now = new Date();
    const templates = CampaignTemplate.allOf(campaign);
    const [rows, accounts] = await Promise.all([
      this.countByZone(campaign, templates),
      this.accountsOf(campaign),
    ]);
    const sum = (of: (row: ZoneRow) => number) => rows.reduce((total, row) => total + of(row), 0);
    const start = new Date(Math.max(now.getTime(), campaign.startAt?.getTime() ?? 0));
    const found = estimate({
      recipients: rows.map(({ zone, cold, replies }) => ({ zoneKey: zone, cold, replies })),
      accounts: accounts.map((row) => ({
        id: row.accountId,
        settings: settingsOf(row),
        state: row.isPaced ? stateOf(row) : newPacingState,
        notBefore: row.coldPausedUntil,
      })),
      pace: campaignPaceOf(campaign.pacing),
      plan: this.zones.planOf(campaign),
      start,
      sendSeconds,
    });
    const never = found.neverAllowed.reduce((total, { recipients }) => total + recipients, 0);
    const reached = sum(({ cold, replies }) => cold + replies) - never;
    return {
      reached,
      leftOut: {
        invalid: Number(campaign.invalidCount),
        duplicate: Number(campaign.duplicateCount),
        missingVariable: sum(({ missing }) => missing),
        suppressed: sum(({ suppressed }) => suppressed),
        receivedRecently: sum(({ recent }) => recent),
        neverAllowed: never,
      },
      estimate: {
        start: start.toISOString(),
        end: found.end?.toISOString() ?? null,
        budgetDays: found.budgetDays,
        accounts: found.accounts.map(({ end, ...account }) => ({
          ...account,
          end: end?.toISOString() ?? null,
        })),
      },
      warnings: [
        ...(reached === 0 ? [noRecipients] : []),
        ...(campaign.startAt && campaign.startAt < now && campaign.status === 'draft' ? [startInPast] : []),
        ...found.neverAllowed.map(({ zoneKey }) =>
          warning('campaign.never_allowed', neverAllowedHint(zoneKey)),
        ),
        ...accounts.flatMap(warningsOfAccount),
        ...templates.flatMap((template) => template.warnings.map((text) => ({ ...text, accountId: null }))),
      ],
    };
  }

  private async countByZone(
    { id, accountIds, workspaceId, notWithinDays }: CampaignDetails,
    templates: CampaignTemplate[],
  ): Promise<ZoneRow[]> {
    const required = new Set(templates.flatMap((template) => template.required).map(variableKey));
    required.delete('to');
    const names = [...required];
    const isMissing = names.map(
      (_name, index) => `coalesce(r.variables ->> ($4::text[])[${index + 1}], '') !~ '[^[:space:]]'`,
    );
    return this.database.transaction(async (manager) => {
      // Otherwise its tables of a million recipients would go to the disk.
      await manager.query(`set local work_mem = '${workMemory}'`);
      return manager.query(
        // Sets, not look-ups: there may be a million recipients.
        `with recent as materialized (${receivedRecently('$1', '$2', '$5')}),
       known as materialized (select distinct left(chat_id, -5) as recipient from contacts where account_id = any($3::uuid[]) and chat_id like '%@c.us'),
       found as (select r.zone, ${isMissing.join(' or ') || 'cardinality($4::text[]) > 0'} as is_missing, recent.recipient is not null as is_recent,
           known.recipient is not null as is_known, gone.person is not null as is_suppressed
         from campaign_recipients r left join recent on recent.recipient = r.recipient
           left join known on known.recipient = r.recipient
           left join (select person from suppressions where workspace_id = $2
             union select lid from suppressions where workspace_id = $2 and lid is not null) gone on gone.person = r.person
         where r.campaign_id = $1 and not r.is_dealt)
       select zone, count(*) filter (where is_missing)::int as missing, count(*) filter (where is_suppressed and not is_missing)::int as suppressed,
         count(*) filter (where is_recent and not is_missing and not is_suppressed)::int as recent,
         count(*) filter (where not is_known and not is_missing and not is_recent and not is_suppressed)::int as cold,
         count(*) filter (where is_known and not is_missing and not is_recent and not is_suppressed)::int as replies
       from found group by zone`,
        [id, workspaceId, accountIds, names, notWithinDays],
      );
    });
  }

  private async accountsOf({ accountIds }: CampaignDetails): Promise<AccountRow[]> {
    return this.database.query(
      `select ${pacingColumns}, a.name, a.status, a.status_reason as "statusReason"
       from accounts a join workspaces w on w.id = a.workspace_id left join account_pacing p on p.account_id = a.id
       where a.id = any($1) order by a.id`,
      [accountIds],
    );
  }
}

const noRecipients = warning(
  'campaign.no_recipients',
  'Nobody will get a message. Upload a list with POST /campaigns/:id/recipients, or look at leftOut for the reason.',
);
const startInPast = warning(
  'campaign.start_in_past',
  'startAt is over. The campaign starts at once when you start it. To start it later, change startAt with PATCH /campaigns/:id.',
);

function warningsOfAccount(row: AccountRow): PreflightWarning[] {
  const { accountId, name, status, statusReason } = row;
  const warnings: PreflightWarning[] = [];
  if (status !== 'ready')
    warnings.push(
      warning(
        'account.not_ready',
        `The account ${name} is ${status}${statusReason ? ` (${statusReason})` : ''}. It sends nothing until it is ready; the other accounts take its part. The estimate counts it. Connect it with POST /accounts/${accountId}/connect.`,
        accountId,
      ),
    );
  const settings = settingsOf(row);
  if (!row.isPaced) return warnings;
  const day = warmUpDay(stateOf(row), settings, row.now.getTime());
  if (day !== null)
    warnings.push(
      warning(
        'account.warm_up',
        `The account ${name} is on day ${day} of ${settings.warmUp.days} of its warm-up, so its daily budget is small. New numbers that write to many strangers are banned most often. Use an older account, or a small list.`,
        accountId,
      ),
    );
  if (row.coldPausedUntil)
    warnings.push(
      warning(
        'account.cold_paused',
        `WhatsApp refused messages of the account ${name}, so it writes to no new contacts until ${row.coldPausedUntil.toISOString()}. Use another account.`,
        accountId,
      ),
    );
  return warnings;
}

function warning(code: string, message: string, accountId: string | null = null): PreflightWarning {
  return { code, message, path: null, accountId };
}
