import type { QueuePolicy } from '../queues/queue-policies.js';

/** What a worker asks of the instance that owns an account; both are ours, so it is typed and not validated. */
export interface LaneRun {
  /** The assignment under which the worker knows the account. */
  epoch: number;
  /** The priorities that may be sent, the first one first. */
  order: readonly number[];
  /** How many messages at the most; others wait for the slot. */
  most: number;
  /** After how long no further message is begun, in milliseconds. */
  forMs: number;
  /** Whether only what is as urgent as the first message may follow it: heads of other lanes wait, more urgent than the rest. */
  asUrgentOnly: boolean;
  policy: Pick<QueuePolicy, 'attempts' | 'backoffMs'>;
}

/** The first message of a lane that may be sent now. */
export interface LaneHead {
  id: string;
  priority: number;
}

/** What a run came to. */
export interface LaneResult {
  /** How many messages came to an end. */
  ended: number;
  /** What the lane goes on with; null when nothing is due. */
  head: LaneHead | null;
  /** Nothing was claimed: another run has the lane, or it is empty by now. */
  isUnclaimed: boolean;
}

/** How long a claim is its instance's alone. Taking it over from a live one is safe too: the send is joined, or its id is found. */
export const claimMs = 6_000;
