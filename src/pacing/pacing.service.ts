import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource, type EntityManager } from 'typeorm';
import { firstId } from '../platform/database/ids.js';
import { Problem } from '../platform/errors/problem.js';
import { WorkspacesService } from '../workspaces/workspaces.service.js';
import { newPacingState, limitWaits } from './pacing.js';
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
      `Messages to cold contacts are not paused. See sending.cold in GET /accounts/${accountId}: it says whether a budget keeps them back.`,
    );
  }
}

/**
 * Decides which accounts are paced, and how. An account has a row in `account_pacing` exactly if it is paced: the claim of a
 * message reads there when its account may send again. `sending/pacing-reservations.ts` updates the row for each message.
 */
@Injectable()
export class PacingService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    workspaces: WorkspacesService,
  ) {
    workspaces.onPacing((manager, workspaceId) => this.apply(manager, { workspaceId }));
  }

  /** Applies the settings of an account, or of all accounts of a workspace, from now on. */
  async apply(
    manager: EntityManager,
    { accountId, workspaceId }: { accountId?: string; workspaceId?: string },
  ): Promise<void> {
    const accounts: { id: string }[] = await manager.query(
      `select id from accounts where (id = $1 or workspace_id = $2) order by id for no key update`,
      [accountId ?? null, workspaceId ?? null],
    );
    const ids = accounts.map(({ id }) => id);
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

  /** How each account sends, as the API shows it. Without the accounts that do not exist. */
  async describe(accountIds: string[]): Promise<Map<string, SendingResponse>> {
    const rows = await this.read(this.database.manager, accountIds);
    return new Map(rows.map((row) => [row.accountId, toSendingResponse(row)]));
  }

  /** Lets messages to cold contacts leave again before their cool-down is over. @throws ColdNotPaused */
  async resumeCold(accountId: string): Promise<void> {
    const [, resumed] = await this.database.query<[unknown[], number]>(
      `update account_pacing set cold_paused_until = null, cold_pause_reason = null, refusals = 0
       where account_id = $1 and cold_paused_until > now()`,
      [accountId],
    );
    if (resumed === 0) throw new ColdNotPaused(accountId);
  }

  /** Ends cool-downs that are over, so that their end becomes an event. Sending does not depend on it: claims compare the time. */
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
      const state = row.isPaced ? limitWaits(stateOf(row), settings, now) : newPacingState;
      return { account_id: row.accountId, ...columnsOf(state, settings, now) };
    });
    // An account that was linked earlier is not new: its warm-up began on that day.
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
    // The update before the delete publishes the end of a pause, because its start was published.
    await manager.query(
      'update account_pacing set cold_paused_until = null where account_id = any($1) and cold_paused_until is not null',
      [ids],
    );
    await manager.query('delete from account_pacing where account_id = any($1)', [ids]);
  }
}
