import { Injectable } from '@nestjs/common';
import type { EntityManager } from 'typeorm';
import { AccountsService } from '../accounts/accounts.service.js';

/** How many messages one statement ends: few enough that its locks are short. */
const batchSize = 2_000;

/** Ends the messages of an account that is deleted, so that their events say what became of them. */
@Injectable()
export class EndingService {
  constructor(accounts: AccountsService) {
    accounts.onDelete((manager, workspaceId, accountId) => this.endSome(manager, workspaceId, accountId));
  }

  /**
   * Cancels messages that wait. A message that was tried may have arrived, and nobody can find out any more: it becomes `unknown`.
   * @returns whether there may be more messages
   */
  private async endSome(manager: EntityManager, workspaceId: string, accountId: string): Promise<boolean> {
    const [, ended] = await manager.query<[unknown[], number]>(
      `with open as (
         (select id from messages where account_id = $2 and stage = 'queued' order by priority desc, seq limit ${batchSize})
         union all
         (select id from messages where workspace_id = $1 and account_id = $2 and stage = 'scheduled' limit ${batchSize})
         union all
         (select id from messages where account_id = $2 and stage = 'sending')
         limit ${batchSize})
       update messages m set error_code = 'account.deleted', error_message = 'The account was deleted.',
         status = case when m.attempts = 0 and m.stage <> 'sending' then 'cancelled' else 'unknown' end,
         failed_at = case when m.attempts = 0 and m.stage <> 'sending' then null else now() end
       from open where m.id = open.id and m.stage is not null`,
      [workspaceId, accountId],
    );
    return ended === batchSize;
  }
}
