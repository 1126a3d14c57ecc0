import type { Job } from 'bullmq';
import type { JobOutcome } from './job-runner.js';
import type { QueueName } from './queue-policies.js';

/** Shows the jobs of a worker that was started by hand. */
export interface WorkerReport {
  processing(job: Job, queue: QueueName): void;
  ended(job: Job, queue: QueueName, outcome: JobOutcome, ms: number): void;
}

export const silentReport: WorkerReport = { processing: () => undefined, ended: () => undefined };

type Print = (line: string) => void;

const labels = {
  processed: 'Processed: ',
  released: 'Released:  ',
  failed: 'Failed:    ',
  timed_out: 'Failed:    ',
};

/** Prints lines in the format of Laravel. */
export function textReport(print: Print): WorkerReport {
  const line = (job: Job, label: string, more = '') =>
    print(
      `[${new Date().toISOString().slice(0, 19).replace('T', ' ')}][${job.id}] ${label} ${job.name}${more}`,
    );
  return {
    processing: (job) => line(job, 'Processing:'),
    ended: (job, _queue, { kind, error, retryInMs }, ms) => {
      const took = ` (${ms < 1_000 ? `${Math.round(ms)} ms` : `${(ms / 1_000).toFixed(2)} s`})`;
      const retry = retryInMs === undefined ? '' : `; retry in ${retryInMs / 1_000} s`;
      line(job, labels[kind], `${took}${error ? `: ${firstLine(error)}` : ''}${retry}`);
    },
  };
}

/** Prints one JSON object per line, with the fields of Laravel except `uuid` and `connection`. */
export function jsonReport(print: Print): WorkerReport {
  const entry = (job: Job, queue: QueueName, status: string, more: object) =>
    print(
      JSON.stringify({
        level: status === 'failed' ? 'error' : status === 'released_after_exception' ? 'warning' : 'info',
        id: job.id,
        queue,
        job: job.name,
        status,
        attempts: job.attemptsStarted,
        timestamp: new Date().toISOString(),
        ...more,
      }),
    );
  return {
    processing: (job, queue) => entry(job, queue, 'starting', {}),
    ended: (job, queue, { kind, error, retryInMs }, ms) =>
      entry(job, queue, statuses[kind], {
        result: kind === 'processed' ? 'deleted' : kind === 'released' ? 'released' : 'failed',
        // In seconds, as in Laravel.
        duration: Math.round(ms * 1_000) / 1_000_000,
        durationMs: Math.round(ms * 100) / 100,
        ...(error && { exception: error.name, message: firstLine(error) }),
        ...(retryInMs !== undefined && { retryInMs }),
      }),
  };
}

const statuses = {
  processed: 'success',
  released: 'released_after_exception',
  failed: 'failed',
  timed_out: 'failed',
} as const;

function firstLine(error: Error): string {
  return error.message.split('\n', 1)[0]!.slice(0, 500);
}
