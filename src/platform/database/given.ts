/** The filters that were given: TypeORM refuses undefined, lest a forgotten value match every row. */
export function given<Filters extends object>(
  filters: Filters,
): { [Key in keyof Filters]?: Exclude<Filters[Key], undefined> } {
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== undefined)) as never;
}
