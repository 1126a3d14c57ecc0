import { setTimeout as delay } from 'node:timers/promises';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';

/** How long what sessions tell is gathered before it is written together. */
const gatherMs = 100;
const retryMs = 500;
const catchUpAttempts = 5;
const catchUpPauseMs = 5_000;

/** Writes what the sessions of this instance tell a moment after they told it, and again until it is written. */
export class WriteBehind {
  private writing: Promise<void> | null = null;
  private stopping = false;

  /**
   * @param write writes what was gathered; what it could not write stays gathered
   * @param waiting how much is gathered that can be written, by its kind
   */
  constructor(
    private readonly write: () => Promise<void>,
    private readonly waiting: () => Record<string, number>,
    private readonly logger: Logger,
  ) {}

  /** Something was gathered. */
  schedule(): void {
    if (this.writing || this.stopping) return;
    this.writing = this.writeSoon().finally(() => {
      this.writing = null;
      if (Object.values(this.waiting()).some((count) => count > 0)) this.schedule();
    });
  }

  /**
   * Reads what a session's page learned before anybody listened, and again what could not be read, as long as the session is
   * the same.
   * @param read what it throws as a Problem says that there is no such session any more
   */
  async catchUp(accountId: string, read: () => Promise<void>): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await read();
        return;
      } catch (error) {
        this.logger.warn(
          { err: error, accountId, attempt },
          'what came while the account was away could not be read',
        );
        if (this.stopping || attempt >= catchUpAttempts || error instanceof Problem) return;
      }
      await delay(catchUpPauseMs, undefined, { ref: false });
    }
  }

  /** Writes what is left, once: when the process ends, after the sessions have ended. */
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
