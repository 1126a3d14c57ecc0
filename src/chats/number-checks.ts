import { LRUCache } from 'lru-cache';
import type { NumberResponse } from './chats.dto.js';
import { TooManyNumberChecks } from './chat-errors.js';

/** How long an answer is cached. */
const rememberedMs = 600_000;
const rememberedAtMost = 20_000;
/** The limit of a live account. Answers from the cache do not count. */
const perMinute = 30;
const minuteMs = 60_000;

/**
 * Caches which numbers have WhatsApp, and limits how often a live account asks for new numbers. WhatsApp takes an account that
 * asks for thousands of numbers for a harvester, and bans it.
 */
export class NumberChecks {
  private readonly answers: LRUCache<string, NumberResponse>;
  private readonly asked = new Map<string, number[]>();

  /** @param now the time in milliseconds, more than 0 */
  constructor(private readonly now: () => number = Date.now) {
    const options = { max: rememberedAtMost, ttl: rememberedMs, ttlResolution: 0 };
    this.answers = new LRUCache({ ...options, perf: { now } });
  }

  /** The cached answer for a chat id that an account asked for, or undefined. */
  known(accountId: string, chatId: string): NumberResponse | undefined {
    // The oldest answer is the first to go, however often it was read.
    return this.answers.peek(`${accountId} ${chatId}`);
  }

  /** Counts a question to WhatsApp, before it is asked. @throws TooManyNumberChecks */
  count(accountId: string): void {
    const since = this.now() - minuteMs;
    const recent = (this.asked.get(accountId) ?? []).filter((at) => at > since);
    if (recent.length >= perMinute) throw new TooManyNumberChecks(perMinute);
    this.asked.set(accountId, [...recent, this.now()]);
  }

  remember(accountId: string, chatId: string, answer: NumberResponse): void {
    this.answers.set(`${accountId} ${chatId}`, answer);
  }
}
