import { Client, type ClientConfig } from 'pg';
import { destroyConnection, isQueryTimeout } from './pg-internals.js';

/** How long an answer of PostgreSQL may take. The slowest statement, which writes a large session snapshot, takes a fraction of it. */
export const queryTimeoutMs = 20_000;

/**
 * The settings of every session. A pooler such as PgBouncer refuses them among the parameters of the start, so each connection sets
 * them when it is there. The server notices within seconds that this machine is dead (the default is two hours, and
 * the locks of a dead machine would stay that long). It ends a transaction that its client has abandoned. JIT is off, because
 * compiling a query takes longer than any query of Flotilla runs.
 */
const sessionSettings = [
  'set jit = off',
  'set tcp_keepalives_idle = 5',
  'set tcp_keepalives_interval = 2',
  'set tcp_keepalives_count = 3',
  'set tcp_user_timeout = 10000',
  'set idle_in_transaction_session_timeout = 15000',
].join('; ');

/**
 * A connection that closes itself when an answer does not come in time. A network that drops packets reports no error, and
 * every later query would wait behind the lost query.
 */
export class ImpatientClient extends Client {
  constructor(config: ClientConfig) {
    super({ query_timeout: queryTimeoutMs, keepAlive: true, ...config });
  }

  override connect(): Promise<this>;
  override connect(callback: (error?: Error) => void): void;
  override connect(callback?: (error?: Error) => void): Promise<this> | void {
    const connected = this.connectAndSet();
    if (!callback) return connected;
    connected.then(() => callback(), callback);
  }

  private async connectAndSet(): Promise<this> {
    await super.connect();
    try {
      await this.query(sessionSettings);
    } catch (error) {
      this.giveUp();
      throw error;
    }
    return this;
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
