/** What `judge` takes and gives; see chaos-judge.mjs. */

/** What is looked at of a row of our table. */
export interface Row {
  id: string;
  text: string;
  status: string;
  /** The code of its error. */
  error: string | null;
}

/** What is looked at of a line of the sandbox's ledger. */
export interface Line {
  seq: number;
  from: string;
  text: string;
  duplicate: boolean;
}

export interface Verdict {
  accepted: number;
  /** How many different messages were received. */
  received: number;
  /** Sent again under their id, and dropped by the recipient. */
  sentAgain: number;
  /** How many messages had each end. */
  ends: Record<'sent' | 'failed' | 'cancelled' | 'expired' | 'unknown', number>;
  lost: number;
  doubled: number;
  /** Received after a later one of their account and priority. */
  disorder: number;
  unknown: number;
  /** Said not to have been sent, and received all the same. */
  denied: number;
  /** Failed, although nobody refused it. */
  failed: number;
  /** In our table, although no client was told so. */
  unasked: number;
  /** Sent from another account's number. */
  misdirected: number;
}

export interface Offence {
  problem: string;
  text: string;
  row?: Row;
  lines?: Line[];
}

export function judge(run: {
  /** What clients were told, by text: the id. */
  accepted: Map<string, string>;
  /** All outgoing messages of our table. */
  rows: Row[];
  /** What the sandbox accepted, in order. */
  ledger: Line[];
  /** The numbers of the accounts. */
  phones: string[];
}): Verdict & { offences: Offence[] };
