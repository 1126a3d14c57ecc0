/** The filters without undefined values. TypeORM refuses undefined, because a forgotten value would match every row. */
export function given<Filters extends object>(
  filters: Filters,
): { [Key in keyof Filters]?: Exclude<Filters[Key], undefined> } {
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== undefined)) as never;
}
