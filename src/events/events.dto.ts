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

/** One public change. */
export class EventResponse {
  /** Where it stands in the log: what `Last-Event-ID` takes. @example 7421-88 */
  id!: string;
  /** @example message.delivered */
  type!: EventType;
  createdAt!: string;
  workspaceId!: string | null;
  accountId!: string | null;
  /** The thing as it was when it happened: a message, an account, … */
  data!: Record<string, unknown>;
}
