import { ApiHideProperty } from '@nestjs/swagger';
import { Type } from 'class-transformer';
import { IsInt, IsOptional, IsUUID, Matches, Max, Min } from 'class-validator';

/** The query of every request. A request with the admin key names the workspace to act in. */
export class ScopedQuery {
  @ApiHideProperty()
  @IsOptional()
  @IsUUID()
  workspaceId?: string;
}

/** The length of a page. The format of `cursor` depends on the ids of the list. */
export class LimitedQuery extends ScopedQuery {
  /** The maximum number of items, 1 to 200. */
  @IsOptional()
  @Type(() => Number)
  @IsInt()
  @Min(1)
  @Max(200)
  limit: number = 50;
}

/** Paging of lists whose items have a UUID: newest first. `cursor` is the `nextCursor` of the previous page. */
export class PageQuery extends LimitedQuery {
  /** The `nextCursor` of the previous page. */
  @IsOptional()
  @IsUUID()
  cursor?: string;
}

/** Paging of logs, whose rows are numbered: newest first. */
export class LogPageQuery extends LimitedQuery {
  /** The `nextCursor` of the previous page. */
  @IsOptional()
  @Matches(/^\d{1,18}$/, { message: 'must be the nextCursor of the previous page' })
  cursor?: string;
}

export interface Page<Item> {
  items: Item[];
  nextCursor: string | null;
}

/** Makes a page of rows. The query must use `limit + 1`: the extra row shows that there is a next page. */
export function toPage<Row extends { id: string }, Item>(
  rows: Row[],
  limit: number,
  toItem: (row: Row) => Item,
): Page<Item> {
  const shown = rows.slice(0, limit);
  return { items: shown.map(toItem), nextCursor: rows.length > limit ? (shown.at(-1)?.id ?? null) : null };
}
