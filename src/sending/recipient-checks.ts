import { Inject, Injectable } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import type { Config } from '../platform/config/config.js';
import { RecipientIds } from '../messages/recipient-ids.service.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';

/** More accounts than an instance drives. If it forgets an account, WhatsApp throttles it once more. */
const rememberedAccounts = 10_000;
const maxPauseMs = 3_600_000;

/** WhatsApp throttles the number checks of the account, and the person is a stranger to it. Nothing was done. */
export class NumberChecksPaused extends Problem {
  /**
   * @param until when the account may check numbers again, in milliseconds since 1970
   * @param isAsked whether WhatsApp was asked about this person
   */
  constructor(
    readonly until: number,
    readonly isAsked: boolean,
  ) {
    super(
      429,
      'whatsapp.number_checks_paused',
      'WhatsApp checks no more numbers for this account at the moment. Flotilla asks again later. Messages to persons who have a chat with the account go on.',
      undefined,
      Math.max(1, Math.ceil((until - Date.now()) / 1_000)),
    );
  }
}

/** A message to a number that WhatsApp was asked about. */
interface AskedMessage {
  id: string;
  accountId: string;
  chatId: string;
}

interface Pause {
  until: number;
  ms: number;
}

/**
 * Keeps what WhatsApp answers about the numbers of strangers, and knows when the accounts of this instance may ask again. A
 * throttled check says nothing about its number, so all checks of the account pause. The pause doubles each time WhatsApp
 * throttles the account soon after a pause.
 */
@Injectable()
export class RecipientChecks {
  private readonly pauses = new LRUCache<string, Pause>({ max: rememberedAccounts });

  constructor(
    private readonly recipients: RecipientIds,
    @Inject(CONFIG) private readonly config: Pick<Config, 'numberCheckPauseMs'>,
  ) {}

  /** Keeps the other id that WhatsApp has for the number of a message that is being sent. */
  answered({ id, accountId, chatId }: AskedMessage, otherId: string): Promise<void> {
    return this.recipients.remember(accountId, chatId, otherId, id);
  }

  /** The chat ids that WhatsApp has for these persons, as far as the account has learnt them. */
  async idsOf(accountId: string, chatIds: string[]): Promise<string[]> {
    return chatIds.length === 0 ? [] : this.recipients.idsOf(accountId, chatIds);
  }

  /** When the account may check numbers again, in milliseconds since 1970; null means now. */
  until(accountId: string): number | null {
    const until = this.pauses.get(accountId)?.until ?? 0;
    return until > Date.now() ? until : null;
  }

  /** WhatsApp throttled a check of the account. @returns when the account may check numbers again */
  throttled(accountId: string): number {
    const now = Date.now();
    const before = this.pauses.get(accountId);
    const { numberCheckPauseMs } = this.config;
    // Checks that were running at the same time are one refusal.
    if (before && before.until > now) return before.until;
    const isSoon = before !== undefined && now < before.until + before.ms;
    const ms = isSoon
      ? Math.min(before.ms * 2, Math.max(maxPauseMs, numberCheckPauseMs))
      : numberCheckPauseMs;
    this.pauses.set(accountId, { until: now + ms, ms });
    return now + ms;
  }
}
