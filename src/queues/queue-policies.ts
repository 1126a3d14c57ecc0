/** How the work of one queue is tried. Times are milliseconds. */
export interface QueuePolicy {
  /** After so many tries of unknown outcome nobody can tell, and the message becomes `unknown`. */
  attempts: number;
  /** The wait before the second, third, … try; the last one repeats. */
  backoffMs: readonly number[];
  /** How long one try may take. */
  timeoutMs: number;
}

const sends = {
  attempts: 8,
  backoffMs: [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000],
  timeoutMs: 45_000,
} as const;

/**
 * The queues, in the order in which a worker serves them unless it is told another. A job of these four is only a hint
 * that an account has something to send: PostgreSQL holds the message, its attempts and its times.
 */
export const queuePolicies = {
  'whatsapp-urgent': sends,
  'whatsapp-high': sends,
  'whatsapp-normal': sends,
  'whatsapp-campaign': sends,
} as const satisfies Record<string, QueuePolicy>;

export type QueueName = keyof typeof queuePolicies;

export const queueNames = Object.keys(queuePolicies) as QueueName[];

export function isQueueName(name: string): name is QueueName {
  return Object.hasOwn(queuePolicies, name);
}
