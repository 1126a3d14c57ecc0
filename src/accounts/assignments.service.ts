import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { InstancesService } from '../instances/instances.service.js';
import type {
  Candidate,
  PlacementFilters,
  PlacementRequest,
  SimpleLoadBalancer,
} from '../instances/simple-load-balancer.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { drivenStatuses } from './account.entity.js';

/** The session is on the disk of one server. On another server, the account would need a new QR code. */
export class SessionNotPortable extends Problem {
  constructor(serverId: string) {
    super(
      409,
      'account.session_not_portable',
      `The session of this account is on server ${serverId} only. Choose an instance of that server. Or set SESSION_STORE=postgres on all servers: PostgreSQL then keeps an encrypted copy of every session.`,
    );
  }
}

export class NoRoom extends Problem {
  constructor(instanceId: string | undefined) {
    super(
      409,
      instanceId === undefined ? 'instance.none_available' : 'instance.not_available',
      instanceId === undefined
        ? 'No other running instance that may have this account has room. Start another instance, or raise INSTANCE_MAX_ACCOUNTS.'
        : `Instance ${instanceId} is not active, is draining, is full, or does not match the account's placement filters. Choose another instance, or ask the operator to look at GET /api/v1/admin/instances.`,
    );
  }
}

/** The move of one account to another instance. */
export interface Move {
  accountId: string;
  from: string;
  to: string;
}

/** An account to be placed. */
interface Unplaced {
  id: string;
  workspaceId: string;
  instanceId: string | null;
  serverId: string | null;
  pinnedInstanceId: string | null;
  /** The only server that the account may be on, because its session is there or because an operator pinned it. */
  onServer: string | null;
  placement: PlacementFilters | null;
}

/** SQL: the statuses in which a person must decide before a browser may start. */
const undecided = `'conflict', 'failed'`;
/** SQL: the instances whose accounts must move to other instances. */
const leaving = `select i.id from instances i join servers s on s.id = i.server_id
  where i.is_draining or not s.is_enabled or not s.is_healthy`;
/** After this time, the next moves no longer wait for a move that has not finished. */
const moveTimeoutMs = 120_000;
/** How many accounts one transaction places at most. */
const batchSize = 500;

/**
 * Decides which instance owns which account: places accounts, moves them, rebalances them, and takes them over from dead
 * instances. The assignment in the account's row is the only truth. Every change of owner increases the epoch (a trigger
 * does it). This service starts and stops no browser: the old owner closes its browser when it sees the change, and only then
 * may the new owner start one.
 */
@Injectable()
export class AssignmentsService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly instances: InstancesService,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * Places accounts on instances, and writes it. An account prefers its present instance, then the instance that its owner
   * asked for. Its status becomes `starting`, or `waiting` if no instance that may have it has room. It runs in the caller's
   * transaction, which must hold the placement lock.
   * @param reason the reason in the log
   * @returns how many accounts were placed
   */
  async place(manager: EntityManager, accountIds: string[], reason: string): Promise<number> {
    const balancer = await this.instances.balancer(manager);
    const accounts = await this.read(manager, 'a.id = any($1)', [accountIds]);
    const placed = accounts.map((account) => ({
      account,
      instance: pickInstance(balancer, account, {
        ...account,
        preferred: account.instanceId ?? account.pinnedInstanceId,
      }),
    }));
    await this.write(manager, balancer, placed, reason);
    return placed.filter(({ instance }) => instance !== null).length;
  }

  /** Places up to {@link batchSize} accounts that wait for room, the oldest of them first. @returns how many accounts were placed */
  async placeWaiting(): Promise<number> {
    const waiting = `a.status = 'waiting' and a.desired_state = 'connected'`;
    if (!(await this.anyAccount(waiting))) return 0;
    return this.inPlacement(async (manager) => {
      const ids = await this.lock(manager, waiting, []);
      return ids.length === 0 ? 0 : this.place(manager, ids, 'a place became free');
    });
  }

  /**
   * Moves the accounts of a dead instance to other instances, within their capacity. An account whose session is only on the
   * server of the dead instance stays there if no other instance of that server has room: when the instance comes back, the
   * account needs no QR code, but after a move it would.
   * @returns how many accounts moved
   */
  async failOver(instanceId: string): Promise<number> {
    const { takeoverMarginMs, restartGraceMs } = this.config.instance;
    return this.inPlacement(async (manager) => {
      const [dead] = await manager.query<{ status: string }[]>(
        `select status from instances where id = $1
           and lease_expires_at + $2::int * interval '1 millisecond' < now()
           and (stopped_at is null or stopped_at + $3::int * interval '1 millisecond' < now()) for update`,
        [instanceId, takeoverMarginMs, restartGraceMs],
      );
      if (!dead) return 0;
      if (dead.status !== 'down') await this.instances.markDown(manager, instanceId);
      const ids = await this.lock(
        manager,
        `a.instance_id = $1 and a.desired_state = 'connected' and a.status not in (${undecided})`,
        [instanceId],
      );
      const balancer = await this.instances.balancer(manager);
      const placed = (await this.read(manager, 'a.id = any($1)', [ids])).map((account) => ({
        account,
        instance: pickInstance(balancer, account, { ...account, except: instanceId }),
      }));
      const stays = ({ account, instance }: (typeof placed)[number]) =>
        instance === null && account.onServer !== null;
      await this.write(
        manager,
        balancer,
        placed.filter((placement) => !stays(placement)),
        'failover',
      );
      await manager.query(
        `update accounts set status = 'reconnecting', status_reason = $2, qr = null, pairing_code = null
         where id = any($1) and status_reason is distinct from $2 and status <> 'waiting'`,
        [
          placed.filter(stays).map(({ account }) => account.id),
          'instance_down: its session is on that server only',
        ],
      );
      return placed.filter(({ instance }) => instance !== null).length;
    });
  }

  /**
   * Moves one account to another instance: the named instance, or the best other one. An account that is not connected moves
   * but does not start. It runs in the caller's transaction, which must hold the placement lock.
   * @throws InstanceNotFound, NoRoom, SessionNotPortable
   */
  async migrate(manager: EntityManager, accountId: string, instanceId?: string): Promise<void> {
    const target = instanceId === undefined ? null : await this.instances.get(instanceId, manager);
    const balancer = await this.instances.balancer(manager);
    const [account] = await this.read(manager, 'a.id = $1', [accountId]);
    if (!account || (target && target.id === account.instanceId)) return;
    if (target && account.onServer !== null && account.onServer !== target.serverId) {
      throw new SessionNotPortable(account.onServer);
    }
    const chosen = pickInstance(balancer, account, {
      ...account,
      preferred: instanceId,
      except: account.instanceId,
    });
    if (!chosen || (target && chosen.id !== target.id)) throw new NoRoom(instanceId);
    await this.write(manager, balancer, [{ account, instance: chosen }], 'migrate');
  }

  /**
   * Finds the fewest moves that even out the load: from the fullest instance to the emptiest instance that may have one of
   * its accounts, until the two differ by at most one account.
   * @param dryRun true: only return the moves. False: also schedule them; {@link advanceMoves} begins a few at a time.
   */
  async rebalance(dryRun: boolean): Promise<Move[]> {
    return this.inPlacement(async (manager) => {
      const balancer = await this.instances.balancer(manager);
      const accounts = await this.read(
        manager,
        `a.desired_state = 'connected' and a.instance_id is not null and a.move_to is null and a.moving_since is null
         and a.pinned_instance_id is null and a.status not in (${undecided}, 'qr', 'pairing')`,
        [],
      );
      const moves = evenOut(balancer, accounts);
      if (!dryRun) {
        await manager.query(
          `update accounts a set move_to = m.instance_id from unnest($1::uuid[], $2::text[]) m(id, instance_id)
           where a.id = m.id`,
          [moves.map(({ accountId }) => accountId), moves.map(({ to }) => to)],
        );
      }
      return moves;
    });
  }

  /**
   * Begins moves after a rebalancing or a drain, and away from servers that are disabled or unhealthy. At most
   * `MOVES_AT_ONCE` moves run at the same time.
   * @returns how many moves began
   */
  async advanceMoves(): Promise<number> {
    const moving = `a.move_to is not null or a.moving_since is not null or a.instance_id in (${leaving})`;
    if (!(await this.anyAccount(`(${moving}) and a.desired_state = 'connected'`))) return 0;
    return this.inPlacement(async (manager) => {
      await manager.query(
        `update accounts set moving_since = null where moving_since is not null
           and (status not in ('starting', 'syncing', 'reconnecting')
             or moving_since < now() - $1::int * interval '1 millisecond')`,
        [moveTimeoutMs],
      );
      const [running] = await manager.query<{ count: number }[]>(
        'select count(*)::int as count from accounts where moving_since is not null',
      );
      const free = this.config.movesAtOnce - running!.count;
      if (free <= 0) return 0;
      const ids = await this.lock(
        manager,
        `(a.move_to is not null or a.instance_id in (${leaving}))
         and a.desired_state = 'connected' and a.moving_since is null and a.status not in ('waiting', ${undecided})`,
        [],
        // More than `free`, because some of these accounts may have no instance to move to now.
        Math.max(free, 50),
      );
      if (ids.length === 0) return 0;
      const balancer = await this.instances.balancer(manager);
      const moved: { account: Unplaced; instance: Candidate }[] = [];
      const stuck: string[] = [];
      for (const account of await this.read(manager, 'a.id = any($1)', [ids])) {
        if (moved.length === free) break;
        const { moveTo: preferred, instanceId: except } = account;
        const instance = pickInstance(balancer, account, { ...account, preferred, except });
        if (instance) moved.push({ account, instance });
        else stuck.push(account.id);
      }
      await this.write(manager, balancer, moved, 'move');
      const movedIds = moved.map(({ account }) => account.id);
      await manager.query(
        `update accounts set move_to = null, moving_since = case when id = any($1) then now() end
         where id = any($1) or (id = any($2) and move_to is not null)`,
        [movedIds, stuck],
      );
      return moved.length;
    });
  }

  /** Marks the accounts of dead instances as `reconnecting`: no instance drives them until theirs is back or another one takes over. */
  async markOrphans(): Promise<void> {
    await this.database.query(
      `update accounts a set status = 'reconnecting', status_reason = 'instance_down', qr = null, pairing_code = null
       from instances i where i.id = a.instance_id and i.lease_expires_at < now() and a.status = any($1)`,
      [drivenStatuses],
    );
  }

  /** The instances whose lease has expired and that still own connected accounts, or are not yet marked as down. */
  async expiredInstances(): Promise<{ id: string; leaseExpiresAt: string }[]> {
    return this.database.query(
      `select id, lease_expires_at::text as "leaseExpiresAt" from instances i where lease_expires_at < now()
         and (status <> 'down' or exists (select from accounts a where a.instance_id = i.id
           and a.desired_state = 'connected' and a.status not in ('waiting', ${undecided})))`,
    );
  }

  /** Runs a transaction that holds the placement lock: no other transaction places accounts until it ends. */
  private inPlacement<Result>(work: (manager: EntityManager) => Promise<Result>): Promise<Result> {
    return this.database.transaction(async (manager) => {
      await this.instances.lockPlacement(manager);
      return work(manager);
    });
  }

  /** Whether an account meets a condition. It takes no lock, so that a run without work blocks no other transaction. */
  private async anyAccount(condition: string): Promise<boolean> {
    const [row] = await this.database.query<{ any: boolean }[]>(
      `select exists (select from accounts a where ${condition}) as "any"`,
    );
    return row!.any;
  }

  /** Locks some accounts that meet a condition. The order is random, so that accounts that cannot be placed do not block the others. */
  private async lock(
    manager: EntityManager,
    condition: string,
    values: unknown[],
    limit = batchSize,
  ): Promise<string[]> {
    const rows: { id: string }[] = await manager.query(
      `select a.id from accounts a where ${condition} order by random() limit ${limit} for update skip locked`,
      values,
    );
    return rows.map(({ id }) => id);
  }

  private async read(
    manager: EntityManager,
    condition: string,
    values: unknown[],
  ): Promise<(Unplaced & { moveTo: string | null })[]> {
    // A session is on the server that drives it. With a snapshot, it can start on any server.
    const isPortable = this.config.sessions.store === 'postgres' ? 's.account_id is not null' : 'false';
    return manager.query(
      `select a.id, a.workspace_id as "workspaceId", a.instance_id as "instanceId", a.placement,
         coalesce(i.server_id, a.pinned_server_id) as "serverId",
         a.pinned_instance_id as "pinnedInstanceId", a.move_to as "moveTo",
         coalesce(a.pinned_server_id, case when a.linked_at is not null and not ${isPortable} then i.server_id end) as "onServer"
       from accounts a left join instances i on i.id = a.instance_id left join session_snapshots s on s.account_id = a.id
       where ${condition} order by a.created_at, a.id`,
      values,
    );
  }

  private async write(
    manager: EntityManager,
    balancer: SimpleLoadBalancer,
    placed: { account: Unplaced; instance: Candidate | null }[],
    reason: string,
  ): Promise<void> {
    if (placed.length === 0) return;
    await manager.query(`select set_config('flotilla.reason', $1, true)`, [reason]);
    await manager.query(
      `update accounts a set
         instance_id = case when p.instance_id is not null then p.instance_id when p.stays then a.instance_id end,
         pinned_server_id = case when p.instance_id is null then a.pinned_server_id end,
         move_to = null,
         status = case when a.desired_state <> 'connected' then a.status
                       when p.instance_id is null then 'waiting' else 'starting' end,
         status_reason = case when a.desired_state <> 'connected' then a.status_reason else p.reason end,
         qr = null, qr_expires_at = null, pairing_code = null, pairing_code_expires_at = null, updated_at = now()
       from unnest($1::uuid[], $2::text[], $3::boolean[], $4::text[]) p(id, instance_id, stays, reason)
       where a.id = p.id and (p.instance_id is not null or a.status <> 'waiting'
         or a.status_reason is distinct from p.reason)`,
      [
        placed.map(({ account }) => account.id),
        placed.map(({ instance }) => instance?.id ?? null),
        placed.map(({ account }) => account.onServer !== null),
        placed.map(({ account, instance }) => (instance ? null : waitingReason(account))),
      ],
    );
    await this.instances.writeTurns(manager, balancer.candidates);
  }
}

function pickInstance(
  balancer: SimpleLoadBalancer,
  { instanceId, serverId }: Unplaced,
  request: PlacementRequest,
): Candidate | null {
  return serverId === null ? balancer.next(request) : balancer.move({ instanceId, serverId }, request);
}

function waitingReason({ onServer }: Unplaced): string {
  return onServer === null
    ? 'no instance has room'
    : `server ${onServer}, which has its session, is away or full`;
}

/** Moves accounts in the balancer's counts until the load is even. @returns the moves */
function evenOut(balancer: SimpleLoadBalancer, accounts: Unplaced[]): Move[] {
  const onInstance = new Map<string, Unplaced[]>();
  for (const account of accounts) {
    const list = onInstance.get(account.instanceId!) ?? [];
    list.push(account);
    onInstance.set(account.instanceId!, list);
  }
  const moves: Move[] = [];
  const stuck = new Set<string>();
  for (;;) {
    const move = findMove(balancer, onInstance, stuck);
    if (!move) return moves;
    const { account, to } = move;
    const from = account.instanceId!;
    pickInstance(balancer, account, { ...account, preferred: to.id });
    onInstance.set(
      from,
      onInstance.get(from)!.filter((other) => other !== account),
    );
    moves.push({ accountId: account.id, from, to: to.id });
  }
}

function findMove(
  balancer: SimpleLoadBalancer,
  onInstance: Map<string, Unplaced[]>,
  stuck: Set<string>,
): { account: Unplaced; to: Candidate } | null {
  const byLoad = [...balancer.candidates].sort((a, b) => a.reserved - b.reserved || a.id.localeCompare(b.id));
  for (const fullest of byLoad.toReversed()) {
    if (stuck.has(fullest.id)) continue;
    for (const to of byLoad) {
      if (fullest.reserved - to.reserved <= 1) break;
      const account = onInstance.get(fullest.id)?.find((candidate) => balancer.mayTake(to, candidate));
      if (account) return { account, to };
    }
    // The emptier instances only get fuller: an account that cannot move there now cannot move there later.
    stuck.add(fullest.id);
  }
  return null;
}
