/** An id smaller than any other id: a cursor over all ids starts after it. */
export const firstId = '00000000-0000-0000-0000-000000000000';

/**
 * The smallest version 7 UUID of a time. These ids sort by the time of their creation, so an index on ids is also an index on
 * time.
 * @param time in milliseconds since 1970
 */
export function firstIdAt(time: number): string {
  const hex = Math.max(0, Math.floor(time)).toString(16).padStart(12, '0');
  return `${hex.slice(0, 8)}-${hex.slice(8)}-7000-8000-000000000000`;
}
