/** What `chaos` takes and gives; see chaos.mjs. */
export interface ChaosOptions {
  /** How long faults are injected; the recovery comes on top. */
  minutes: number;
  /** Of an earlier run, to see its faults again; a random one unless given. */
  seed?: number;
  log?: (text: string) => void;
  /** Ends the run early, with an error. */
  signal?: AbortSignal;
}

export interface ChaosResult {
  seed: number;
  minutes: number;
  kills: number;
  /** How often each fault came, for example `kill worker`. */
  injected: Record<string, number>;
  accepted: number;
  /** How many different messages were received. */
  received: number;
  /** Sent again under their id, and dropped by the recipient. */
  sentAgain: number;
  /** How many messages had each end. */
  ends: Record<'sent' | 'failed' | 'cancelled' | 'expired' | 'unknown', number>;
  lost: number;
  doubled: number;
  disorder: number;
  unknown: number;
  /** Said not to have been sent, and received all the same. */
  denied: number;
  /** Failed, although nobody refused it. */
  failed: number;
  /** In our table, although no client was told so. */
  unasked: number;
  conflicts: number;
  /** The most messages of one account that were on their way at once. */
  maxInFlight: number;
  qrs: number;
  recoverySeconds: number;
  /** The folder with what went wrong, when anything did. */
  evidence?: string;
}

export function chaos(options: ChaosOptions): Promise<ChaosResult>;
