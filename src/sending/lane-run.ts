import type { QueuePolicy } from '../queues/queue-policies.js';

/** A request of a worker to the instance that owns an account. Both programs are Flotilla's: it is typed and not validated. */
export interface LaneRun {
  /** The epoch of the assignment that the worker knows. */
  epoch: number;
  /** The priorities to send, in the order of sending. */
  order: readonly number[];
  /** How many messages to send at most: other lanes wait for the slot. */
  most: number;
  /** After this time, in milliseconds, the run begins no further message. */
  forMs: number;
  /** Whether a less urgent message must not follow: heads of other lanes wait, and may be more urgent than it. */
  asUrgentOnly: boolean;
  policy: Pick<QueuePolicy, 'attempts' | 'backoffMs'>;
}

/** The next message of a lane that may be sent now. */
export interface LaneHead {
  id: string;
  priority: number;
}

/** The result of a run. */
export interface LaneResult {
  /** How many messages reached an end: sent, failed or expired. */
  ended: number;
  /** The lane's next message; null if none is due. */
  head: LaneHead | null;
  /** Nothing was claimed: another run has the lane, or the lane is empty now. */
  isUnclaimed: boolean;
}

/**
 * How long a claim belongs to its instance. To take over a claim of a live instance is safe too: the new attempt joins the
 * running send, or finds the message's id in WhatsApp Web.
 */
export const claimMs = 6_000;
