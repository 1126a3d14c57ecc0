import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { isColdSql } from '../pacing/pacing-rows.js';

/** For how long an answer of WhatsApp counts. After that, the next message to the number asks again. */
const validFor = `interval '30 days'`;
/** For how long an answer still helps to find the messages to a number. */
const keptFor = `interval '1 year'`;
/** More forms than any number has. */
const maxForms = 20;

/**
 * SQL: the chat id that WhatsApp has for a number, by its earlier answer to the account; else the number's own chat id.
 * @param account SQL for the account's id
 * @param chatId SQL for the chat id of the number
 */
export function knownIdSql(account: string, chatId: string): string {
  return `coalesce((select r.chat_id from recipient_ids r where r.account_id = ${account} and r.number = ${chatId}
    and r.checked_at > now() - ${validFor}), ${chatId})`;
}

/**
 * SQL: a query for the addresses of a person in all forms that the accounts of a workspace have learnt, in the column `form`.
 * @param workspace SQL for the workspace's id
 * @param address SQL for one address
 */
export function formsSql(workspace: string, address: string): string {
  const chatId = `(case when ${address} like '%@%' then ${address} else ${address} || '@c.us' end)`;
  return `select ${address} as form
    union (select distinct regexp_replace(forms.form, '@c[.]us$', '') from recipient_ids r
      cross join lateral (values (r.number), (r.chat_id)) as forms (form)
      where r.workspace_id = ${workspace} and r.chat_id in (select ${chatId}
        union select o.chat_id from recipient_ids o where o.workspace_id = ${workspace} and o.number = ${chatId})
      limit ${maxForms})`;
}

/** The numbers for which WhatsApp has another id: it keeps old national forms, and its form of a number may lack a digit. */
@Injectable()
export class RecipientIds {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /**
   * Keeps WhatsApp's answer for a number.
   * @param messageId a message to the number that is being sent: from now on it belongs to the chat of the answer
   */
  async remember(accountId: string, number: string, chatId: string, messageId?: string): Promise<void> {
    await this.database.query(
      `with kept as (
         insert into recipient_ids (account_id, workspace_id, number, chat_id)
         select a.id, a.workspace_id, $2, $3::text from accounts a where a.id = $1
         on conflict (account_id, number) do update set chat_id = excluded.chat_id, checked_at = now())
       update messages m set chat_id = $3::text, is_cold = ${isColdSql('m.account_id', '$3::text')}
       where m.id = $4 and m.account_id = $1`,
      [accountId, number, chatId, messageId ?? null],
    );
  }

  /** For each chat id the one that WhatsApp has for that number, if the account has learnt it; else the same chat id. */
  async idsOf(accountId: string, chatIds: string[]): Promise<string[]> {
    const rows = await this.database.query<{ id: string }[]>(
      `select ${knownIdSql('$1::uuid', 'given.chat_id')} as id
       from unnest($2::text[]) with ordinality as given (chat_id, place) order by given.place`,
      [accountId, chatIds],
    );
    return rows.map(({ id }) => id);
  }

  /** All addresses of a person that the accounts of the workspace have learnt. */
  async forms(workspaceId: string, address: string): Promise<string[]> {
    const rows = await this.database.query<{ form: string }[]>(formsSql('$1::uuid', '$2::text'), [
      workspaceId,
      address,
    ]);
    return rows.map(({ form }) => form);
  }

  /** Forgets answers that have not been renewed for a year. */
  async prune(): Promise<void> {
    await this.database.query(`delete from recipient_ids where checked_at < now() - ${keptFor}`);
  }
}
