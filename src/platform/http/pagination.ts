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

/** About how many bytes of JSON the items of a page have at most. A larger item has a page for itself. */
export const maxPageBytes = 2 ** 20;

/** Makes a page of rows. The query must use `limit + 1`: the extra row shows that there is a next page. */
export function toPage<Row extends { id: string }, Item>(
  rows: Row[],
  limit: number,
  toItem: (row: Row) => Item,
): Page<Item> {
  return cutPage({ rows: rows.slice(0, limit), hasMore: rows.length > limit }, toItem);
}

/**
 * Makes a page of rows, which ends early when it has {@link maxPageBytes}.
 * @param found `next`: where the next page begins if these rows are all that the search has found so far
 */
export function cutPage<Row extends { id: string }, Item>(
  { rows, hasMore, next = null }: { rows: Row[]; hasMore: boolean; next?: string | null },
  toItem: (row: Row) => Item,
): Page<Item> {
  const items = rows.map(toItem);
  const count = countFitting(items.map((item) => Buffer.byteLength(JSON.stringify(item))));
  const isCut = hasMore || count < rows.length;
  return { items: items.slice(0, count), nextCursor: isCut ? (rows[count - 1]?.id ?? null) : next };
}

/** How many of these items, with their sizes in bytes, fit into a page: at least one. */
export function countFitting(sizes: number[]): number {
  let bytes = 0;
  const tooMany = sizes.findIndex((size, index) => (bytes += size) > maxPageBytes && index > 0);
  return tooMany === -1 ? sizes.length : tooMany;
}
