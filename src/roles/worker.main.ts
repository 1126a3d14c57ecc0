import { fileURLToPath } from 'node:url';
import { createContext, startRole } from '../platform/start-role.js';
import { isQueueName, queueNames } from '../queues/queue-policies.js';
import { QueueWorker } from '../queues/queue-worker.service.js';
import { WorkerModule } from './worker.module.js';

/** Consumes queues, the most important first: all of them unless told which. */
export function runWorker(names: string[] = queueNames): Promise<void> {
  return startRole('worker', async (config, logger) => {
    const queues = names.map((name) => {
      if (isQueueName(name)) return name;
      throw new Error(`There is no queue ${name}. The queues are ${queueNames.join(', ')}.`);
    });
    const context = await createContext(WorkerModule, config, logger);
    await context.get(QueueWorker).start(queues);
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await runWorker();
