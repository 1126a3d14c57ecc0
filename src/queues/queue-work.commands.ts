import { type Command, InvalidArgumentError, Option } from 'commander';
import { seconds, wholeNumber } from '../platform/command-line.js';
import { queueNames, type QueueName, type QueuePolicy, toQueueName } from './queue-policies.js';
import { defaultWorkerOptions, type WorkerOptions } from './worker-options.js';

/** How a worker that somebody started by hand shows itself. */
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

/** `flotilla queue:work`, with the flags of Laravel's. */
export function addQueueWorkCommand(
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
    .option('--once', 'take one job and end; without a job, end after --sleep')
    .option('--stop-when-empty', 'end when nothing waits any more')
    .option('--max-jobs <count>', 'end after so many jobs; 0: go on', wholeNumber(0, 1_000_000_000), 0)
    .option('--max-time <seconds>', 'end after so long; 0: go on', seconds(0, 365 * day), 0)
    .option(
      '--memory <megabytes>',
      'end with exit code 12 when it has more; 0: go on',
      wholeNumber(0, 1_000_000),
      0,
    )
    .addOption(
      new Option('--sleep <seconds>', 'look at empty queues again after so long; a new job is seen at once')
        .argParser(seconds(0.01, 60))
        .default(1_000, '1'),
    )
    .option('--rest <seconds>', 'rest so long after each job', seconds(0, 3_600), 0)
    .option(
      '--tries <count>',
      'try so often; 0: without end (default: as the queue says)',
      wholeNumber(0, 1_000_000),
    )
    .option(
      '--backoff <seconds>',
      'wait before the second, third, … try: 1,5,10; the last repeats (default: as the queue says)',
      toBackoff,
    )
    .option(
      '--timeout <seconds>',
      'fail a job after so long and end with exit code 1; 0: a day (default: as the queue says)',
      toTimeout,
    )
    .option(
      '--name <name>',
      'what the worker is called; no two on a server have one name (default: cli_ and its pid)',
      toName,
    )
    .option('--json', 'print what it does as one JSON object a line')
    .option('-q, --quiet', 'print nothing of what it does')
    .option(
      '-v, --verbose',
      'print what it does although it runs under supervisord, and its log to standard error',
    )
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
  // supervisord keeps what is printed, and nobody reads a line for each job.
  const isSupervised = process.env.SUPERVISOR_ENABLED !== undefined;
  const output = quiet ? 'none' : json ? 'json' : isSupervised && !verbose ? 'none' : 'text';
  return { name: name ?? process.env.WORKER_NAME, output, verbose };
}

function toQueues(text: string): QueueName[] {
  const names = text
    .split(',')
    .map((name) => name.trim())
    .filter(Boolean);
  if (names.length === 0) throw new InvalidArgumentError(`Name some of ${queueNames.join(',')}.`);
  try {
    return [...new Set(names.map(toQueueName))];
  } catch (error) {
    throw new InvalidArgumentError((error as Error).message);
  }
}

function toBackoff(text: string): number[] {
  const parse = seconds(0, day);
  const waits = text.split(',').map((part) => part.trim());
  if (waits.length > 100)
    throw new InvalidArgumentError('A hundred waits at the most; the last one repeats.');
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
Queues, in the order in which they are served unless --queue says otherwise:
  ${queueNames.join(',')}

Up to WORKER_CONCURRENCY jobs run at once; with --once, one. A job of a whatsapp- queue stands for an account that has something
to send; with --once and --max-jobs it is one message.

Signals: TERM, INT and QUIT end it after its present jobs, USR2 pauses it, CONT has it continue.
Exit codes: 0 ended as asked, 1 an error, a job that ran past its time, or no connection for a minute, 12 too much memory.

Examples:
  flotilla queue:work
  flotilla queue:work --queue=messaging,campaign-stats,whatsapp-urgent,whatsapp-high,whatsapp-normal,whatsapp-campaign --tries=3 --timeout=300
  flotilla queue:work --queue=whatsapp-campaign --stop-when-empty --max-time=3600
  flotilla queue:work --once --json`;
