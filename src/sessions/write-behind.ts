import { setTimeout as delay } from 'node:timers/promises';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';

/** How long reports of sessions are gathered before they are written together. */
const gatherMs = 100;
const retryMs = 500;
const catchUpAttempts = 5;
const catchUpPauseMs = 5_000;

/** Writes the reports of this instance's sessions with a short delay, and retries until they are written. */
export class WriteBehind {
  private writing: Promise<void> | null = null;
  private stopping = false;

  /**
   * @param write writes the gathered items; items that it could not write stay gathered
   * @param waiting the number of gathered items that can be written, by kind
   */
  constructor(
    private readonly write: () => Promise<void>,
    private readonly waiting: () => Record<string, number>,
    private readonly logger: Logger,
  ) {}

  /** Plans a write, after an item was gathered. */
  schedule(): void {
    if (this.writing || this.stopping) return;
    this.writing = this.writeSoon().finally(() => {
      this.writing = null;
      if (Object.values(this.waiting()).some((count) => count > 0)) this.schedule();
    });
  }

  /**
   * Reads what a session's page learned before the listener followed it. Retries a few times while the session exists.
   * @param read throws a Problem if the session no longer exists
   */
  async catchUp(accountId: string, read: () => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await read();
        return;
      } catch (error) {
        this.logger.warn(
          { err: error, accountId, attempt },
          'the events of the time before the connection could not be read',
        );
        if (this.stopping || attempt >= catchUpAttempts || error instanceof Problem) return;
      }
      await delay(catchUpPauseMs, undefined, { ref: false });
    }
  }

  /** Writes the remaining items once. For the end of the process, after the sessions have ended. */
  async stop(): Promise<void> {
    this.stopping = true;
    await this.writing;
    await this.write();
  }

  private async writeSoon(): Promise<void> {
    await delay(gatherMs);
    try {
      await this.write();
    } catch (error) {
      this.logger.warn({ err: error, ...this.waiting() }, 'not written yet; trying again');
      await delay(retryMs);
    }
  }
}
