import { priorities, queueOf } from '../messages/message.entity.js';
import type { JobContext } from '../queues/job-runner.js';

/** Every priority, the most urgent first: the default order of a lane. */
export const strictOrder: readonly number[] = priorities.map((_name, priority) => priority).reverse();

/** The priorities that a worker serves now, in the order of its queues. */
export function servedPriorities({ servedQueues }: Pick<JobContext, 'servedQueues'>): readonly number[] {
  return servedQueues()
    .map((queue) => strictOrder.find((priority) => queueOf(priority) === queue))
    .filter((priority) => priority !== undefined);
}

/** How many messages of a priority are read to find one that has not expired. */
const maxScanned = 100;

/**
 * SQL for the head of an account's lane: the oldest queued message of the first priority in `order` that has messages.
 * Priorities that are not in `order` wait. It needs one index look-up for each priority, however many messages wait. A message
 * that waits for its next attempt holds back the later messages of its priority, so that their order is kept.
 *
 * A priority that a paced account may not send yet has no head. While the account may not write to cold contacts, or may not
 * reply, the head is the first message of the other kind. Only one of the two index look-ups runs.
 *
 * A message of a campaign that does not run is no head.
 *
 * The query reads only the first {@link maxScanned} messages of a priority. If all of them have expired, it finds no head until
 * `LanesService.promote` has written their expiry. Without this bound, each query would read a whole expired campaign.
 * @param account SQL of the account's id
 * @param order SQL of a smallint[]
 */
export function laneHead(account: string, order: string): string {
  const firstWith = (condition: string) => `(select near.id, near.priority, near.next_attempt_at
      from (select m.id, m.priority, m.next_attempt_at, m.seq, m.expires_at, m.campaign_id from messages m
        where m.account_id = ${account} and m.stage = 'queued' and m.priority = wanted.priority and ${condition}
        order by m.seq limit ${maxScanned}) near
      where (near.expires_at is null or near.expires_at > now()) and (near.campaign_id is null or campaign_runs(near.campaign_id))
      order by near.seq limit 1)`;
  return `(select first.id, first.priority, first.next_attempt_at
    from unnest(${order}::smallint[]) with ordinality as wanted (priority, place)
    left join lateral (select p.next_send_at[wanted.priority + 1] <= now() as is_due,
        coalesce(greatest(p.cold_closed_until, p.cold_paused_until) <= now(), true) as cold,
        coalesce(p.replies_closed_until <= now(), true) as replies
      from account_pacing p where p.account_id = ${account}) paced on true
    cross join lateral (
      ${firstWith('coalesce(paced.is_due and paced.cold and paced.replies, true)')}
      union all ${firstWith('paced.is_due and paced.cold <> paced.replies and m.is_cold = paced.cold')}
      limit 1) first
    where first.next_attempt_at <= now()
    order by wanted.place limit 1)`;
}
