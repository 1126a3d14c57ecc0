import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { InstanceClient } from '../instances/instance-client.js';
import type { JobHint } from '../queues/queues.service.js';
import { QueuesService } from '../queues/queues.service.js';

/** How many accounts are asked about at a time; the next look goes on. */
const accountsAtOnce = 1_000;
const answerMs = 30_000;

/** Finds out what became of messages of which nobody could tell: WhatsApp Web may know by now. */
@Injectable()
export class OutcomesService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
    private readonly instances: InstanceClient,
  ) {}

  /** Puts a job for each ready account that has unknown messages of the last two days. @returns how many */
  async put(): Promise<number> {
    const accounts: { id: string }[] = await this.database.query(
      `select a.id from accounts a
       where a.status = 'ready' and a.id in (
         select u.account_id from uncertain_messages u join messages m on m.id = u.message_id
         where m.status = 'unknown' and u.since > now() - interval '2 days')
       order by random() limit ${accountsAtOnce}`,
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
   * Has the instance that drives an account ask WhatsApp Web for the acks of what is not known to have arrived.
   * @throws InstanceUnreachable, AccountNotDrivenHere, SessionNotReady
   */
  async find(accountId: string): Promise<void> {
    const [row] = await this.database.query(
      `select i.url from accounts a join instances i on i.id = a.instance_id where a.id = $1 and a.status = 'ready'`,
      [accountId],
    );
    // One that is not ready is asked as soon as it is.
    if (!row) return;
    await this.instances.call(row.url, 'POST', `/internal/accounts/${accountId}/outcomes`, {}, answerMs);
  }
}
