import pg, { type PoolClient } from 'pg';
import { presentContext } from '../context.js';

/** The PostgreSQL role that sees the rows of one workspace only. A migration creates it and its policies. */
export const tenantRole = 'flotilla_tenant';

/**
 * Isolates the present request: from now on, its queries see only the rows of one workspace.
 * @throws Error outside of a request
 */
export function isolate(workspaceId: string): void {
  const current = presentContext();
  if (!current?.isRequest) throw new Error('Only code that serves a request can be isolated.');
  current.workspaceId = workspaceId;
}

/** The workspace that the present code is isolated to. Null if it runs for Flotilla itself. */
export function isolatedTo(): string | null {
  return presentContext()?.workspaceId ?? null;
}

/** How many connections in a row may be unusable before that is an error: more than a pool has. */
const maxReplaced = 200;

type ConnectCallback = (
  error: Error | undefined,
  client: PoolClient | undefined,
  done: (release?: unknown) => void,
) => void;
type Connect = (callback: ConnectCallback) => void;

/**
 * A pool whose connections see only the rows that their user may see. The pool sets each connection to the workspace of the
 * code that asks for it. That costs a round trip only if the connection last served another workspace. A connection with an
 * unknown state is never handed out.
 */
export class IsolatingPool extends pg.Pool {
  /** The workspace that each connection is isolated to. A connection without an entry has never been isolated. */
  private readonly states = new WeakMap<PoolClient, string | null>();

  override connect(): Promise<PoolClient>;
  override connect(callback: ConnectCallback): void;
  override connect(callback?: ConnectCallback): Promise<PoolClient> | void {
    // Read here, in the caller's context: the pool calls back in the context of the code that released a connection.
    const workspaceId = isolatedTo();
    if (callback) return this.hand(workspaceId, callback);
    return new Promise((resolve, reject) =>
      this.hand(workspaceId, (error, client) => (client ? resolve(client) : reject(error))),
    );
  }

  private hand(workspaceId: string | null, callback: ConnectCallback, replaced = 0): void {
    (super.connect as Connect)((error, client, done) => {
      if (!client) return callback(error, client, done);
      // A new connection has no status yet.
      if ((client.getTransactionStatus() ?? 'I') !== 'I') {
        // Some code released it in the middle of a transaction. Its settings would end with that transaction, so it is closed.
        const left = new Error('The connection was released in the middle of a transaction.');
        done(left);
        if (replaced === maxReplaced) return callback(left, undefined, () => undefined);
        return this.hand(workspaceId, callback, replaced + 1);
      }
      if ((this.states.get(client) ?? null) === workspaceId) return callback(undefined, client, done);
      this.set(client, workspaceId).then(
        () => callback(undefined, client, done),
        (failure: Error) => {
          done(failure);
          callback(failure, undefined, () => undefined);
        },
      );
    });
  }

  private async set(client: PoolClient, workspaceId: string | null): Promise<void> {
    let broken: Error | undefined;
    const onError = (error: Error) => (broken = error);
    client.on('error', onError);
    try {
      await client.query({
        name: 'isolate',
        text: `select set_config('role', $1, false), set_config('flotilla.workspace', $2, false)`,
        values: [workspaceId === null ? 'none' : tenantRole, workspaceId ?? ''],
      });
      if (broken) throw broken;
      this.states.set(client, workspaceId);
    } finally {
      client.removeListener('error', onError);
    }
  }
}

/** The driver for TypeORM: the library `pg` with the isolating pool. */
export const isolatingDriver: unknown = Object.create(pg, { Pool: { value: IsolatingPool } });
