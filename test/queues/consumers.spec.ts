import { afterAll, expect, it } from 'vitest';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createContext } from '../../src/platform/start-role.js';
import { QUEUE_PROCESSORS, type QueueProcessor } from '../../src/queues/job-runner.js';
import { queueNames } from '../../src/queues/queue-policies.js';
import { WorkerModule } from '../../src/roles/worker.module.js';
import { priorities, queueOf } from '../../src/messages/message.entity.js';
import { scratchDatabase } from '../support/scratch-database.js';

const scratch = await scratchDatabase();
const context = await createContext(WorkerModule, scratch.config, createLogger('test', 'silent'));
afterAll(async () => {
  await context.close();
  await scratch.drop();
});

it('every queue has exactly one consumer', () => {
  const consumed = context.get<QueueProcessor[]>(QUEUE_PROCESSORS).flatMap(({ queues }) => [...queues]);
  expect([...consumed].sort()).toEqual([...queueNames].sort());
});

it('every priority has a queue that somebody fills', () => {
  const queues = priorities.map((_priority, number) => queueOf(number));
  expect(queues.every((queue) => queueNames.includes(queue))).toBe(true);
});
