import type { Logger } from '../platform/logging/logger.js';
import type { AccountDriver } from './account-driver.js';

/** Measures the browsers of an instance, and restarts those that exceed their memory budget. */
export class MemoryWatch {
  /** The last measurement, by account. */
  private readonly measured = new Map<string, { bytes: number; isOverBudget: boolean }>();

  /** @param budgetBytes of one browser with all its processes */
  constructor(
    private readonly budgetBytes: number,
    private readonly logger: Logger,
  ) {}

  /** The memory of all browsers in bytes, as last measured. */
  get bytes(): number {
    return [...this.measured.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /**
   * Restarts a session if two checks in a row find that its browser exceeds the budget.
   * @param drivers by account; a driver may leave during the check
   */
  async check(drivers: ReadonlyMap<string, AccountDriver>): Promise<void> {
    for (const [id, driver] of drivers) {
      if (!driver.ready) continue;
      const bytes = await driver.current.memoryBytes().catch((error: unknown) => {
        this.logger.debug({ err: error, accountId: id }, 'the memory of a browser could not be read');
        return null;
      });
      if (bytes === null || !drivers.has(id)) continue;
      const isOverBudget = bytes > this.budgetBytes;
      if (isOverBudget && this.measured.get(id)?.isOverBudget) {
        this.logger.warn({ accountId: id, bytes }, 'a browser exceeds its memory budget: restarting it');
        this.measured.delete(id);
        driver.restart('memory_budget');
      } else {
        this.measured.set(id, { bytes, isOverBudget });
      }
    }
  }

  /** Forgets an account whose browser is gone. */
  forget(accountId: string): void {
    this.measured.delete(accountId);
  }
}
