import type { RunSql } from '../platform/database/prepared.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import type { SendMessageDto } from './messages.dto.js';
import { parseRecipient } from './recipient.js';

export class NoAccountReady extends Problem {
  constructor() {
    super(
      409,
      'account.none_ready',
      'No account of this workspace is ready to send. Connect one, or name one with accountId: then the message waits for it.',
    );
  }
}

/**
 * The account that is to send a message. One that the request names is taken as it is, whether or not there is such a one.
 * @throws ValidationFailed, NoAccountReady
 */
export async function chooseAccountFor(
  run: RunSql,
  workspaceId: string,
  wanted: SendMessageDto,
): Promise<string> {
  const recipient = parseRecipient(wanted.to)!;
  if (wanted.replyTo !== undefined) return accountOfAnswered(run, workspaceId, wanted, recipient.chatId);
  return wanted.accountId ?? (await chooseAccount(run, workspaceId, recipient.address));
}

/** The account of the message that is answered, which has to be in the chat that the answer goes to. @throws ValidationFailed */
async function accountOfAnswered(
  run: RunSql,
  workspaceId: string,
  { replyTo, accountId }: SendMessageDto,
  chatId: string,
): Promise<string> {
  const [answered] = await run(
    `select account_id from messages where id = $1 and workspace_id = $2 and account_id = coalesce($3, account_id)
       and (chat_id = $4 or chat_id not like '%@g.us' and direction = 'incoming'
         and $4 in (content -> 'participant' ->> 'lid', (content -> 'participant' ->> 'phone') || '@c.us'))`,
    [replyTo, workspaceId, accountId ?? null, chatId],
  );
  if (!answered)
    throw new ValidationFailed([
      {
        path: 'replyTo',
        message: 'must be the id of a message of the same account, in the chat with `to`',
      },
    ]);
  return answered.account_id as string;
}

/** How much of what waits is counted of each account: with more than that all have enough to do. */
const countedBacklog = 100;

/**
 * A ready account of the workspace: the one that last wrote to this recipient, else one with the least to send. What waits is
 * counted only where nobody has written, and in the order of its index, which keeps PostgreSQL from looking for it in the table.
 */
async function chooseAccount(run: RunSql, workspaceId: string, address: string): Promise<string> {
  const [row] = await run(
    `(select a.id from (
         select m.id, m.account_id from messages m
         where m.workspace_id = $1 and m.recipient = $2 and m.direction = 'outgoing' order by m.id desc limit 20) latest
       join accounts a on a.id = latest.account_id and a.status = 'ready' order by latest.id desc limit 1)
     union all
     (select a.id from accounts a
       cross join lateral (select count(*) as waiting from (
         select from messages q where q.account_id = a.id and q.stage = 'queued'
         order by q.priority desc, q.seq limit ${countedBacklog}) queued) backlog
       where a.workspace_id = $1 and a.status = 'ready' order by backlog.waiting, random() limit 1)
     limit 1`,
    [workspaceId, address],
  );
  if (!row) throw new NoAccountReady();
  return row.id as string;
}
