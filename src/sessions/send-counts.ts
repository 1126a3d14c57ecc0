import type { Environment } from '../accounts/account.entity.js';

export interface SendCount {
  environment: Environment;
  version: string;
  sends: number;
  failures: number;
}

/** The sends of this instance by version of WhatsApp Web, since they were last written. */
export class SendCounts {
  private counts = new Map<string, SendCount>();

  count(environment: Environment, version: string | null, isOk: boolean): void {
    if (version === null) return;
    const key = `${environment}/${version}`;
    const counted = this.counts.get(key) ?? { environment, version, sends: 0, failures: 0 };
    counted[isOk ? 'sends' : 'failures'] += 1;
    this.counts.set(key, counted);
  }

  /** Returns the counts, and begins again. */
  take(): SendCount[] {
    const taken = [...this.counts.values()];
    this.counts = new Map();
    return taken;
  }

  /** Adds counts that could not be written. */
  putBack(counts: SendCount[]): void {
    for (const { environment, version, sends, failures } of counts) {
      const key = `${environment}/${version}`;
      const now = this.counts.get(key);
      this.counts.set(key, {
        environment,
        version,
        sends: sends + (now?.sends ?? 0),
        failures: failures + (now?.failures ?? 0),
      });
    }
  }
}
