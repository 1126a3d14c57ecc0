import { type Command, InvalidArgumentError } from 'commander';
import { print, printAside, printList, type RunWithServices, wholeNumber } from '../platform/command-line.js';
import { queueNames, type QueueName, toQueueName } from '../queues/queue-policies.js';

const hourMs = 3_600_000;
const maxHours = 24 * 365 * 10;

/** `queue:failed`, `queue:retry`, `queue:forget`, `queue:flush`, `queue:prune-failed`. */
export function addFailedJobsCommands(program: Command, run: RunWithServices): void {
  program
    .command('queue:failed')
    .description('list the failed jobs, newest first')
    .option('--queue <name>', 'only of this queue', toQueue)
    .option('--limit <count>', 'maximum number of failed jobs', wholeNumber(1, 10_000), 50)
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nThe list includes the messages that are failed or unknown.\n\nExamples:\n  flotilla queue:failed\n  flotilla queue:failed --queue=whatsapp-campaign --json',
    )
    .action(({ queue, limit, json }: { queue?: QueueName; limit: number; json?: boolean }) =>
      run(async (services) => {
        const { FailedJobsService } = await import('../queues/failed-jobs.service.js');
        const jobs = await services.get(FailedJobsService).list(limit + 1, { queue });
        const shown = jobs.slice(0, limit);
        await printList(shown, {
          json,
          none: 'No failed jobs.',
          head: ['ID', 'Queue', 'Job', 'Tries', 'Failed at', 'Error'],
          row: (job) => [
            job.id,
            job.queue,
            job.name === job.queue ? job.jobId.replace(/-[0-9a-f-]{36}$/, '') : job.name,
            job.attempts,
            job.failedAt.toISOString().slice(0, 19).replace('T', ' '),
            wrap(job.exception.split('\n', 1)[0]!),
          ],
        });
        if (jobs.length > limit) printAside(`There are more. To show more of them: --limit ${limit * 10}.`);
      }),
    );

  program
    .command('queue:retry [ids...]')
    .description('retry failed jobs: by id, all of a queue, or all')
    .option('--queue <name>', 'all failed jobs of this queue', toQueue)
    .addHelpText(
      'after',
      `
A failed message is sent again under a new WhatsApp id. An unknown message keeps its WhatsApp id, so that the recipient sees the
message once even if the first try arrived.

Examples:
  flotilla queue:retry 019a1b2c-3d4e-7f00-8000-0123456789ab
  flotilla queue:retry --queue=whatsapp-high
  flotilla queue:retry all`,
    )
    .action((ids: string[], { queue }: { queue?: QueueName }) =>
      run(async (services) => {
        const { RetryingService } = await import('./retrying.service.js');
        const retrying = services.get(RetryingService);
        const isAll = ids.length === 0 ? queue !== undefined : ids.length === 1 && ids[0] === 'all';
        if (ids.length === 0 && !queue) throw new Error('Name what to retry: ids, --queue=NAME, or all.');
        if (queue && !isAll)
          throw new Error('Give either ids or --queue: flotilla queue:retry --queue=NAME.');
        let found = 0;
        for await (const id of isAll ? retrying.ids(queue) : ids) {
          found += 1;
          try {
            const outcome = await retrying.retry(id);
            print(`${id}  ${outcome === 'queued' ? 'queued again' : 'no longer needed: forgotten'}`);
          } catch (error) {
            printAside(`${id}  ${(error as Error).message}`);
            process.exitCode = 1;
          }
        }
        if (found === 0) print('No failed jobs.');
      }),
    );

  program
    .command('queue:forget <id>')
    .description('forget one failed job; its message stays in the ledger')
    .addHelpText('after', '\nExample:\n  flotilla queue:forget 019a1b2c-3d4e-7f00-8000-0123456789ab')
    .action((id: string) =>
      run(async (services) => {
        const { FailedJobNotFound, FailedJobsService } = await import('../queues/failed-jobs.service.js');
        if (!(await services.get(FailedJobsService).forget(id))) throw new FailedJobNotFound(id);
        print('The failed job is forgotten.');
      }),
    );

  program
    .command('queue:flush')
    .description('forget all failed jobs')
    .option(
      '--hours <count>',
      'only jobs that failed more than this many hours ago',
      wholeNumber(0, maxHours),
      0,
    )
    .addHelpText('after', '\nExamples:\n  flotilla queue:flush\n  flotilla queue:flush --hours=48')
    .action(({ hours }: { hours: number }) => prune(run, hours));

  program
    .command('queue:prune-failed')
    .description('forget old failed jobs; the scheduler forgets them after thirty days')
    .option('--hours <count>', 'minimum age in hours', wholeNumber(0, maxHours), 24)
    .addHelpText('after', '\nExample:\n  flotilla queue:prune-failed --hours=72')
    .action(({ hours }: { hours: number }) => prune(run, hours));
}

function prune(run: RunWithServices, hours: number): Promise<void> {
  return run(async (services) => {
    const { FailedJobsService } = await import('../queues/failed-jobs.service.js');
    const count = await services.get(FailedJobsService).prune(hours * hourMs);
    print(count === 0 ? 'No failed jobs to forget.' : `${count} failed jobs are forgotten.`);
  });
}

function toQueue(name: string): QueueName {
  try {
    return toQueueName(name);
  } catch {
    throw new InvalidArgumentError(`The queues are ${queueNames.join(', ')}.`);
  }
}

/** At most four lines of at most 60 characters. */
function wrap(text: string): string {
  return (text.match(/.{1,60}(\s|$)|.{1,60}/g) ?? []).slice(0, 4).join('\n');
}
