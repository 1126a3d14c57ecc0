import type { Command } from 'commander';
import {
  confirm,
  print,
  printAside,
  printJson,
  printTable,
  type RunWithServices,
  wholeNumber,
} from '../platform/command-line.js';
import { isLaneQueue, queueNames, type QueueName, toQueueName } from '../queues/queue-policies.js';
import type { QueueBacklog } from './backlog.dto.js';

const maxCount = 1_000_000_000;
/** Redis holds only hints of `webhooks`, and the sweep puts them again within a second. The deliveries wait in PostgreSQL. */
const clearable: readonly QueueName[] = queueNames.filter((name) => name !== 'webhooks');

/** `queue:monitor`, `queue:clear`. */
export function addBacklogCommands(program: Command, run: RunWithServices): void {
  program
    .command('queue:monitor [queues]')
    .description('show the length of queues, and which queues are too long')
    .option('--max <count>', 'ALERT if more jobs wait', wholeNumber(0, maxCount), 1_000)
    .option('--max-wait <seconds>', 'ALERT if the oldest job has waited longer', wholeNumber(0, maxCount))
    .option('--fail', 'exit with code 1 if there is an ALERT')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Separate queues with commas. The default is all queues. As in Laravel, the exit code is 0 even if there is an ALERT, unless you
give --fail.

Examples:
  flotilla queue:monitor
  flotilla queue:monitor whatsapp-urgent,whatsapp-high --max=100 --max-wait=60 --fail`,
    )
    .action(
      (
        names: string | undefined,
        options: { max: number; maxWait?: number; fail?: boolean; json?: boolean },
      ) =>
        run(async (services) => {
          const wanted = names?.split(',').map((name) => toQueueName(name.trim())) ?? queueNames;
          const { BacklogService } = await import('./backlog.service.js');
          const all = await services.get(BacklogService).read();
          const queues = wanted.map((name) => {
            const queue = all.find((candidate) => candidate.name === name)!;
            return { ...queue, status: statusOf(queue, options) };
          });
          if (options.fail && queues.some(({ status }) => status !== 'OK')) process.exitCode = 1;
          if (options.json) {
            printJson(queues);
            return;
          }
          await printTable(
            ['Queue', 'Waiting', 'Delayed', 'Active', 'Failed', 'Oldest', 'Status'],
            queues.map((queue) => [
              queue.name,
              queue.waiting,
              queue.delayed,
              queue.active,
              queue.failed,
              queue.oldestSeconds === null ? null : `${queue.oldestSeconds} s`,
              queue.pausedAt ? `${queue.status}, paused` : queue.status,
            ]),
          );
        }),
    );

  program
    .command('queue:clear [queue]')
    .description(
      'cancel all waiting messages of a whatsapp- queue, or remove all waiting jobs of another queue',
    )
    .option('--queue <name>', 'the queue, as in Laravel')
    .option('--force', 'do not ask for confirmation')
    .addHelpText(
      'after',
      `
Messages that are being sent, and messages that may have been sent, are not cancelled. Cancelled messages stay in the ledger.
You cannot send them again.

Queues: ${clearable.join(', ')}

Examples:
  flotilla queue:clear whatsapp-campaign
  flotilla queue:clear whatsapp-campaign --force`,
    )
    .action((argument: string | undefined, options: { queue?: string; force?: boolean }) =>
      run(async (services) => {
        const name = argument ?? options.queue;
        if (!name) throw new Error(`Name the queue to clear: ${clearable.join(', ')}.`);
        const queue = toQueueName(name);
        if (!clearable.includes(queue))
          throw new Error(
            `You cannot clear the queue ${queue}. Pause it with flotilla queue:pause ${queue}, or delete a webhook: that deletes its deliveries.`,
          );
        const question = `This removes everything that waits in ${queue}. Continue?`;
        if (!options.force && !(await confirm(question))) {
          print('Nothing was cleared.');
          return;
        }
        const count = isLaneQueue(queue) ? await cancel(services, queue) : await remove(services, queue);
        const things = isLaneQueue(queue) ? 'messages cancelled' : 'jobs removed';
        print(count === 0 ? `Nothing waits in ${queue}.` : `${queue} is cleared: ${count} ${things}.`);
      }),
    );
}

type Services = Parameters<Parameters<RunWithServices>[0]>[0];

async function cancel(services: Services, queue: QueueName): Promise<number> {
  const { ClearingService } = await import('../sending/clearing.service.js');
  let reported = 0;
  return services
    .get(ClearingService)
    .clear(queue as Extract<QueueName, `whatsapp-${string}`>, (cancelled) => {
      if (cancelled - reported < 10_000) return;
      reported = cancelled;
      printAside(`${cancelled} cancelled so far`);
    });
}

async function remove(services: Services, queue: QueueName): Promise<number> {
  const { QueuesService } = await import('../queues/queues.service.js');
  return services.get(QueuesService).clear(queue);
}

function statusOf(
  { waiting, oldestSeconds }: QueueBacklog,
  { max, maxWait = Infinity }: { max: number; maxWait?: number },
): 'OK' | 'ALERT' | 'UNKNOWN' {
  if (waiting === null) return 'UNKNOWN';
  return waiting > max || (oldestSeconds ?? 0) > maxWait ? 'ALERT' : 'OK';
}
