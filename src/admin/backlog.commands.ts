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

const large = 1_000_000_000;
/** Of `webhooks`, Redis holds hints only, which are put again within a second: what waits is in PostgreSQL. */
const clearable: readonly QueueName[] = queueNames.filter((name) => name !== 'webhooks');

/** `queue:monitor`, `queue:clear`. */
export function addBacklogCommands(program: Command, run: RunWithServices): void {
  program
    .command('queue:monitor [queues]')
    .description('show how much waits in queues, and which are too long')
    .option('--max <count>', 'ALERT when more wait', wholeNumber(0, large), 1_000)
    .option('--max-wait <seconds>', 'ALERT too when the oldest has waited longer', wholeNumber(0, large))
    .option('--fail', 'exit with 1 when there is an ALERT')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `
Queues are separated by commas; all of them unless named. The exit code is 0 also when there is an ALERT, as it is in Laravel, unless
--fail is given.

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
    .description('cancel every message that waits in a queue; of another queue, remove its jobs')
    .option('--queue <name>', 'the queue, as in Laravel')
    .option('--force', 'do not ask')
    .addHelpText(
      'after',
      `
Messages that are being sent go on, and those that may have been sent already stay. Cancelled messages stay in the ledger, and
cannot be sent again.

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
            `What waits in ${queue} cannot be cleared. flotilla queue:pause ${queue} holds it back; a webhook that is deleted takes what waits for it along.`,
          );
        if (!options.force && !(await confirm(`Everything that waits in ${queue} is lost. Clear it?`))) {
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
  let told = 0;
  return services
    .get(ClearingService)
    .clear(queue as Extract<QueueName, `whatsapp-${string}`>, (cancelled) => {
      if (cancelled - told < 10_000) return;
      told = cancelled;
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
