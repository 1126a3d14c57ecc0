import { type Command, InvalidArgumentError, Option } from 'commander';
import { seconds, wholeNumber } from '../platform/command-line.js';
import { queueNames, type QueueName, type QueuePolicy, toQueueName } from './queue-policies.js';
import { defaultWorkerOptions, type WorkerOptions } from './worker-options.js';

/** How a worker that was started by hand shows its work. */
export interface WorkerSettings {
  name?: string;
  output: 'text' | 'json' | 'none';
  verbose: boolean;
}

interface Flags {
  queue: readonly QueueName[];
  once?: boolean;
  stopWhenEmpty?: boolean;
  maxJobs: number;
  maxTime: number;
  memory: number;
  sleep: number;
  rest: number;
  tries?: number;
  backoff?: readonly number[];
  timeout?: number;
  name?: string;
  json?: boolean;
  quiet?: boolean;
  verbose?: boolean;
}

const day = 86_400;

/** `flotilla queue:work`, with the options of Laravel's command. */
export function addWorkerCommands(
  program: Command,
  run: (options: WorkerOptions, settings: WorkerSettings) => Promise<void>,
): void {
  program
    .command('queue:work')
    .description('consume queues in strict order until stopped')
    .addOption(
      new Option('--queue <names>', 'the queues, the most important first, separated by commas')
        .argParser(toQueues)
        .default(queueNames, 'all, in the order below'),
    )
    .option('--once', 'run one job and end; if no job arrives within --sleep, end')
    .option('--stop-when-empty', 'end when the queues are empty')
    .option(
      '--max-jobs <count>',
      'end after this number of jobs; 0: no limit',
      wholeNumber(0, 1_000_000_000),
      0,
    )
    .option('--max-time <seconds>', 'end after this time; 0: no limit', seconds(0, 365 * day), 0)
    .option(
      '--memory <megabytes>',
      'end with exit code 12 when the worker uses more memory; 0: no limit',
      wholeNumber(0, 1_000_000),
      0,
    )
    .addOption(
      new Option('--sleep <seconds>', 'check empty queues again after this time; a new job starts at once')
        .argParser(seconds(0.01, 60))
        .default(1_000, '1'),
    )
    .option('--rest <seconds>', 'pause after each job', seconds(0, 3_600), 0)
    .option(
      '--tries <count>',
      'number of tries of a job; 0: no limit (default: the policy of the queue)',
      wholeNumber(0, 1_000_000),
    )
    .option(
      '--backoff <seconds>',
      'wait before the second, third, … try: 1,5,10; the last wait repeats (default: the policy of the queue)',
      toBackoff,
    )
    .option(
      '--timeout <seconds>',
      'fail a job after this time and end with exit code 1; 0: a day (default: the policy of the queue)',
      toTimeout,
    )
    .option('--name <name>', 'name of the worker, unique on its server (default: cli_ and its pid)', toName)
    .option('--json', 'print each job as JSON, one object per line')
    .option('-q, --quiet', 'do not print the jobs')
    .option('-v, --verbose', 'print the jobs also under supervisord, and the log to standard error')
    .addHelpText('after', help)
    .action((flags: Flags) => run(toOptions(flags), toSettings(flags)));
}

function toOptions(flags: Flags): WorkerOptions {
  const { tries, backoff, timeout } = flags;
  const policy: Partial<QueuePolicy> = {
    ...(tries !== undefined && { attempts: tries }),
    ...(backoff !== undefined && { backoffMs: backoff }),
    ...(timeout !== undefined && { timeoutMs: timeout }),
  };
  return {
    ...defaultWorkerOptions,
    queues: flags.queue,
    once: flags.once ?? false,
    stopWhenEmpty: flags.stopWhenEmpty ?? false,
    maxJobs: flags.maxJobs,
    maxTimeMs: flags.maxTime,
    maxMemoryBytes: flags.memory * 2 ** 20,
    sleepMs: flags.sleep,
    restMs: flags.rest,
    policy,
  };
}

function toSettings({ name, json, quiet, verbose = false }: Flags): WorkerSettings {
  // supervisord stores all output, and a line for each job would only fill its files.
  const isSupervised = process.env.SUPERVISOR_ENABLED !== undefined;
  const output = quiet ? 'none' : json ? 'json' : isSupervised && !verbose ? 'none' : 'text';
  return { name: name ?? process.env.WORKER_NAME, output, verbose };
}

function toQueues(text: string): QueueName[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  if (names.length === 0)
    throw new InvalidArgumentError(`Name at least one queue of ${queueNames.join(',')}.`);
  try {
    return [...new Set(names.map(toQueueName))];
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

function toBackoff(text: string): number[] {
  const parse = seconds(0, day);
  const waits = text.split(',').map((part) => part.trim());
  if (waits.length > 100) throw new InvalidArgumentError('Give at most 100 waits. The last wait repeats.');
  return waits.map(parse);
}

function toTimeout(text: string): number {
  return seconds(0, day)(text) || day * 1_000;
}

function toName(text: string): string {
  if (/^[\w.-]{1,100}$/.test(text)) return text;
  throw new InvalidArgumentError('Use 1 to 100 letters, digits, "_", "-" and ".".');
}

const help = `
The queues, in their default order:
  ${queueNames.join(',')}

Up to WORKER_CONCURRENCY jobs run at the same time; with --once, one job. A job of a whatsapp- queue stands for an account that
has messages to send. With --once and --max-jobs, it sends one message.

Signals: TERM, INT and QUIT end the worker after its running jobs. USR2 pauses the worker, CONT resumes it.
Exit codes: 0 ended as asked; 1 an error, a job that timed out, or no connection for a minute; 12 too much memory.

Examples:
  flotilla queue:work
  flotilla queue:work --queue=messaging,campaign-stats,whatsapp-urgent,whatsapp-high,whatsapp-normal,whatsapp-campaign --tries=3 --timeout=300
  flotilla queue:work --queue=whatsapp-campaign --stop-when-empty --max-time=3600
  flotilla queue:work --once --json`;
