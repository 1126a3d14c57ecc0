import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { InstanceClient } from '../instances/instance-client.js';
import type { JobHint } from '../queues/queues.service.js';
import { QueuesService } from '../queues/queues.service.js';

/** How many accounts one call puts jobs for. They are chosen at random, so that later calls reach the others. */
const accountBatchSize = 1_000;
const callTimeoutMs = 30_000;

/** Finds the outcomes of `unknown` messages: WhatsApp Web may know them by now. */
@Injectable()
export class OutcomesService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
    private readonly instances: InstanceClient,
  ) {}

  /** Puts a job for each account that may send and has unknown messages of the last two days. @returns the number of jobs */
  async put(): Promise<number> {
    const accounts: { id: string }[] = await this.database.query(
      `select a.id from accounts a
       where a.status = 'ready' and a.web_contract is distinct from 'broken' and a.id in (
         select u.account_id from uncertain_messages u join messages m on m.id = u.message_id
         where m.status = 'unknown' and u.since > now() - interval '2 days')
       order by random() limit ${accountBatchSize}`,
    );
    await this.queues.put(
      accounts.map(({ id }): JobHint => ({
        queue: 'messaging',
        name: 'find-outcomes',
        id: `account-${id}`,
        data: { accountId: id },
      })),
    );
    return accounts.length;
  }

  /**
   * Lets the instance that drives the account ask WhatsApp Web for the acks that are still missing.
   * @throws InstanceUnreachable, AccountNotDrivenHere, SessionNotReady
   */
  async find(accountId: string): Promise<void> {
    const [row] = await this.database.query<{ url: string }[]>(
      `select i.url from accounts a join instances i on i.id = a.instance_id where a.id = $1 and a.status = 'ready'`,
      [accountId],
    );
    // An account that is not ready is asked when it becomes ready.
    if (!row) return;
    await this.instances.call(row.url, 'POST', `/internal/accounts/${accountId}/outcomes`, {}, callTimeoutMs);
  }
}
