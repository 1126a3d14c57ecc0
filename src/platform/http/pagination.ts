import { ApiHideProperty } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsOptional, IsUUID, Matches, Max, Min } from 'class-validator';

/** What every request may carry: an admin key names the workspace that it acts in. */
export class ScopedQuery {
  @ApiHideProperty()
  @IsOptional()
  @IsUUID()
  workspaceId?: string;
}

/** How long a page of any list is. What its `cursor` looks like is up to the ids of the list. */
export class LimitedQuery extends ScopedQuery {
  /** How many items at most, 1 to 200. */
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(200)
  limit: number = 50;
}

/** How lists of things with a UUID are paged: newest first, `cursor` is the previous page's `nextCursor`. */
export class PageQuery extends LimitedQuery {
  /** `nextCursor` of the page before. */
  @IsOptional()
  @IsUUID()
  cursor?: string;
}

/** How logs are paged, whose rows are numbered: newest first. */
export class LogPageQuery extends LimitedQuery {
  /** `nextCursor` of the page before. */
  @IsOptional()
  @Matches(/^\d{1,18}$/, { message: 'must be the nextCursor of the page before' })
  cursor?: string;
}

export interface Page<Item> {
  items: Item[];
  nextCursor: string | null;
}

/** Makes a page of rows that were read with `limit + 1`, so that the extra row tells whether there is a next page. */
export function toPage<Row extends { id: string }, Item>(
  rows: Row[],
  limit: number,
  toItem: (row: Row) => Item,
): Page<Item> {
  const shown = rows.slice(0, limit);
  return { items: shown.map(toItem), nextCursor: rows.length > limit ? (shown.at(-1)?.id ?? null) : null };
}
