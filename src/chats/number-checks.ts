import { LRUCache } from 'lru-cache';
import type { NumberResponse } from './chats.dto.js';
import { TooManyNumberChecks } from './chat-errors.js';

/** How long an answer is good for. */
const rememberedMs = 600_000;
const rememberedAtMost = 20_000;
/** Of a live account; answers from memory are not counted. */
const perMinute = 30;
const minuteMs = 60_000;

/**
 * Remembers for a while which numbers have WhatsApp, and lets a live account ask for new ones only so often: who asks for
 * thousands is taken for a harvester, and banned.
 */
export class NumberChecks {
  private readonly answers: LRUCache<string, NumberResponse>;
  private readonly asked = new Map<string, number[]>();

  /** @param now the time in milliseconds, more than 0 */
  constructor(private readonly now: () => number = Date.now) {
    const options = { max: rememberedAtMost, ttl: rememberedMs, ttlResolution: 0 };
    this.answers = new LRUCache({ ...options, perf: { now } });
  }

  /** What is known of a number by an account, or undefined. */
  known(accountId: string, phone: string): NumberResponse | undefined {
    // The oldest answer is the first to go, however often it was read.
    return this.answers.peek(`${accountId} ${phone}`);
  }

  /** Counts a question that WhatsApp is about to be asked. @throws TooManyNumberChecks */
  count(accountId: string): void {
    const since = this.now() - minuteMs;
    const recent = (this.asked.get(accountId) ?? []).filter((at) => at > since);
    if (recent.length >= perMinute) throw new TooManyNumberChecks(perMinute);
    this.asked.set(accountId, [...recent, this.now()]);
  }

  remember(accountId: string, answer: NumberResponse): void {
    this.answers.set(`${accountId} ${answer.phone}`, answer);
  }
}
