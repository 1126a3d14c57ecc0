import fc from 'fast-check';
import { expect, it } from 'vitest';
import { WorkerCampaignShare } from '../../src/queues/worker-campaign-share.js';
import type { QueueName } from '../../src/queues/queue-policies.js';

const lanes: QueueName[] = ['whatsapp-urgent', 'whatsapp-high', 'whatsapp-normal', 'whatsapp-campaign'];

/** Takes what a worker with `slots` would, `steps` times. */
function take(
  turn: WorkerCampaignShare,
  queues: readonly QueueName[],
  waiting: Map<QueueName, number>,
  slots: number,
): { queue: QueueName; count: number } | null {
  const order = turn.order(queues, waiting);
  const queue = order.find((name) => (waiting.get(name) ?? 0) > 0);
  if (!queue) return null;
  const count = Math.min(waiting.get(queue)!, slots, turn.maxBatch(queue, waiting));
  turn.record(queue, count, waiting);
  return { queue, count };
}

it.each([
  [0.05, 1],
  [0.05, 32],
  [0.1, 7],
  [0.5, 32],
])('share %d of what is taken is of campaigns, with %d slots', (share, slots) => {
  const turn = new WorkerCampaignShare(share);
  const waiting = new Map<QueueName, number>([
    ['whatsapp-normal', 1_000],
    ['whatsapp-campaign', 1_000],
  ]);
  const taken = { campaign: 0, all: 0 };
  while (taken.all < 2_000) {
    const { queue, count } = take(turn, lanes, waiting, slots)!;
    taken.all += count;
    if (queue === 'whatsapp-campaign') taken.campaign += count;
  }
  expect(taken.campaign / taken.all).toBeCloseTo(share, 2);
});

it('is never before urgent, never when the share is 0, and keeps the order of all others', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(0, 0.05, 0.25, 0.5),
      fc.shuffledSubarray([...lanes, 'messaging' as const]),
      fc.array(fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 5, maxLength: 5 }), { maxLength: 60 }),
      (share, queues, rounds) => {
        const turn = new WorkerCampaignShare(share);
        for (const counts of rounds) {
          const waiting = new Map(queues.map((queue, index) => [queue, counts[index]!]));
          const order = turn.order(queues, waiting);
          const others = (some: readonly QueueName[]) => some.filter((name) => name !== 'whatsapp-campaign');
          expect(others(order)).toEqual(others(queues));
          if (share === 0 || (waiting.get('whatsapp-urgent') ?? 0) > 0) expect(order).toEqual(queues);
          const taken = take(turn, queues, waiting, 4);
          if (taken) expect(taken.count).toBeGreaterThan(0);
        }
      },
    ),
  );
});
