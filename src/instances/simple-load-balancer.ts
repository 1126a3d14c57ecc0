/** What the balancer knows of an instance: `reserved` counts the accounts it is to drive, connected or not. */
export interface InstanceLoad {
  id: string;
  reserved: number;
  maxAccounts: number;
}

/** The instance with the fewest reserved accounts that has room, or null when all are full. */
export function leastSessions(candidates: InstanceLoad[]): InstanceLoad | null {
  const withRoom = candidates.filter(({ reserved, maxAccounts }) => reserved < maxAccounts);
  return withRoom.reduce<InstanceLoad | null>(
    (best, candidate) => (best === null || candidate.reserved < best.reserved ? candidate : best),
    null,
  );
}

/** The largest minus the smallest load, and whether that is even: at most 20 % of the mean apart, or one account. */
export function spreadOf(loads: InstanceLoad[]): { spread: number; balanced: boolean } {
  if (loads.length === 0) return { spread: 0, balanced: true };
  const reserved = loads.map((load) => load.reserved);
  const spread = Math.max(...reserved) - Math.min(...reserved);
  const mean = reserved.reduce((sum, value) => sum + value, 0) / reserved.length;
  return { spread, balanced: spread <= Math.max(1, 0.2 * mean) };
}
