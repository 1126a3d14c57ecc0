import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { type JobHint, QueuesService } from '../queues/queues.service.js';
import { queueOf } from './message.entity.js';
import { laneHead, strictOrder } from './message-rows.js';

/** How many heads one sweep puts at the most; the next sweep goes on. */
const sweepLimit = 20_000;

/** The job that says: this message is the first of its account's lane. */
export function headOf(messageId: string, priority: number): JobHint {
  return { queue: queueOf(priority), id: `message-${messageId}`, data: { id: messageId } };
}

/**
 * A lane is the outgoing messages of one account. Redis holds only heads: for each connected account the message that is
 * to be sent next. This service finds heads again whenever Redis may have lost them.
 */
@Injectable()
export class LanesService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly queues: QueuesService,
  ) {}

  /** Puts the head of one lane, unless a message of it is being sent: then its completion will. */
  async feed(accountId: string): Promise<void> {
    const [head] = await this.database.query(
      `select head.id, head.priority from ${laneHead('$1', '$2')} head
       where head.next_attempt_at <= now()
         and exists (select from accounts where id = $1 and status = 'ready')
         and not exists (select from messages where account_id = $1 and stage = 'sending')`,
      [accountId, strictOrder],
    );
    if (head) await this.queues.put([headOf(head.id, head.priority)]);
  }

  /**
   * Moves what is due: scheduled messages whose time has come are queued, and those too old expire. Then puts the head
   * of every ready account's lane, and every send whose worker died.
   * @returns how many heads were put; putting one that Redis still has changes nothing
   */
  async sweep(): Promise<number> {
    await this.database.query(
      `update messages set status = 'queued', next_attempt_at = now() where stage = 'scheduled' and scheduled_for <= now()`,
    );
    await this.database.query(
      `update messages set status = 'expired', failed_at = now(), error_code = 'message.expired',
         error_message = 'It was not sent before expiresAt.'
       where expires_at is not null and expires_at <= now() and stage in ('scheduled', 'queued')`,
    );
    // Nobody can tell any more what became of a send whose account has been unlinked.
    await this.database.query(
      `update messages m set status = 'unknown', error_code = 'account.logged_out',
         error_message = 'The account was logged out before the outcome of the send was known.'
       from accounts a where a.id = m.account_id and m.stage = 'sending' and m.next_attempt_at <= now() and a.status = 'logged_out'`,
    );
    const heads: { id: string; priority: number }[] = await this.database.query(
      `select head.id, head.priority from accounts a
       cross join lateral (
         (select m.id, m.priority, m.next_attempt_at from messages m where m.account_id = a.id and m.stage = 'sending')
         union all ${laneHead('a.id', '$1')}
         limit 1
       ) head
       where a.status = 'ready' and head.next_attempt_at <= now()
       limit ${sweepLimit}`,
      [strictOrder],
    );
    await this.queues.put(heads.map(({ id, priority }) => headOf(id, priority)));
    return heads.length;
  }
}
