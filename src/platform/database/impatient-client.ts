import { Client, type ClientConfig } from 'pg';
import { destroyConnection, isQueryTimeout } from './pg-internals.js';

/** How long an answer of PostgreSQL may take. The slowest statement, which writes a large session snapshot, takes a fraction of it. */
export const queryTimeoutMs = 20_000;

/**
 * The settings of every session. The server notices within seconds that this machine is dead (the default is two hours, and
 * the locks of a dead machine would stay that long). It ends a transaction that its client has abandoned. JIT is off, because
 * compiling a query takes longer than any query of Flotilla runs.
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
 * A connection that closes itself when an answer does not come in time. A network that drops packets reports no error, and
 * every later query would wait behind the lost query.
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
