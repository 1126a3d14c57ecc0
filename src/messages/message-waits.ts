import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { asPlatform } from '../platform/context.js';
import { Notifications } from '../platform/database/notifications.js';
import { prepared } from '../platform/database/prepared.js';
import { Problem } from '../platform/errors/problem.js';
import { withoutTurn } from '../platform/http/fair-share.js';
import { ConcurrencyLimit } from '../platform/limits/concurrency-limit.js';
import { SharedCounts } from '../platform/limits/shared-counts.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { pause } from '../platform/pause.js';
import type { Message, MessageStatus } from './message.entity.js';
import { MessageNotFound, MessagesService } from './messages.service.js';

/** The status that a caller waits for. */
export type AwaitedStatus = 'sent' | 'delivered';

/** A trigger notifies with the id and the new status of each awaited message. */
const channel = 'flotilla_message_waits';
/** How often the status of all awaited messages is read, because a notification may be lost. */
const lookMs = 1_000;
const retryAfterSeconds = 2;

const reached = { sent: ['sent', 'delivered', 'read', 'played'], delivered: ['delivered', 'read', 'played'] };
const final = new Set(['read', 'played', 'failed', 'unknown', 'cancelled', 'expired']);

export class TooManyWaits extends Problem {
  constructor(limit: number) {
    super(
      429,
      'message.too_many_waits',
      `This workspace has ${limit} requests that wait for a message, the limit. The message was not accepted. Try again later or without wait, or follow GET /events. An operator can raise WAITS_PER_WORKSPACE.`,
      undefined,
      retryAfterSeconds,
    );
  }
}

interface Waiter {
  goal: AwaitedStatus;
  /** Aborted when the message has reached the goal or a final status. */
  alarm: AbortController;
}

/**
 * Lets requests wait for the status of a message (`?wait=`). One connection to PostgreSQL listens for all waiters of the process. A
 * message must be marked as awaited before a wait begins; otherwise only the slow look finds its status.
 */
@Injectable()
export class MessageWaits implements OnModuleDestroy {
  /** The waiters by message. */
  private readonly waiters = new Map<string, Set<Waiter>>();
  private readonly notifications: Notifications;
  private readonly limit: ConcurrencyLimit;
  private timer: NodeJS.Timeout | null = null;

  constructor(
    private readonly messages: MessagesService,
    @InjectDataSource() private readonly database: DataSource,
    @Inject(CONFIG) config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
    counts: SharedCounts,
  ) {
    this.limit = new ConcurrencyLimit(
      counts,
      'waits',
      config.http.waitsPerWorkspace,
      (limit) => new TooManyWaits(limit),
    );
    this.notifications = new Notifications(config, logger, [channel], {
      heard: (_channel, payload) => this.tell(...(payload.split(' ') as [string, MessageStatus])),
      missed: () => void this.look(),
    });
  }

  async onModuleDestroy(): Promise<void> {
    if (this.timer) clearTimeout(this.timer);
    await this.notifications.stop();
  }

  /** The number of requests that wait. */
  get count(): number {
    return this.limit.count;
  }

  /** Counts a wait until the returned function is called. @throws TooManyWaits */
  enter(workspaceId: string): () => void {
    const leave = this.limit.enter(workspaceId);
    this.notifications.start();
    return leave;
  }

  /**
   * Waits until a message reaches the wanted status or a final one, or until the timeout. The message is already accepted, so
   * the wait goes on while PostgreSQL does not answer: after an error the caller would send the message again.
   * @param gone ends the wait, because the caller has disconnected
   */
  async until(
    message: Message,
    goal: AwaitedStatus,
    timeoutMs: number,
    gone?: AbortSignal,
  ): Promise<{ message: Message; isReached: boolean }> {
    const deadline = performance.now() + timeoutMs;
    const waiter: Waiter = { goal, alarm: new AbortController() };
    this.add(message.id, waiter);
    let current = message;
    try {
      for (let isLast = false; ;) {
        // Before the read: a change that the read does not see yet ends the pause after it.
        waiter.alarm = new AbortController();
        current = (await this.read(message)) ?? current;
        if (isOver(current.status, goal) || isLast || gone?.aborted) break;
        const leftMs = Math.max(0, deadline - performance.now());
        const { signal } = waiter.alarm;
        const ends = gone ? AbortSignal.any([signal, gone]) : signal;
        await withoutTurn(() => pause(leftMs, { signal: ends }));
        if (gone?.aborted) break;
        isLast = !signal.aborted;
      }
    } finally {
      this.remove(message.id, waiter);
    }
    return { message: current, isReached: reached[goal].includes(current.status) };
  }

  /** The message as it is now; null if PostgreSQL does not answer. @throws MessageNotFound */
  private async read({ workspaceId, id }: Message): Promise<Message | null> {
    try {
      return await this.messages.get(workspaceId, id);
    } catch (error) {
      if (error instanceof MessageNotFound) throw error;
      this.logger.warn(
        { err: error, messageId: id },
        'the status of a message could not be read; still waiting',
      );
      return null;
    }
  }

  /** Wakes the waiters of a message. Null: the message is gone. */
  private tell(id: string, status: MessageStatus | null): void {
    for (const { goal, alarm } of this.waiters.get(id) ?? [])
      if (status === null || isOver(status, goal)) alarm.abort();
  }

  /** Reads the status of all awaited messages in one statement. */
  private async look(): Promise<void> {
    const ids = [...this.waiters.keys()];
    if (ids.length === 0) return;
    try {
      const rows = await prepared<{ id: string; status: MessageStatus }>(
        this.database,
        'select id, status from messages where id = any($1)',
        [ids],
      );
      const statuses = new Map(rows.map(({ id, status }) => [id, status]));
      for (const id of ids) this.tell(id, statuses.get(id) ?? null);
    } catch (error) {
      this.logger.warn({ err: error }, 'the status of awaited messages could not be read; trying again');
    }
  }

  private schedule(): void {
    this.timer ??= setTimeout(() => {
      // The timer belongs to the request of one waiter, but the look serves all waiters.
      void asPlatform(() => this.look()).finally(() => {
        this.timer = null;
        if (this.waiters.size > 0) this.schedule();
      });
    }, lookMs);
  }

  private add(id: string, waiter: Waiter): void {
    const others = this.waiters.get(id);
    if (others) others.add(waiter);
    else this.waiters.set(id, new Set([waiter]));
    this.schedule();
  }

  private remove(id: string, waiter: Waiter): void {
    const others = this.waiters.get(id);
    others?.delete(waiter);
    if (others?.size === 0) this.waiters.delete(id);
  }
}

function isOver(status: MessageStatus, goal: AwaitedStatus): boolean {
  return reached[goal].includes(status) || final.has(status);
}
