import { fileURLToPath } from 'node:url';
import type { Config } from '../platform/config/config.js';
import { withDeadline } from '../platform/deadline.js';
import type { Logger } from '../platform/logging/logger.js';
import { createContext, startRole } from '../platform/start-role.js';
import { QueueWorker } from '../queues/queue-worker.js';
import { defaultWorkerOptions, exitCodes, type WorkerOptions } from '../queues/worker-options.js';
import { silentReport, type WorkerReport } from '../queues/worker-report.js';
import { WorkerModule } from './worker.module.js';

const closeMs = 5_000;

/**
 * Consumes queues until there is a reason to stop. SIGTERM, SIGINT and SIGQUIT end the worker after its running jobs, SIGUSR2
 * pauses it, SIGCONT resumes it.
 * @returns the exit code
 */
export async function runWorker(
  config: Config,
  logger: Logger,
  options: WorkerOptions = defaultWorkerOptions,
  report: WorkerReport = silentReport,
): Promise<number> {
  const context = await createContext(WorkerModule, config, logger, { handleSignals: false });
  const worker = context.get(QueueWorker);
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGQUIT'] as const) process.on(signal, () => worker.stop());
  process.on('SIGUSR2', () => worker.pause());
  process.on('SIGCONT', () => worker.continue());
  const reason = await worker.work(options, report);
  try {
    await withDeadline(context.close(), closeMs, () => new Error(`not within ${closeMs} ms`));
  } catch (error) {
    logger.warn({ err: error }, 'connections did not close; ending the process');
  }
  return exitCodes[reason];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  // A job that hangs would keep the process alive.
  await startRole('worker', async (config, logger) => process.exit(await runWorker(config, logger)));
}
