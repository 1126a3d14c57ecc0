import { Client, type ClientConfig } from 'pg';
import { destroyConnection, isQueryTimeout } from './pg-internals.js';

/** How long an answer of PostgreSQL may take. The longest statement, a large session snapshot, takes a fraction of it. */
export const queryTimeoutMs = 20_000;

/**
 * What every connection asks of the server: to notice within seconds that this machine is gone (the default is two hours,
 * for which locks of a dead machine would be kept), and to end a transaction that its client has forgotten. Compiling a
 * query takes longer than any of ours runs.
 */
export const sessionOptions = [
  '-c jit=off',
  '-c tcp_keepalives_idle=5',
  '-c tcp_keepalives_interval=2',
  '-c tcp_keepalives_count=3',
  '-c tcp_user_timeout=10000',
  '-c idle_in_transaction_session_timeout=15000',
].join(' ');

/**
 * A connection that is given up when an answer does not come in time: a network that drops packets says nothing, and every
 * later query would wait behind the lost one.
 */
export class ImpatientClient extends Client {
  constructor(config: ClientConfig) {
    super({ query_timeout: queryTimeoutMs, keepAlive: true, options: sessionOptions, ...config });
  }

  override query = ((...args: unknown[]) => {
    const outcome: unknown = (Client.prototype.query as (...all: unknown[]) => unknown).apply(this, args);
    if (outcome instanceof Promise) {
      outcome.catch((error: unknown) => {
        if (isQueryTimeout(error)) this.giveUp();
      });
    }
    return outcome;
  }) as Client['query'];

  /** Ends the connection without waiting for the other side. */
  giveUp(): void {
    destroyConnection(this);
  }
}
