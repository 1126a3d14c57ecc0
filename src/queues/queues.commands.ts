import type { Command } from 'commander';
import { print, printJson, printTable, type RunWithServices } from '../platform/command-line.js';
import { queueNames, toQueueName } from './queue-policies.js';

/** `queue:pause`, `queue:resume`, `queue:restart`, `queue:status`. */
export function addQueuesCommands(program: Command, run: RunWithServices): void {
  program
    .command('queue:pause <queue>')
    .description('pause a queue: workers take no jobs of it and send none of its messages')
    .addHelpText(
      'after',
      `\nQueues: ${queueNames.join(', ')}\n\nExample:\n  flotilla queue:pause whatsapp-campaign`,
    )
    .action((name: string) =>
      run(async (services) => {
        const { QueueStates } = await import('./queue-states.js');
        await services.get(QueueStates).pause(toQueueName(name));
        print(
          `The queue ${name} is paused. Workers stop serving it within a second. To resume it: queue:resume ${name}.`,
        );
      }),
    );

  program
    .command('queue:resume <queue>')
    .alias('queue:continue')
    .description('resume a paused queue')
    .addHelpText(
      'after',
      `\nQueues: ${queueNames.join(', ')}\n\nExample:\n  flotilla queue:resume whatsapp-campaign`,
    )
    .action((name: string) =>
      run(async (services) => {
        const { QueueStates } = await import('./queue-states.js');
        await services.get(QueueStates).resume(toQueueName(name));
        print(`The queue ${name} is not paused.`);
      }),
    );

  program
    .command('queue:restart')
    .description('restart every worker after its running jobs')
    .addHelpText(
      'after',
      '\nExample, after an update:\n  npm run build && flotilla migrate && flotilla queue:restart',
    )
    .action(() =>
      run(async (services) => {
        const { QueueStates } = await import('./queue-states.js');
        await services.get(QueueStates).requestRestart();
        print('Every worker ends after its running jobs. Its supervisor starts it again.');
      }),
    );

  program
    .command('queue:status')
    .description('show the workers; exit code 0: running, 1: all paused, 2: no worker is running')
    .option('--json', 'print JSON')
    .addHelpText('after', '\nExample:\n  flotilla queue:status || echo "the queues are not served"')
    .action(({ json }: { json?: boolean }) =>
      run(async (services) => {
        const [{ QueueStates }, { WorkersService }] = await Promise.all([
          import('./queue-states.js'),
          import('./workers.service.js'),
        ]);
        const [workers, paused] = await Promise.all([
          services.get(WorkersService).listAlive(),
          services.get(QueueStates).pausedSince(),
        ]);
        const isIdle = (worker: (typeof workers)[number]) =>
          worker.status === 'paused' || worker.queues.every((queue) => paused.has(queue));
        const status = workers.length === 0 ? 'inactive' : workers.every(isIdle) ? 'paused' : 'running';
        const unserved = queueNames.filter((name) => !workers.some((worker) => worker.queues.includes(name)));
        process.exitCode = { running: 0, paused: 1, inactive: 2 }[status];
        if (json) {
          printJson({ status, pausedQueues: [...paused.keys()], unservedQueues: unserved, workers });
          return;
        }
        print(
          status === 'inactive'
            ? 'No worker is running. Start a worker: flotilla queue:work. Or check supervisord: flotilla ctl status.'
            : `The queues are ${status === 'paused' ? 'paused' : 'served'}.`,
        );
        if (paused.size > 0) print(`Paused queues: ${[...paused.keys()].join(', ')}.`);
        if (workers.length === 0) return;
        if (unserved.length > 0)
          print(
            `No worker serves: ${unserved.join(', ')}. Add these queues to --queue of flotilla queue:work.`,
          );
        await printTable(
          ['Worker', 'Pid', 'Status', 'Jobs', 'Done', 'Failed', 'Memory', 'Since', 'Queues'],
          workers.map((worker) => [
            worker.name,
            worker.pid,
            worker.status,
            `${worker.running}/${worker.concurrency}`,
            worker.processed,
            worker.failed,
            `${Math.round(worker.memoryBytes / 2 ** 20)} MB`,
            worker.startedAt.toISOString().slice(0, 19).replace('T', ' '),
            worker.queues.length === queueNames.length ? 'all' : worker.queues.join('\n'),
          ]),
        );
      }),
    );
}
