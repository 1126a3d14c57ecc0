/** How the jobs of one queue are run. Times are milliseconds. */
export interface QueuePolicy {
  /** How often a job is tried before it counts as failed. */
  attempts: number;
  /** The wait before the second, third, … try; the last one repeats. */
  backoffMs: readonly number[];
  /** How long one try may take. */
  timeoutMs: number;
}

/**
 * The queues, in the order in which a worker serves them unless it is told another. A job of these four is only a hint
 * that an account has something to send: PostgreSQL holds the message, its attempts and its times.
 */
export const queuePolicies = {
  'whatsapp-urgent': { attempts: 2, backoffMs: [5_000, 15_000], timeoutMs: 45_000 },
  'whatsapp-high': { attempts: 3, backoffMs: [10_000, 30_000, 60_000], timeoutMs: 45_000 },
  'whatsapp-normal': { attempts: 3, backoffMs: [10_000, 30_000, 60_000], timeoutMs: 45_000 },
  'whatsapp-campaign': { attempts: 3, backoffMs: [60_000, 180_000, 600_000], timeoutMs: 45_000 },
} as const satisfies Record<string, QueuePolicy>;

export type QueueName = keyof typeof queuePolicies;

export const queueNames = Object.keys(queuePolicies) as QueueName[];

export function isQueueName(name: string): name is QueueName {
  return name in queuePolicies;
}
