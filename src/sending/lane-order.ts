import { priorities, queueOf } from '../messages/message.entity.js';
import type { JobContext } from '../queues/job-runner.js';

/** Every priority, the most urgent first: the order in which a lane is sent unless somebody wants another. */
export const strictOrder: readonly number[] = priorities.map((_name, priority) => priority).reverse();

/** The priorities that a worker serves now, in the order of its queues. */
export function servedPriorities({ servedQueues }: Pick<JobContext, 'servedQueues'>): readonly number[] {
  return servedQueues()
    .map((queue) => strictOrder.find((priority) => queueOf(priority) === queue))
    .filter((priority) => priority !== undefined);
}

/** How many of a priority are looked at for one that has not expired. */
const nearEnough = 100;

/**
 * SQL for the head of the lane of the account that `account` names: the oldest queued message of the first priority in
 * `order` (a smallint[]) that has any; priorities that are not in it stay where they are. One index look-up a priority,
 * however much waits. One that waits for its next attempt holds back the others of its priority, so that order is kept.
 *
 * A priority of which a paced account may not send yet has no head; while it may not write to cold contacts, or may not
 * reply, the head is the first of the others. Of the two looks at an index one is taken.
 *
 * Behind many that have expired nothing is seen until they have been written off: a campaign that is too late would be read
 * whole at every look.
 */
export function laneHead(account: string, order: string): string {
  const firstWhere = (condition: string) => `(select near.id, near.priority, near.next_attempt_at
      from (select m.id, m.priority, m.next_attempt_at, m.seq, m.expires_at from messages m
        where m.account_id = ${account} and m.stage = 'queued' and m.priority = wanted.priority and ${condition}
        order by m.seq limit ${nearEnough}) near
      where near.expires_at is null or near.expires_at > now()
      order by near.seq limit 1)`;
  return `(select first.id, first.priority, first.next_attempt_at
    from unnest(${order}::smallint[]) with ordinality as wanted (priority, place)
    left join lateral (select p.next_send_at[wanted.priority + 1] <= now() as is_due,
        coalesce(greatest(p.cold_closed_until, p.cold_paused_until) <= now(), true) as cold,
        coalesce(p.replies_closed_until <= now(), true) as replies
      from account_pacing p where p.account_id = ${account}) paced on true
    cross join lateral (
      ${firstWhere('coalesce(paced.is_due and paced.cold and paced.replies, true)')}
      union all ${firstWhere('paced.is_due and paced.cold <> paced.replies and m.is_cold = paced.cold')}
      limit 1) first
    where first.next_attempt_at <= now()
    order by wanted.place limit 1)`;
}
