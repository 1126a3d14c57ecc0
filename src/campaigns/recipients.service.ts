import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import { DataSource } from 'typeorm';
import type { CampaignDetails } from './campaign.entity.js';
import { ConcurrencyLimit } from '../platform/limits/concurrency-limit.js';
import { SharedCounts } from '../platform/limits/shared-counts.js';
import { CampaignStatusConflict, RecipientNotFound, TooManyLoads } from './campaign-errors.js';
import { CampaignTemplate } from './campaign-template.js';
import { type CampaignStatus, isEnded } from './campaign-statuses.js';
import type { ListRecipientsQuery, LoadResponse, PreviewItem, RecipientResponse } from './campaigns.dto.js';
import type { InvalidLine } from './lists/list-rows.js';
import { type PreparedLines, readInThread } from './lists/list-thread.js';
import type { ListOptions } from './lists/read-list.js';
import { variantOf } from './variants.js';

/** How many lists of one workspace are read at the same time. */
const loadsAtOnce = 2;
/** How many invalid lines an answer lists. */
const maxListed = 100;
/** How many recipients a preview shows. */
const previewed = 5;
/** How many rows a report reads at once. */
const reportRows = 1_000;

/** A recipient with its message, if an account has it. */
export interface RecipientRow {
  id: string;
  recipient: string;
  variables: Record<string, string>;
  variant: string | null;
  account_id: string | null;
  status: RecipientResponse['status'];
  error_code: string | null;
  error_message: string | null;
  sent_at: Date | null;
  delivered_at: Date | null;
  read_at: Date | null;
  replied_at: Date | null;
  failed_at: Date | null;
}

/** SQL: the columns of a recipient `r` of the campaign `c`, with its message `m`. */
const columns = `r.id, r.recipient, r.variables, r.variant, m.account_id,
  coalesce(case when m.status = 'scheduled' then 'queued' else m.status end,
    case when c.status = 'cancelled' then 'cancelled' else 'queued' end) as status,
  m.error_code, m.error_message, m.sent_at, m.delivered_at, m.read_at, r.replied_at, m.failed_at`;

/** The recipients of campaigns: loads lists, and reads what became of each recipient. */
@Injectable()
export class RecipientsService {
  private readonly loads: ConcurrencyLimit;

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    counts: SharedCounts,
  ) {
    this.loads = new ConcurrencyLimit(counts, 'lists', loadsAtOnce, (limit) => new TooManyLoads(limit));
  }

  /**
   * Adds the recipients of a list. A person that the campaign has already is a duplicate, also in another form of the number. What was
   * added before an error stays, and the same list again adds the rest.
   * @throws CampaignStatusConflict, TooManyLoads, and the errors of `readList`
   */
  async load(
    campaign: CampaignDetails,
    source: Readable,
    options: Pick<ListOptions, 'format' | 'columns' | 'sheet'>,
  ): Promise<LoadResponse> {
    if (isEnded(campaign.status)) throw new CampaignStatusConflict('loaded', campaign.status);
    const leave = this.loads.enter(campaign.workspaceId);
    try {
      return await this.read(campaign, source, options);
    } finally {
      leave();
    }
  }

  private async read(
    campaign: CampaignDetails,
    source: Readable,
    options: Pick<ListOptions, 'format' | 'columns' | 'sheet'>,
  ): Promise<LoadResponse> {
    const { id, workspaceId, country } = campaign;
    const required = [...new Set(CampaignTemplate.allOf(campaign).flatMap((template) => template.required))];
    const total: LoadResponse = { accepted: 0, duplicates: 0, invalid: [], invalidCount: 0 };
    const knowsPersons = await this.hasSent(workspaceId);
    let header: readonly string[] = [];
    /** The part before is written while the next one is read. */
    let writing: Promise<void> = Promise.resolve();
    const write = async (lines: PreparedLines) => {
      const { accepted, status } = await this.insert(campaign, lines, knowsPersons);
      if (isEnded(status)) throw new CampaignStatusConflict('loaded', status);
      await this.insertInvalid(campaign, lines.invalid);
      total.accepted += accepted;
      total.duplicates += lines.ids.length - accepted;
      addInvalid(total, lines.invalid);
    };
    try {
      for await (const lines of readInThread(source, { ...options, country, required })) {
        header = lines.header;
        await writing;
        writing = write(lines);
        writing.catch(() => undefined);
      }
    } finally {
      await writing;
      await this.database.query(
        `update campaigns set duplicate_count = duplicate_count + $2, columns = case when columns = '[]' then $3 else columns end
         where id = $1`,
        [id, total.duplicates, JSON.stringify(header)],
      );
    }
    return total;
  }

  /** Recipients, in the order of the lists: one more than `limit` if there are more. */
  async list(
    { id }: CampaignDetails,
    { status, limit, cursor }: ListRecipientsQuery,
  ): Promise<RecipientRow[]> {
    return this.database.query(
      `select ${columns} from campaigns c join campaign_recipients r on r.campaign_id = c.id
         left join messages m on m.id = r.id and r.is_dealt
       where c.id = $1 and r.id > $2 and ($3::text is null
         or coalesce(case when m.status = 'scheduled' then 'queued' else m.status end,
           case when c.status = 'cancelled' then 'cancelled' else 'queued' end) = $3)
       order by r.id limit $4`,
      [id, cursor ?? '00000000-0000-0000-0000-000000000000', status ?? null, limit + 1],
    );
  }

  /** @throws RecipientNotFound */
  async get({ id }: CampaignDetails, recipientId: string): Promise<RecipientRow> {
    const [row] = await this.database.query<RecipientRow[]>(
      `select ${columns} from campaigns c join campaign_recipients r on r.campaign_id = c.id
         left join messages m on m.id = r.id and r.is_dealt
       where c.id = $1 and r.id = $2`,
      [id, recipientId],
    );
    if (!row) throw new RecipientNotFound(recipientId);
    return row;
  }

  /** All recipients with what became of them, in parts. */
  async *report(campaign: CampaignDetails): AsyncGenerator<RecipientRow[]> {
    let cursor: string | undefined;
    do {
      const rows = await this.list(campaign, { limit: reportRows, ...(cursor ? { cursor } : {}) });
      const page = rows.slice(0, reportRows);
      yield page;
      cursor = rows.length > reportRows ? page.at(-1)!.id : undefined;
    } while (cursor !== undefined);
  }

  /** The invalid lines of the lists, in their order. */
  async *invalidLines({
    id,
  }: CampaignDetails): AsyncGenerator<Pick<InvalidLine, 'column' | 'reason' | 'values'>> {
    let line = -1;
    let fingerprint = '';
    for (;;) {
      const rows = await this.database.query<
        { line: string; fingerprint: string; column: string; reason: string; fields: string[] }[]
      >(
        `select line, fingerprint, "column", reason, fields from campaign_invalid_lines
         where campaign_id = $1 and (line, fingerprint) > ($2, $3) order by line, fingerprint limit ${reportRows}`,
        [id, line, fingerprint],
      );
      for (const { column, reason, fields } of rows)
        yield { column: column === '' ? null : column, reason, values: fields };
      const last = rows.at(-1);
      if (!last || rows.length < reportRows) return;
      line = Number(last.line);
      fingerprint = last.fingerprint;
    }
  }

  /** The messages of the first recipients. */
  async preview(campaign: CampaignDetails): Promise<PreviewItem[]> {
    const templates = CampaignTemplate.allOf(campaign);
    const rows = await this.list(campaign, { limit: previewed - 1 });
    return rows.map((row) => {
      const template = templates[variantOf(campaign, row.id)]!;
      const { content, problem } = template.render(row);
      return { to: row.recipient, type: template.message.type, text: content?.text ?? null, problem };
    });
  }

  /** Whether the workspace has sent anything: otherwise no account has written to anybody. */
  private async hasSent(workspaceId: string): Promise<boolean> {
    const found = await this.database.query<unknown[]>(
      `select from messages where workspace_id = $1 and direction = 'outgoing' limit 1`,
      [workspaceId],
    );
    return found.length > 0;
  }

  /** @returns how many are new, and the status of the campaign: nothing is added to a campaign that has ended */
  private async insert(
    { id, workspaceId, accountIds }: CampaignDetails,
    lines: PreparedLines,
    knowsPersons: boolean,
  ): Promise<{ accepted: number; status: CampaignStatus }> {
    const writer = knowsPersons
      ? `(select m.account_id from messages m where m.workspace_id = $2 and m.recipient = given.recipient and m.direction = 'outgoing'
           and m.sent_at is not null and m.account_id = any($7::uuid[]) order by m.id desc limit 1)`
      : 'null::uuid';
    const [row] = await this.database.query<{ accepted: number; status: CampaignStatus }[]>(
      `with campaign as (select id, status from campaigns where id = $1 for share),
       made as (
         insert into campaign_recipients (campaign_id, id, workspace_id, person, recipient, variables, zone, account_id)
         select campaign.id, given.id, $2, given.person, given.recipient, given.variables, given.zone, ${writer}
         from campaign, unnest($3::uuid[], $4::text[], $5::text[], $6::jsonb[], $8::text[]) as given (id, person, recipient, variables, zone)
         where campaign.status not in ('completed', 'cancelled') ${knowsPersons ? '' : 'and $7::uuid[] is not null'}
         on conflict (campaign_id, person) do nothing returning zone),
       zoned as (insert into campaign_zones (campaign_id, workspace_id, zone) select distinct $1::uuid, $2::uuid, zone from made
         on conflict do nothing),
       noted as (
         insert into campaign_changes (campaign_id, workspace_id, new_status, recipients)
         select $1, $2, 'waiting', count(*) from made having count(*) > 0)
       select (select count(*) from made)::int as accepted, status from campaign`,
      [id, workspaceId, lines.ids, lines.persons, lines.recipients, lines.variables, accountIds, lines.zones],
    );
    return row!;
  }

  private async insertInvalid({ id, workspaceId }: CampaignDetails, lines: InvalidLine[]): Promise<void> {
    if (lines.length === 0) return;
    await this.database.query(
      `with made as (
         insert into campaign_invalid_lines (campaign_id, workspace_id, line, fingerprint, "column", reason, value, fields)
         select $1, $2, given.* from unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[]) as given
         on conflict do nothing returning 1)
       update campaigns set invalid_count = invalid_count + (select count(*) from made) where id = $1`,
      [
        id,
        workspaceId,
        lines.map(({ line }) => line),
        lines.map(({ values }) =>
          createHash('sha256').update(JSON.stringify(values)).digest('base64url').slice(0, 22),
        ),
        lines.map(({ column }) => column ?? ''),
        lines.map(({ reason }) => reason),
        lines.map(({ value }) => value),
        lines.map(({ values }) => JSON.stringify(values)),
      ],
    );
  }
}

/** Counts invalid lines in an answer, and lists the first ones. */
export function addInvalid(total: LoadResponse, invalid: InvalidLine[]): void {
  total.invalidCount += invalid.length;
  for (const { line, column, value, reason } of invalid.slice(0, maxListed - total.invalid.length))
    total.invalid.push({ line, column: column ?? '', to: value, message: reason });
}
