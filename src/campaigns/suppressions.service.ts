import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { PassThrough, type Readable } from 'node:stream';
import { DataSource, type EntityManager } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { parseRecipient } from '../messages/recipient.js';
import { RecipientIds } from '../messages/recipient-ids.service.js';
import { Problem } from '../platform/errors/problem.js';
import { sharedForm } from '../platform/http/phone-number.js';
import { Turns } from '../platform/turns.js';
import type { LoadResponse } from './campaigns.dto.js';
import { type ListOptions, readList } from './lists/read-list.js';
import { addInvalid } from './recipients.service.js';
import { csvLine, harmless } from './lists/csv-text.js';
import type { AddSuppressionDto, ListSuppressionsQuery, SuppressionSource } from './suppressions.dto.js';

/** How many rows an export reads at once. */
const exportRows = 1_000;
/** Of a reason, in UTF-16 code units. */
export const maxReasonLength = 200;

export class SuppressionNotFound extends Problem {
  constructor(id: string) {
    super(
      404,
      'suppression.not_found',
      `This workspace has no suppression ${id}. GET /suppressions lists its suppressions.`,
    );
  }
}

export interface SuppressionRow {
  id: string;
  address: string;
  source: SuppressionSource;
  reason: string | null;
  message_id: string | null;
  account_id: string | null;
  created_at: Date;
}

/** A person, in the forms by which campaigns may name it. */
export interface PersonForms {
  /** The key of the person: that of the phone number if it is known. */
  person: string;
  /** The hidden number, if it is known beside the phone number. */
  lid: string | null;
  /** All forms. */
  keys: string[];
}

/** An answer that asks for no more campaigns, or for campaigns again. */
export interface Answer {
  messageId: string;
  accountId: string;
  address: string;
  text: string;
}

const columns = 'id, address, source, reason, message_id, account_id, created_at';

/**
 * The persons of a workspace who get no campaigns. Triggers of the table cancel what waits for a person who is added, and whatever is
 * queued for such a person later.
 */
@Injectable()
export class SuppressionsService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly ids: RecipientIds,
  ) {}

  /** Suppressions, newest first: one more than `limit` if there are more. */
  async list(
    workspaceId: string,
    { to, limit, cursor }: Pick<ListSuppressionsQuery, 'to' | 'limit' | 'cursor'>,
  ): Promise<SuppressionRow[]> {
    const keys =
      to === undefined ? null : (await this.formsOf(workspaceId, [parseRecipient(to)!.address])).keys;
    return this.database.query(
      `select ${columns} from suppressions
       where workspace_id = $1 and ($2::text[] is null or person = any($2) or lid = any($2)) and ($3::uuid is null or id < $3)
       order by id desc limit $4`,
      [workspaceId, keys, cursor ?? null, limit + 1],
    );
  }

  /** Adds a person. Whoever is suppressed already stays as before. */
  async add(workspaceId: string, { to, reason }: AddSuppressionDto): Promise<SuppressionRow> {
    const { address } = parseRecipient(to)!;
    const forms = await this.formsOf(workspaceId, [address]);
    return this.database.transaction(async (manager) => {
      await this.insert(manager, workspaceId, forms, { address, source: 'manual', reason: reason ?? null });
      const [row] = await manager.query<SuppressionRow[]>(
        `select ${columns} from suppressions where workspace_id = $1 and person = $2`,
        [workspaceId, forms.person],
      );
      return row!;
    });
  }

  /** @throws SuppressionNotFound, also for a suppression of another workspace */
  async remove(workspaceId: string, id: string): Promise<void> {
    const [, removed] = await this.database.query<[unknown[], number]>(
      'delete from suppressions where workspace_id = $1 and id = $2',
      [workspaceId, id],
    );
    if (removed === 0) throw new SuppressionNotFound(id);
  }

  /** A person has opted out. */
  async optOut(
    manager: EntityManager,
    workspaceId: string,
    forms: PersonForms,
    answer: Answer,
  ): Promise<void> {
    await this.insert(manager, workspaceId, forms, {
      address: answer.address,
      source: 'reply',
      reason: answer.text,
      messageId: answer.messageId,
      accountId: answer.accountId,
    });
  }

  /** A person wants campaigns again: that undoes what the person has said, and not what others have. */
  async optIn(manager: EntityManager, workspaceId: string, { keys }: PersonForms): Promise<void> {
    await manager.query(
      `delete from suppressions where workspace_id = $1 and source = 'reply' and (person = any($2) or lid = any($2))`,
      [workspaceId, keys],
    );
  }

  /**
   * Adds the persons of a list. What was added before an error stays, and the same list again adds the rest.
   * @throws the errors of `readList`
   */
  async import(
    workspaceId: string,
    source: Readable,
    options: Pick<ListOptions, 'format' | 'columns' | 'sheet'>,
  ): Promise<LoadResponse> {
    const [workspace] = await this.database.query<{ country: string | null }[]>(
      'select default_country as country from workspaces where id = $1',
      [workspaceId],
    );
    const { country } = workspace!;
    const turns = new Turns(workspaceId);
    const total: LoadResponse = { accepted: 0, duplicates: 0, invalid: [], invalidCount: 0 };
    for await (const { rows } of readList(source.pipe(new PassThrough()), {
      ...options,
      country,
      turn: () => turns.next(),
    })) {
      const valid = rows.filter((row) => row.isValid);
      const invalid = rows.filter((row) => !row.isValid);
      const made = await this.database.query<unknown[]>(
        `insert into suppressions (id, workspace_id, person, address, source, reason)
         select given.id, $1, given.person, given.address, 'import', given.reason
         from unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) as given (id, person, address, reason)
         order by given.person on conflict (workspace_id, person) do nothing returning 1`,
        [
          workspaceId,
          valid.map(() => uuidv7()),
          valid.map(({ person }) => person),
          valid.map(({ to }) => to),
          valid.map(({ variables }) => variables.reason?.slice(0, maxReasonLength) ?? null),
        ],
      );
      total.accepted += made.length;
      total.duplicates += valid.length - made.length;
      addInvalid(total, invalid);
    }
    return total;
  }

  /** All suppressions as CSV, which can be imported again: in UTF-8 with a byte order mark, so that Excel opens it. */
  async *export(workspaceId: string): AsyncGenerator<string> {
    yield `\ufeff${csvLine(['to', 'reason', 'source', 'at', 'accountId', 'messageId'])}`;
    let cursor: string | undefined;
    do {
      const rows = await this.list(workspaceId, { limit: exportRows, ...(cursor ? { cursor } : {}) });
      const page = rows.slice(0, exportRows);
      const lines = page.map((row) =>
        csvLine([
          row.address,
          harmless(row.reason ?? ''),
          row.source,
          row.created_at.toISOString(),
          row.account_id ?? '',
          row.message_id ?? '',
        ]),
      );
      if (lines.length > 0) yield lines.join('');
      cursor = rows.length > exportRows ? page.at(-1)!.id : undefined;
    } while (cursor !== undefined);
  }

  /**
   * All forms of a person that the accounts of the workspace know.
   * @param addresses of the person, the best one first
   */
  async formsOf(workspaceId: string, addresses: string[]): Promise<PersonForms> {
    const found = await Promise.all(addresses.map((address) => this.ids.forms(workspaceId, address)));
    const keys = [...new Set([...addresses, ...found.flat()].map(sharedForm))];
    const person = keys.find((key) => !key.includes('@')) ?? keys[0]!;
    return { person, lid: keys.find((key) => key !== person && key.endsWith('@lid')) ?? null, keys };
  }

  private async insert(
    manager: EntityManager,
    workspaceId: string,
    { person, lid }: PersonForms,
    given: {
      address: string;
      source: SuppressionSource;
      reason: string | null;
      messageId?: string;
      accountId?: string;
    },
  ): Promise<void> {
    await manager.query(
      `insert into suppressions as known (id, workspace_id, person, lid, address, source, reason, message_id, account_id)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
       on conflict (workspace_id, person) do update set lid = excluded.lid where known.lid is null and excluded.lid is not null`,
      [
        uuidv7(),
        workspaceId,
        person,
        lid,
        given.address,
        given.source,
        given.reason,
        given.messageId ?? null,
        given.accountId ?? null,
      ],
    );
  }
}
