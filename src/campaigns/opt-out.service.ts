import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { LRUCache } from 'lru-cache';
import { DataSource } from 'typeorm';
import type { IncomingRow } from '../receiving/incoming-message.js';
import { type FollowUp, IncomingService } from '../receiving/incoming.service.js';
import { type OptOut, optOutOf, ownOptOutWords, type OwnOptOutWords } from './opt-out.js';
import { maxReasonLength, SuppressionsService } from './suppressions.service.js';

/** How long the words of a workspace are kept. A change counts after this time. */
const wordsForMs = 5_000;

/** The workspace of an account, with its words. */
interface Words {
  workspaceId: string;
  own: OwnOptOutWords;
}

/** Lets persons opt out of campaigns, and in again, by a message that says nothing else. */
@Injectable()
export class OptOutService {
  /** By the id of the account. */
  private readonly words = new LRUCache<string, Words>({
    max: 10_000,
    ttl: wordsForMs,
    fetchMethod: (accountId) => this.readWords(accountId),
  });

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly suppressions: SuppressionsService,
    incoming: IncomingService,
  ) {
    incoming.onIncoming((accountId, rows) => this.prepare(accountId, rows));
  }

  private async prepare(accountId: string, rows: readonly IncomingRow[]): Promise<FollowUp | null> {
    const short = rows.filter(isShortTextOfPerson);
    if (short.length === 0) return null;
    const words = await this.words.fetch(accountId);
    // The account has just been deleted.
    if (!words) return null;
    const asking = short.flatMap((row) => {
      const asks = optOutOf(row.text!, words.own);
      return asks === null ? [] : [{ row, asks }];
    });
    if (asking.length === 0) return null;
    const { workspaceId } = words;
    const prepared = await Promise.all(
      asking.map(async (one) => ({ ...one, forms: await this.formsOf(workspaceId, one.row) })),
    );
    return async (manager, ids) => {
      for (const { row, asks, forms } of prepared) {
        if (!ids.has(row.id)) continue;
        if (asks === ('in' satisfies OptOut)) await this.suppressions.optIn(manager, workspaceId, forms);
        else
          await this.suppressions.optOut(manager, workspaceId, forms, {
            messageId: row.id,
            accountId,
            address: row.content.participant?.phone ?? row.address,
            text: row.text!.trim(),
          });
      }
    };
  }

  private async formsOf(workspaceId: string, { content: { participant }, address }: IncomingRow) {
    const known = [participant?.phone, participant?.lid].filter((form) => form != null);
    return this.suppressions.formsOf(workspaceId, known.length > 0 ? known : [address]);
  }

  private async readWords(accountId: string): Promise<Words | undefined> {
    const [row] = await this.database.query<{ id: string; words: string[] | null }[]>(
      'select w.id, w.opt_out_words as words from accounts a join workspaces w on w.id = a.workspace_id where a.id = $1',
      [accountId],
    );
    return row && { workspaceId: row.id, own: ownOptOutWords({ out: row.words ?? [] }) };
  }
}

/** Neither in a group, nor a story or a post, nor from the account's owner. */
function isShortTextOfPerson({ fromMe, source, type, chatId, text }: IncomingRow): boolean {
  return (
    !fromMe &&
    source === null &&
    type === 'text' &&
    /@(?:c\.us|lid)$/.test(chatId) &&
    text !== null &&
    text.length <= maxReasonLength
  );
}
