import { queueNames, type QueueName, type QueuePolicy } from './queue-policies.js';

/** Options of a worker. Times are milliseconds. A limit of 0 means no limit. */
export interface WorkerOptions {
  /** The most important first. */
  queues: readonly QueueName[];
  /** The worker runs one job and ends. If no job arrives within `sleepMs`, it ends too. */
  once: boolean;
  /** The worker ends when its queues are empty. */
  stopWhenEmpty: boolean;
  /** The worker ends after this number of jobs. */
  maxJobs: number;
  maxTimeMs: number;
  /** The worker ends when its process uses more memory. */
  maxMemoryBytes: number;
  /** The time after which the worker checks empty queues again. A new job starts at once all the same. */
  sleepMs: number;
  /** How long a slot rests after a job. */
  restMs: number;
  /** Overrides the policy of each queue. */
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

/** Why a worker ends. */
export type StopReason =
  'lost_connection' | 'signal' | 'timeout' | 'memory' | 'restart' | 'empty' | 'max_time' | 'max_jobs';

/** The exit codes of Laravel's workers. The supervisor restarts a worker after each of them. */
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
