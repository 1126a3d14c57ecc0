import type { Job } from 'bullmq';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import type { LaneRun } from '../../src/sending/lane-run.js';
import type { LanesService } from '../../src/sending/lanes.service.js';
import { LanesProcessor } from '../../src/sending/lanes.processor.js';
import type { JobContext } from '../../src/queues/job-runner.js';
import { queueNames, queuePolicies } from '../../src/queues/queue-policies.js';
import type { QueuesService } from '../../src/queues/queues.service.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { fake } from '../support/fake.js';

const silent = createLogger('test', 'silent');

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** Runs work with fake timers. @returns its result, and the time that it took */
async function timed<Result>(work: Promise<Result>): Promise<{ result: Result; ms: number }> {
  const started = performance.now();
  const timing = work.then((result) => ({ result, ms: performance.now() - started }));
  await vi.runAllTimersAsync();
  return timing;
}

/** Lanes that always have more messages, and the runs that were requested of them. */
function endlessLanes() {
  const orders: Omit<LaneRun, 'epoch'>[] = [];
  const lanes = fake<LanesService>({
    find: async (id) => ({ accountId: id, workspaceId: id.split(' ')[0]!, epoch: 0, instanceUrl: '' }),
    run: async (_lane, order) => {
      orders.push(order);
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { ended: 1, head: { id: 'next', priority: 1 }, isUnclaimed: false };
    },
  });
  return { orders, processor: new LanesProcessor(lanes, fake<QueuesService>({}), silent) };
}

function context(changes: Partial<JobContext>): JobContext {
  return {
    hasIdleSlot: () => true,
    hasJobLimit: false,
    servedQueues: () => queueNames,
    policy: queuePolicies['whatsapp-normal'],
    ...changes,
  };
}

const job = (id: string) => fake<Job<{ id: string }>>({ data: { id } });

it('a job on a worker with idle slots ends well before its timeout', async () => {
  const { orders, processor } = endlessLanes();
  const policy = { ...queuePolicies['whatsapp-normal'], timeoutMs: 4_000 };
  const { result, ms } = await timed(processor.process(job('small 0'), context({ policy })));
  expect(result).toMatchObject({ kind: 'head' });
  expect(ms).toBeLessThan(4_000);
  expect(orders.length).toBeGreaterThan(1);
});

it('with a job limit, a job sends one message, even if the turn of its workspace is longer', async () => {
  const { orders, processor } = endlessLanes();
  const counted = context({ hasJobLimit: true });
  for (let lane = 0; lane < 20; lane += 1) await timed(processor.process(job(`large ${lane}`), counted));
  orders.length = 0;
  expect((await timed(processor.process(job('small 0'), counted))).result).toMatchObject({ kind: 'head' });
  expect(orders.map(({ most }) => most)).toEqual([1]);
});
