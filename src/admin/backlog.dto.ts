import type { QueueName } from '../queues/queue-policies.js';

/**
 * One queue. The `whatsapp-` ones and `webhooks` are counted in PostgreSQL, since Redis holds their heads only; the others are in Redis, and
 * what it would say is null while it does not answer.
 */
export class QueueBacklog {
  name!: QueueName;
  /** What is due and waits. */
  waiting!: number | null;
  /** What waits for its time. */
  delayed!: number | null;
  /** What is being done. */
  active!: number | null;
  /** Failed jobs, messages that failed or of which nobody can tell, and dead deliveries of webhooks, until they are retried or forgotten. */
  failed!: number;
  /** How long the oldest that is due has waited, in seconds. */
  oldestSeconds!: number | null;
  /** Everything that is still to be done. */
  backlog!: number | null;
  /** Since when its jobs are left alone; null when they are not. */
  pausedAt!: string | null;
}

export class QueuesResponse {
  items!: QueueBacklog[];
  /** There is one page. */
  nextCursor!: string | null;
}

/** Whether a queue is served. */
export class QueueStateResponse {
  name!: QueueName;
  /** Since when it is paused; null when it is served. */
  pausedAt!: string | null;
}
