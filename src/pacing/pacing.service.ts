import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { firstId } from '../platform/database/ids.js';
import { Problem } from '../platform/errors/problem.js';
import { WorkspacesService } from '../workspaces/workspaces.service.js';
import { newPacingState, underNewSettings } from './pacing.js';
import { type SendingResponse, toSendingResponse } from './pacing.dto.js';
import {
  columnsOf,
  pacingColumns,
  type PacingRow,
  settingsOf,
  stateColumns,
  stateOf,
} from './pacing-rows.js';

export class ColdNotPaused extends Problem {
  constructor(accountId: string) {
    super(
      409,
      'account.cold_not_paused',
      `Messages to cold contacts are not paused. sending.cold of GET /accounts/${accountId} says what holds them back, if anything does.`,
    );
  }
}

/**
 * Which accounts are paced, and how. A row of `account_pacing` exists exactly for those that are: the claim of a message
 * looks there when its account may send again. What a single message changes is `sending/pacing-reservations.ts`.
 */
@Injectable()
export class PacingService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    workspaces: WorkspacesService,
  ) {
    workspaces.onPacing((manager, workspaceId) => this.apply(manager, { workspaceId }));
  }

  /** Makes the settings of an account, or of all accounts of a workspace, hold from now on. */
  async apply(
    manager: EntityManager,
    { accountId, workspaceId }: { accountId?: string; workspaceId?: string },
  ): Promise<void> {
    const chosen: { id: string }[] = await manager.query(
      `select id from accounts where (id = $1 or workspace_id = $2) order by id for no key update`,
      [accountId ?? null, workspaceId ?? null],
    );
    const ids = chosen.map(({ id }) => id);
    await manager.query(
      'select from account_pacing where account_id = any($1) order by account_id for update',
      [ids],
    );
    const rows = await this.read(manager, ids);
    const unpaced = rows.filter((row) => row.isPaced && !settingsOf(row).enabled);
    if (unpaced.length > 0) await this.remove(manager, unpaced);
    const paced = rows.filter((row) => settingsOf(row).enabled);
    if (paced.length > 0) await this.write(manager, paced);
  }

  /** What is visible of how each account sends. */
  async describe(accountIds: string[]): Promise<Map<string, SendingResponse>> {
    const rows = await this.read(this.database.manager, accountIds);
    return new Map(rows.map((row) => [row.accountId, toSendingResponse(row)]));
  }

  /** Lets messages to cold contacts go on before their cool-down is over. @throws ColdNotPaused */
  async resumeCold(accountId: string): Promise<void> {
    const [, resumed] = await this.database.query(
      `update account_pacing set cold_paused_until = null, cold_pause_reason = null, refusals = 0
       where account_id = $1 and cold_paused_until > now()`,
      [accountId],
    );
    if (resumed === 0) throw new ColdNotPaused(accountId);
  }

  /** Says that cool-downs are over; messages go on without this. */
  async endCoolDowns(): Promise<void> {
    await this.database.query(
      `update account_pacing set cold_paused_until = null, cold_pause_reason = null, refusals = 0
       where cold_paused_until <= now()`,
    );
  }

  private read(manager: EntityManager, accountIds: string[]): Promise<PacingRow[]> {
    return manager.query(
      `select ${pacingColumns} from accounts a join workspaces w on w.id = a.workspace_id left join account_pacing p on p.account_id = a.id
       where a.id = any($1)`,
      [accountIds],
    );
  }

  private async write(manager: EntityManager, rows: PacingRow[]): Promise<void> {
    const wanted = rows.map((row) => {
      const now = row.now.getTime();
      const settings = settingsOf(row);
      const state = row.isPaced ? underNewSettings(stateOf(row), settings, now) : newPacingState;
      return { account_id: row.accountId, ...columnsOf(state, settings, now) };
    });
    // An account that has been linked before is not new: its warm-up began then.
    await manager.query(
      `insert into account_pacing (account_id, workspace_id, marking_after, ${stateColumns.names})
       select a.id, a.workspace_id, $2, ${stateColumns.names
         .split(', ')
         .map((name) =>
           name === 'warm_up_from'
             ? `coalesce(wanted.warm_up_from, (a.linked_at at time zone 'UTC')::date)`
             : `wanted.${name}`,
         )
         .join(', ')}
       from jsonb_to_recordset($1::jsonb) as wanted (account_id uuid, ${stateColumns.types})
       join accounts a on a.id = wanted.account_id
       on conflict (account_id) do update set ${stateColumns.from('excluded')}`,
      [JSON.stringify(wanted), firstId],
    );
  }

  private async remove(manager: EntityManager, rows: PacingRow[]): Promise<void> {
    const ids = rows.map(({ accountId }) => accountId);
    // Whoever heard of the pause hears of its end.
    await manager.query(
      'update account_pacing set cold_paused_until = null where account_id = any($1) and cold_paused_until is not null',
      [ids],
    );
    await manager.query('delete from account_pacing where account_id = any($1)', [ids]);
  }
}
