import { IsOptional } from 'class-validator';
import { ScopedQuery } from '../platform/http/pagination.js';
import { AreEventPatterns, type EventType } from './event-types.js';

export class StreamEventsQuery extends ScopedQuery {
  /**
   * Only these types, separated by commas; `message.*` means every type that begins with `message.`.
   * @example message.*,account.status
   */
  @IsOptional()
  @AreEventPatterns()
  types?: string;
}

/** One event. */
export class EventResponse {
  /** The place of the event in the log, for `Last-Event-ID`. @example 7421-88 */
  id!: string;
  /** @example message.delivered */
  type!: EventType;
  createdAt!: string;
  workspaceId!: string | null;
  accountId!: string | null;
  /** The object at the time of the event: a message, an account, … */
  data!: Record<string, unknown>;
}
