import { queueNames, type QueueName, type QueuePolicy } from './queue-policies.js';

/** How a worker works. Times are milliseconds; 0 of a limit is none. */
export interface WorkerOptions {
  /** The most important first. */
  queues: readonly QueueName[];
  /** Takes one job and ends; without a job it ends after `sleepMs`. */
  once: boolean;
  /** Ends when nothing is waiting any more. */
  stopWhenEmpty: boolean;
  /** Ends after so many jobs. */
  maxJobs: number;
  maxTimeMs: number;
  /** Ends when its process has more memory. */
  maxMemoryBytes: number;
  /** How long empty queues are waited for before they are looked at again; a new job is taken at once all the same. */
  sleepMs: number;
  /** How long a slot rests after a job. */
  restMs: number;
  /** What holds instead of the policy of each queue. */
  policy: Partial<QueuePolicy>;
}

export const defaultWorkerOptions: WorkerOptions = {
  queues: queueNames,
  once: false,
  stopWhenEmpty: false,
  maxJobs: 0,
  maxTimeMs: 0,
  maxMemoryBytes: 0,
  sleepMs: 1_000,
  restMs: 0,
  policy: {},
};

/** Why a worker ended. */
export type StopReason =
  'lost_connection' | 'signal' | 'timeout' | 'memory' | 'restart' | 'empty' | 'max_time' | 'max_jobs';

/** As Laravel's: what supervises a worker starts it anew after any of them. */
export const exitCodes: Record<StopReason, number> = {
  lost_connection: 1,
  timeout: 1,
  signal: 0,
  memory: 12,
  restart: 0,
  empty: 0,
  max_time: 0,
  max_jobs: 0,
};
