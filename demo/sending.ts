import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type Flotilla, FlotillaError, type Message } from '../clients/typescript/src/index.js';
import { DemoFailed } from './failure.js';
import { groups, type Planned, SendingProgress, toBody } from './progress.js';
import { ProgressBars } from './screen.js';

const batchSize = 1_000;
/** Without any progress for this long, the demo gives up. */
const stallMs = 60_000;
/** Without any event for this long, the demo reads the messages instead. */
const quietLimitMs = 5_000;
const lookMs = 100;

/** Sends all planned messages and follows them until each has its final status. */
export class Sending {
  private readonly progress: SendingProgress;

  constructor(
    private readonly tenant: Flotilla,
    private readonly plan: Planned[],
    private readonly logDir: string,
    private readonly signal: AbortSignal,
  ) {
    this.progress = new SendingProgress(plan);
  }

  /** @throws DemoFailed when a message is refused or nothing moves */
  async run(): Promise<{ messages: Message[]; seconds: number }> {
    const finished = new AbortController();
    const bars = new ProgressBars(groups);
    const started = performance.now();
    const following = this.follow(AbortSignal.any([this.signal, finished.signal]));
    try {
      await Promise.all([this.post(), this.watch(bars)]);
      const seconds = (performance.now() - started) / 1000;
      await this.readAll();
      return { messages: this.progress.messages, seconds };
    } finally {
      bars.stop();
      finished.abort();
      await following;
    }
  }

  /** Takes in events until `until` aborts. When the API refuses them, {@link watch} reads the messages instead. */
  private async follow(until: AbortSignal): Promise<void> {
    try {
      for await (const { data } of this.tenant.events({ types: ['message.*'], after: '0-0', signal: until }))
        this.progress.see(data as unknown as Message);
    } catch (error) {
      if (!(error instanceof FlotillaError)) throw error;
    }
  }

  /** Posts the bulk first, so that more urgent messages can overtake it. */
  private async post(): Promise<void> {
    const bulk = this.plan.filter(({ group }) => group === 'bulk (normal)');
    for (let start = 0; start < bulk.length; start += batchSize) {
      const messages = bulk.slice(start, start + batchSize).map(toBody);
      const { items } = await this.tenant.post('/messages/batch', {
        body: { messages },
        signal: this.signal,
      });
      for (const { message, error } of items) {
        if (!message)
          throw new DemoFailed(`A message of the bulk was refused: ${error?.detail ?? 'no reason'}`);
        this.progress.see(message);
      }
    }
    const singles = this.plan.filter(({ group }) => group !== 'bulk (normal)');
    const byAccount = new Map<string, Planned[]>();
    for (const single of singles) {
      byAccount.set(single.accountId, [...(byAccount.get(single.accountId) ?? []), single]);
    }
    await Promise.all([...byAccount.values()].map((ofAccount) => this.postOneByOne(ofAccount)));
  }

  private async postOneByOne(planned: Planned[]): Promise<void> {
    for (const single of planned) {
      this.progress.see(
        await this.tenant.post('/messages', {
          body: toBody(single),
          idempotencyKey: randomUUID(),
          signal: this.signal,
        }),
      );
    }
  }

  /** Shows the progress until it is complete. */
  private async watch(bars: ProgressBars): Promise<void> {
    const { progress } = this;
    let readAt = Date.now();
    for (;;) {
      for (const group of groups) {
        const { total, sent, delivered, read } = progress.of(group);
        const note = `${read} of ${total} read, ${delivered} delivered, ${sent} sent`;
        bars.update(group, { done: read, total, note });
      }
      if (progress.isComplete) return;
      const quietMs = Date.now() - progress.changedAt;
      if (quietMs > stallMs) {
        throw new DemoFailed(
          `Nothing has moved for ${stallMs / 1000} s, and ${progress.open} messages are still on their way. See ./flotilla ctl status and the logs in ${this.logDir}.`,
        );
      }
      if (quietMs > quietLimitMs && Date.now() - readAt > quietLimitMs) {
        await this.readAll();
        readAt = Date.now();
      }
      await delay(lookMs, undefined, { signal: this.signal });
    }
  }

  private async readAll(): Promise<void> {
    const query = { direction: 'outgoing' as const };
    for await (const message of this.tenant.all('/messages', { query, signal: this.signal }))
      this.progress.see(message);
  }
}
