import { IsOptional, Matches } from 'class-validator';
import { ScopedQuery } from '../platform/http/pagination.js';

export class StreamEventsQuery extends ScopedQuery {
  /**
   * Only these types, separated by commas; `message.*` means every type that begins with `message.`.
   * @example message.*,account.status
   */
  @IsOptional()
  @Matches(/^[a-z_.*]+(,[a-z_.*]+)*$/, {
    message: 'must be event types separated by commas, such as message.*,account.status',
  })
  types?: string;
}

/** One public change. */
export class EventResponse {
  /** Where it stands in the log: what `Last-Event-ID` takes. */
  id!: string;
  /** @example message.delivered */
  type!: string;
  createdAt!: string;
  workspaceId!: string | null;
  accountId!: string | null;
  /** The thing as it was when it happened: a message, an account, … */
  data!: Record<string, unknown>;
}
