/** What `chaos` takes and gives; see chaos.mjs. */
import type { Verdict } from './chaos-judge.mjs';

export interface ChaosOptions {
  /** How long faults are injected; the recovery comes on top. */
  minutes: number;
  /** Of an earlier run, to see its faults again; a random one unless given. */
  seed?: number;
  log?: (text: string) => void;
  /** Ends the run early, with an error. */
  signal?: AbortSignal;
}

export interface ChaosResult extends Verdict {
  seed: number;
  minutes: number;
  kills: number;
  /** How often each fault came, for example `kill worker`. */
  injected: Record<string, number>;
  /** Things to break that were not there. */
  skipped: number;
  conflicts: number;
  /** The most messages of one account that were on their way at once. */
  maxInFlight: number;
  /** New QR codes. */
  qrs: number;
  recoverySeconds: number;
  /** The folder with what went wrong, when anything did. */
  evidence?: string;
}

export function chaos(options: ChaosOptions): Promise<ChaosResult>;
