import { Problem } from '../platform/errors/problem.js';

/** How jobs of one queue are retried. Times are milliseconds. */
export interface QueuePolicy {
  /**
   * After this number of tries a job has failed. 0 means no limit. For a message, only tries with an unknown outcome count:
   * after this number of them the message becomes `unknown`.
   */
  attempts: number;
  /** The wait before the second, third, … try. The last wait repeats. */
  backoffMs: readonly number[];
  /** The maximum duration of one try. */
  timeoutMs: number;
}

const sends = {
  attempts: 8,
  backoffMs: [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000],
  timeoutMs: 45_000,
} as const;

/**
 * The queues, in the order in which a worker serves them by default. A job of a `whatsapp-` queue is only a hint that an
 * account has something to send: PostgreSQL holds the message, its attempts and its times.
 */
export const queuePolicies = {
  messaging: { attempts: 3, backoffMs: [5_000, 15_000, 45_000], timeoutMs: 120_000 },
  'campaign-stats': { attempts: 3, backoffMs: [10_000, 30_000, 60_000], timeoutMs: 60_000 },
  'whatsapp-urgent': sends,
  'whatsapp-high': sends,
  'whatsapp-normal': sends,
  'whatsapp-campaign': sends,
  // These jobs are hints too: PostgreSQL holds the attempts of each delivery (webhook-attempt.ts).
  webhooks: { attempts: 0, backoffMs: [1_000, 5_000, 15_000], timeoutMs: 90_000 },
} as const satisfies Record<string, QueuePolicy>;

export type QueueName = keyof typeof queuePolicies;
/** A queue of the heads of lanes. Each job stands for a message in PostgreSQL. */
export type LaneQueueName = Extract<QueueName, `whatsapp-${string}`>;

export const queueNames = Object.keys(queuePolicies) as QueueName[];

export class QueueNotFound extends Problem {
  constructor(name: string) {
    super(404, 'queue.not_found', `There is no queue "${name}". The queues are ${queueNames.join(', ')}.`);
  }
}

export function isQueueName(name: string): name is QueueName {
  return Object.hasOwn(queuePolicies, name);
}

export function isLaneQueue(name: QueueName): name is LaneQueueName {
  return name.startsWith('whatsapp-');
}

/** @throws QueueNotFound with the names of the queues */
export function toQueueName(name: string): QueueName {
  if (isQueueName(name)) return name;
  throw new QueueNotFound(name);
}
