import type { QueueName } from '../queues/queue-policies.js';

/**
 * One queue. PostgreSQL counts the `whatsapp-` queues and `webhooks`, because Redis holds only their heads. Redis counts the other
 * queues; their counts are null while Redis does not answer.
 */
export class QueueBacklog {
  name!: QueueName;
  /** Jobs or messages that are due and wait. */
  waiting!: number | null;
  /** Jobs or messages that are not due yet. */
  delayed!: number | null;
  /** Jobs that are running, or messages that are being sent. */
  active!: number | null;
  /** Failed jobs, messages that are `failed` or `unknown`, and dead webhook deliveries, until they are retried or forgotten. */
  failed!: number;
  /** How long the oldest due job or message has waited, in seconds. */
  oldestSeconds!: number | null;
  /** The sum of `waiting`, `delayed` and `active`. */
  backlog!: number | null;
  /** When the queue was paused. Null if it is not paused. */
  pausedAt!: string | null;
}

export class QueuesResponse {
  items!: QueueBacklog[];
  /** Always null, because there is only one page. */
  nextCursor!: string | null;
}

/** Whether a queue is paused. */
export class QueueStateResponse {
  name!: QueueName;
  /** When the queue was paused. Null if it is not paused. */
  pausedAt!: string | null;
}
