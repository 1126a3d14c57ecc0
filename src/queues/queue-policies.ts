import { Problem } from '../platform/errors/problem.js';

/** How the work of one queue is tried. Times are milliseconds. */
export interface QueuePolicy {
  /**
   * After so many tries a job has failed; 0 is without end. Of a message it is the tries of unknown outcome, after which
   * nobody can tell, and it becomes `unknown`.
   */
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
 * The queues, in the order in which a worker serves them unless it is told another. A job of the `whatsapp-` ones is only a
 * hint that an account has something to send: PostgreSQL holds the message, its attempts and its times.
 */
export const queuePolicies = {
  messaging: { attempts: 3, backoffMs: [5_000, 15_000, 45_000], timeoutMs: 120_000 },
  'campaign-stats': { attempts: 3, backoffMs: [10_000, 30_000, 60_000], timeoutMs: 60_000 },
  'whatsapp-urgent': sends,
  'whatsapp-high': sends,
  'whatsapp-normal': sends,
  'whatsapp-campaign': sends,
  // A hint, as those of lanes are: each delivery has its attempts in PostgreSQL (webhook-attempt.ts).
  webhooks: { attempts: 0, backoffMs: [1_000, 5_000, 15_000], timeoutMs: 90_000 },
} as const satisfies Record<string, QueuePolicy>;

export type QueueName = keyof typeof queuePolicies;
/** A queue of heads: what it is about is a message in PostgreSQL. */
export type LaneQueueName = Extract<QueueName, `whatsapp-${string}`>;

export const queueNames = Object.keys(queuePolicies) as QueueName[];

/** Known by name, and nobody puts anything in them before there are campaigns: a worker accepts them and has nothing to do there. */
export const unfilledQueues: ReadonlySet<QueueName> = new Set<QueueName>(['campaign-stats']);

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

/** @throws QueueNotFound naming those that there are */
export function toQueueName(name: string): QueueName {
  if (isQueueName(name)) return name;
  throw new QueueNotFound(name);
}
