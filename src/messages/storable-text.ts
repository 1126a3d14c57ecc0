/** Removes what PostgreSQL cannot store in a text. One bad text from a stranger must not block the rows written with it. */
export function storable(text: string): string {
  return text.replaceAll('\u0000', '').toWellFormed();
}

/** Applies {@link storable} to every text inside a value. */
export function storableValue<Value>(value: Value): Value {
  return JSON.parse(JSON.stringify(value), (_key, inner: unknown) =>
    typeof inner === 'string' ? storable(inner) : inner,
  ) as Value;
}
