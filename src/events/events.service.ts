import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { Problem } from '../platform/errors/problem.js';
import { pause } from '../platform/pause.js';
import { WorkspacesService } from '../workspaces/workspaces.service.js';

/** An event, with its object at the time of the event. */
export interface PublicEvent {
  /** The place of the event in the log, for `Last-Event-ID`. */
  cursor: string;
  type: string;
  workspaceId: string | null;
  accountId: string | null;
  createdAt: string;
  /** JSON, which is passed on as it is: parsing and writing it again would cost most of the time and memory of a stream. */
  data: string;
}

/** How often to look whether the transactions that hold back events have ended, in milliseconds. */
const readableEveryMs = 50;

/** How long the log keeps events. A change that is recorded again after that makes a second event. */
export const keptDays = 30;

interface EventRow {
  transaction_id: string;
  id: string;
  type: string;
  workspace_id: string | null;
  account_id: string | null;
  created_at: Date;
  data: string;
  has_more: boolean;
}

export interface EventBatch {
  events: PublicEvent[];
  /** Whether the batch ended at a limit: there may be more events after it. */
  hasMore: boolean;
}

export class InvalidEventCursor extends Problem {
  /** @param newest the place after all events, if the cursor lies behind it */
  constructor(cursor: string, newest?: string) {
    super(
      400,
      'events.invalid_cursor',
      newest === undefined
        ? `${cursor} is not the id of an event. Send the id of an event as it came: two numbers, such as 7421-88.`
        : `${cursor} is later than every event of this log: it comes from another installation, or from before a restored backup. The newest id is ${newest}: use it to go on from now, or 0-0 to read the log from its beginning.`,
    );
  }
}

/**
 * The log of events. Its order is by transaction, then by row. Transactions do not commit in the order of their row ids, so
 * a reader stops before the oldest transaction that still runs: no event can appear later before a place that the reader has
 * passed. (The pattern of PostgreSQL's `pg_snapshot_xmin`.)
 */
@Injectable()
export class EventsService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    workspaces: WorkspacesService,
  ) {
    workspaces.onDeleted((manager, workspaceId) =>
      manager.query('delete from events where workspace_id = $1', [workspaceId]),
    );
  }

  /** The place after all events that can be read now. */
  async end(): Promise<string> {
    const [row] = await this.database.query<{ transaction_id: string }[]>(
      `select (pg_snapshot_xmin(pg_current_snapshot())::text::numeric - 1)::text as transaction_id`,
    );
    // No row of an earlier transaction has an id this large, and later transactions compare higher.
    return `${row!.transaction_id}-${maxRowId}`;
  }

  /**
   * Waits until every event that has been written so far can be read: a transaction that runs holds back all later events.
   * @param mostMs gives up after this time, in milliseconds: no reader waits longer for a transaction that does not end
   */
  async untilReadable(mostMs: number): Promise<void> {
    const giveUpAt = performance.now() + mostMs;
    const [now] = await this.database.query<{ next: string }[]>(
      'select pg_snapshot_xmax(pg_current_snapshot())::text as next',
    );
    for (;;) {
      const [oldest] = await this.database.query<{ has_passed: boolean }[]>(
        'select pg_snapshot_xmin(pg_current_snapshot()) >= $1::text::xid8 as has_passed',
        [now!.next],
      );
      if (oldest!.has_passed || performance.now() > giveUpAt) return;
      await pause(readableEveryMs);
    }
  }

  /** @throws InvalidEventCursor if no event can have had this id yet: a reader from there would miss all events until then */
  async assertReached(cursor: string): Promise<void> {
    const end = await this.end();
    if (compareCursors(cursor, end) > 0) throw new InvalidEventCursor(cursor, end);
  }

  /**
   * The events after `cursor`, oldest first, at most {@link maxRows}.
   * @param maxBytes the batch ends with the event that reaches this size
   * @throws InvalidEventCursor
   */
  async readAfter(cursor: string, maxBytes: number, workspaceId?: string): Promise<EventBatch> {
    const [transactionId, id] = parseCursor(cursor);
    const rows: EventRow[] = await this.database.query(
      `select transaction_id::text, id, type, workspace_id, account_id, created_at, data::text, has_more
       from read_events($1::text::xid8, $2::bigint, $3::uuid, ${maxRows}, $4)`,
      [transactionId, id, workspaceId ?? null, maxBytes],
    );
    return { events: rows.map(toEvent), hasMore: rows.at(-1)?.has_more ?? false };
  }

  /** Deletes events after {@link keptDays}, in short transactions: readers of the log stop at the oldest running transaction. */
  async prune(): Promise<void> {
    let deleted: number;
    do {
      [, deleted] = await this.database.query(
        `with oldest as (select id from events order by id limit ${pruneBatchSize})
         delete from events using oldest where events.id = oldest.id and events.created_at < now() - interval '${keptDays} days'`,
      );
    } while (deleted === pruneBatchSize);
  }
}

const maxRows = 500;
const pruneBatchSize = 10_000;
const maxRowId = '9223372036854775807';

/** The two numbers of a cursor. @throws InvalidEventCursor */
export function parseCursor(cursor: string): [transactionId: string, id: string] {
  const match = /^(\d{1,19})-(\d{1,19})$/.exec(cursor);
  if (!match || match.slice(1).some((part) => BigInt(part) > BigInt(maxRowId)))
    throw new InvalidEventCursor(cursor);
  return [match[1]!, match[2]!];
}

/** Orders two cursors as the log does: negative when `a` comes first. */
export function compareCursors(a: string, b: string): number {
  const [transactionA, idA] = parseCursor(a).map(BigInt) as [bigint, bigint];
  const [transactionB, idB] = parseCursor(b).map(BigInt) as [bigint, bigint];
  const difference = transactionA === transactionB ? idA - idB : transactionA - transactionB;
  return difference < 0n ? -1 : difference > 0n ? 1 : 0;
}

function toEvent(row: EventRow): PublicEvent {
  return {
    cursor: `${row.transaction_id}-${row.id}`,
    type: row.type,
    workspaceId: row.workspace_id,
    accountId: row.account_id,
    createdAt: row.created_at.toISOString(),
    data: row.data,
  };
}
