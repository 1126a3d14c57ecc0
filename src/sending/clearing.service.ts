import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { priorities, queueOf } from '../messages/message.entity.js';
import { firstId } from '../platform/database/ids.js';
import type { LaneQueueName } from '../queues/queue-policies.js';

/** How many messages one statement cancels: few enough that its locks are short. */
const messageBatchSize = 2_000;
const accountBatchSize = 500;

/** Cancels the waiting messages of a queue, of all workspaces. */
@Injectable()
export class ClearingService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Cancels the messages of a queue that have not been tried, also scheduled messages. Messages that are being sent continue,
   * and messages that may have been sent already stay.
   * @param onProgress receives the number of messages cancelled so far
   * @returns the number of cancelled messages
   */
  async clear(queue: LaneQueueName, onProgress: (cancelled: number) => void = () => undefined) {
    const priority = priorities.findIndex((_name, number) => queueOf(number) === queue);
    let total = 0;
    const addCancelled = (count: number) => {
      total += count;
      onProgress(total);
    };
    for (let after: string | null = null; ;) {
      const accounts: { id: string }[] = await this.database.query(
        `select a.id from accounts a where ($2::uuid is null or a.id > $2)
           and exists (select from messages m where m.account_id = a.id and m.stage = 'queued' and m.priority = $1)
         order by a.id limit ${accountBatchSize}`,
        [priority, after],
      );
      for (const { id } of accounts) await this.clearLane(id, priority, addCancelled);
      if (accounts.length < accountBatchSize) break;
      after = accounts.at(-1)!.id;
    }
    await this.clearScheduled(priority, addCancelled);
    return total;
  }

  /** Each statement continues after the last `seq`, so that no cancelled message is read again. */
  private async clearLane(
    accountId: string,
    priority: number,
    addCancelled: (count: number) => void,
  ): Promise<void> {
    for (let seq = '0', seen = messageBatchSize; seen === messageBatchSize;) {
      const [row] = await this.database.query<{ last: string; seen: number; cancelled: number }[]>(
        `with waiting as (select id, seq from messages
           where account_id = $1 and stage = 'queued' and priority = $2 and seq > $3
           order by seq limit ${messageBatchSize} for update skip locked),
         cancelled as (update messages m set status = 'cancelled' from waiting
           where m.id = waiting.id and m.attempts = 0 returning m.id)
         select max(seq) as last, count(*)::int as seen, (select count(*)::int from cancelled) as cancelled from waiting`,
        [accountId, priority, seq],
      );
      seen = row!.seen;
      seq = row!.last;
      addCancelled(row!.cancelled);
    }
  }

  private async clearScheduled(priority: number, addCancelled: (count: number) => void): Promise<void> {
    for (let from = '-infinity', id = firstId, seen = messageBatchSize; seen === messageBatchSize;) {
      const rows: { id: string; at: string; cancelled: boolean }[] = await this.database.query(
        `with waiting as (select id, scheduled_for from messages
           where stage = 'scheduled' and priority = $1 and scheduled_for >= $2 and (scheduled_for, id) > ($2, $3::uuid)
           order by scheduled_for, id limit ${messageBatchSize} for update skip locked),
         cancelled as (update messages m set status = 'cancelled' from waiting
           where m.id = waiting.id and m.attempts = 0 returning m.id)
         select waiting.id, waiting.scheduled_for::text as at, cancelled.id is not null as cancelled
         from waiting left join cancelled using (id) order by waiting.scheduled_for, waiting.id`,
        [priority, from, id],
      );
      seen = rows.length;
      from = rows.at(-1)?.at ?? from;
      id = rows.at(-1)?.id ?? id;
      addCancelled(rows.filter(({ cancelled }) => cancelled).length);
    }
  }
}
