import { AsyncLocalStorage } from 'node:async_hooks';
import pg, { type PoolClient } from 'pg';
import { logContext } from '../logging/logger.js';

/** The role of PostgreSQL that sees the rows of one workspace only. A migration makes it and its policies. */
export const tenantRole = 'flotilla_tenant';

/** On whose behalf something runs: of one workspace, or of Flotilla itself. */
interface Behalf {
  workspaceId: string | null;
}

const behalf = new AsyncLocalStorage<Behalf>();

/** Runs what serves one request. It is Flotilla's own until {@link isolate} says whose it is. */
export function serveRequest(serve: () => void): void {
  behalf.run({ workspaceId: null }, serve);
}

/**
 * From now on what this request asks of PostgreSQL is asked for one workspace: other rows do not exist for it.
 * @throws Error outside of a request
 */
export function isolate(workspaceId: string): void {
  const current = behalf.getStore();
  if (!current) throw new Error('Only what serves a request can be isolated.');
  current.workspaceId = workspaceId;
}

/** The workspace that the present work is isolated to; null when it is Flotilla's own. */
export function isolatedTo(): string | null {
  return behalf.getStore()?.workspaceId ?? null;
}

/** Runs what a request has caused, but what is not done for it alone: what serves every stream, a log. Nor is that logged as its doing. */
export function asPlatform<Result>(work: () => Result): Result {
  return logContext.run({}, () => behalf.run({ workspaceId: null }, work));
}

/** How many connections in a row may be unusable before that is an error: more than a pool has. */
const mostReplaced = 200;

type Handed = (
  error: Error | undefined,
  client: PoolClient | undefined,
  done: (release?: unknown) => void,
) => void;
type Connect = (callback: Handed) => void;

/**
 * A pool whose connections see what the present work may see. Whoever gets one, gets it in the state of the workspace on
 * whose behalf it was asked for; that costs a round trip only when it last served another one. No connection is handed out
 * whose state is not certain.
 */
export class IsolatingPool extends pg.Pool {
  /** The workspace that each connection is isolated to; one that is not in it has never been. */
  private readonly states = new WeakMap<PoolClient, string | null>();

  override connect(): Promise<PoolClient>;
  override connect(callback: Handed): void;
  override connect(callback?: Handed): Promise<PoolClient> | void {
    // Here, where it is asked for: the pool answers from wherever a connection became free.
    const workspaceId = isolatedTo();
    if (callback) return this.hand(workspaceId, callback);
    return new Promise((resolve, reject) =>
      this.hand(workspaceId, (error, client) => (client ? resolve(client) : reject(error))),
    );
  }

  private hand(workspaceId: string | null, callback: Handed, replaced = 0): void {
    (super.connect as Connect)((error, client, done) => {
      if (!client) return callback(error, client, done);
      // A new connection has no status yet.
      if ((client.getTransactionStatus() ?? 'I') !== 'I') {
        // Somebody gave it back in the middle of a transaction: what it is set to ends with that. It is not used again.
        const left = new Error('The connection is in a transaction that nobody has ended.');
        done(left);
        if (replaced === mostReplaced) return callback(left, undefined, () => undefined);
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

/** What TypeORM takes for the library `pg`: the same with another pool. */
export const isolatingDriver: unknown = Object.create(pg, { Pool: { value: IsolatingPool } });
