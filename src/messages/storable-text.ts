/** A text as PostgreSQL can store it; what a stranger sends must not keep the others out. */
export function storable(text: string): string {
  return text.replaceAll('\u0000', '').toWellFormed();
}

/** The same of every text in something. */
export function clean<Value>(value: Value): Value {
  return JSON.parse(JSON.stringify(value), (_key, inner: unknown) =>
    typeof inner === 'string' ? storable(inner) : inner,
  ) as Value;
}
