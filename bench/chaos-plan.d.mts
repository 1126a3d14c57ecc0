/** See chaos-plan.mjs. */

/** One thing that goes wrong. */
export interface Fault {
  kind: 'kill' | 'hang' | 'flush' | 'supervisord' | 'sandbox';
  /** The program that it happens to; of the sandbox, the name of the fault. */
  what: string;
  /** 0 to 1: which of several such programs or accounts. */
  pick: number;
  /** How long a hang or a fault of the sandbox lasts. */
  forMs: number;
  /** Until the next fault. */
  pauseMs: number;
}

/** The faults of a seed, without end. */
export function faultsOf(seed: number): Generator<Fault, never>;
