import type { DataSource } from 'typeorm';
import { Message } from './message.entity.js';

/** Runs one statement: on the pool, or inside a transaction. @returns its rows */
export type RunSql = (text: string, values: unknown[]) => Promise<Record<string, unknown>[]>;

/** A row of `messages` as raw SQL returns it, made into the entity. */
export function toMessage(sql: DataSource, row: Record<string, unknown>): Message {
  const message = new Message();
  for (const column of sql.getMetadata(Message).columns) {
    column.setEntityValue(message, row[column.databaseName] ?? null);
  }
  return message;
}

/**
 * SQL for the head of the lane of the account that `account` names: the most urgent queued message, the oldest of its
 * priority first. One that waits for its next attempt holds back the others of its lane, so that order is kept.
 */
export function laneHead(account: string): string {
  return `(select m.id, m.priority, m.next_attempt_at from messages m
    where m.account_id = ${account} and m.stage = 'queued' and (m.expires_at is null or m.expires_at > now())
    order by m.priority desc, m.seq limit 1)`;
}
