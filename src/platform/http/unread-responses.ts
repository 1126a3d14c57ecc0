import { Inject, Injectable, type OnApplicationShutdown } from '@nestjs/common';
import type { Request, Response } from 'express';
import pLimit, { type LimitFunction } from 'p-limit';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.module.js';
import { Problem } from '../errors/problem.js';
import { ClientGone } from './fair-share.js';

/** How often streams that are behind are looked for. */
const lookMs = 500;
/** How many requests for one key of {@link UnreadResponses.inTurn} work at once. */
const concurrency = 4;
/** About the memory of a request without its body, so that open requests are limited too. */
const requestBytes = 16 * 1024;
/** For this long, what the clients of an owner have not read is not added up again: it may have thousands of answers. */
const staleMs = 20;

export class TooMuchUnread extends Problem {
  constructor(maxBytes: number) {
    super(
      429,
      'workspace.too_much_unread',
      `The open requests of this workspace (or of the admin key) and their unread answers hold more than ${Math.round(maxBytes / 2 ** 20)} MB. Read or close the open answers, then try again. An operator can raise UNREAD_MB_PER_WORKSPACE.`,
      undefined,
      5,
    );
  }
}

/** An open answer. */
interface Answer {
  /** The memory of its request. */
  requestBytes: number;
  /** Ends a stream. Null: the answer is not a stream. */
  end: (() => void) | null;
}

/** What one owner holds. */
interface Owner {
  answers: Map<Response, Answer>;
  /** The memory of all its requests. */
  requestBytes: number;
  /** The bytes that waited for its clients at the time `lookedAt`. */
  unreadBytes: number;
  lookedAt: number;
}

/**
 * The open answers of this process by owner, and the memory that they hold: their requests, and the bytes of pages, downloads and
 * streams that wait until their clients read them. An owner is a workspace id, or `admin`.
 */
@Injectable()
export class UnreadResponses implements OnApplicationShutdown {
  private readonly owners = new Map<string, Owner>();
  private readonly ownersOf = new WeakMap<Response, string>();
  private readonly turns = new Map<string, { limit: LimitFunction; users: number }>();
  private readonly maxBytes: number;
  private readonly timer: NodeJS.Timeout;

  constructor(@Inject(CONFIG) { http }: Config) {
    this.maxBytes = http.unreadBytesPerWorkspace;
    this.timer = setInterval(() => this.endStreams(), lookMs).unref();
  }

  onApplicationShutdown(): void {
    clearInterval(this.timer);
  }

  /** Counts the answer to a request until it is closed. @throws TooMuchUnread */
  enter(owner: string, response: Response): void {
    this.assertRoom(owner);
    this.ownersOf.set(response, owner);
    // A closed answer does not tell that it closes.
    if (response.closed) return;
    const held = this.owners.get(owner) ?? {
      answers: new Map<Response, Answer>(),
      requestBytes: 0,
      unreadBytes: 0,
      lookedAt: -Infinity,
    };
    this.owners.set(owner, held);
    const answer: Answer = { requestBytes: requestBytes + bodyBytesOf(response.req), end: null };
    held.answers.set(response, answer);
    held.requestBytes += answer.requestBytes;
    response.once('close', () => {
      held.answers.delete(response);
      held.requestBytes -= answer.requestBytes;
      if (held.answers.size === 0 && this.owners.get(owner) === held) this.owners.delete(owner);
    });
  }

  /**
   * Counts bytes of a request whose headers do not tell its size. A public route has no owner, and takes no such request.
   * @throws TooMuchUnread
   */
  addBytes(response: Response, bytes: number): void {
    const owner = this.ownersOf.get(response);
    const held = owner === undefined ? undefined : this.owners.get(owner);
    const answer = held?.answers.get(response);
    if (owner === undefined || !held || !answer) return;
    answer.requestBytes += bytes;
    held.requestBytes += bytes;
    this.assertRoom(owner);
  }

  /** Makes an answer a stream, which `end` ends when its owner has too much unread and this stream is behind. */
  stream(response: Response, end: () => void): void {
    const answer = this.owners.get(this.mustOwn(response))?.answers.get(response);
    if (answer) answer.end = end;
  }

  /**
   * Does the work of a request whose large answer comes from another program. Few such requests for one key work at once, so that
   * they do not fill the memory. The others wait, and fail if their owner has too much unread when their turn comes, or if the
   * client is gone.
   * @param key requests that wait for each other
   * @throws TooMuchUnread, ClientGone
   */
  async inTurn<Result>(response: Response, key: string, work: () => Promise<Result>): Promise<Result> {
    const owner = this.mustOwn(response);
    const slots = this.turns.get(key) ?? { limit: pLimit(concurrency), users: 0 };
    this.turns.set(key, slots);
    slots.users += 1;
    try {
      return await slots.limit(() => {
        if (response.closed) throw new ClientGone();
        this.assertRoom(owner);
        return work();
      });
    } finally {
      slots.users -= 1;
      if (slots.users === 0) this.turns.delete(key);
    }
  }

  /** The memory that the open answers of one owner hold, in bytes. What its clients have not read is looked up now and then. */
  private bytesOf(owner: string): number {
    const held = this.owners.get(owner);
    if (!held) return 0;
    const now = performance.now();
    if (now - held.lookedAt > staleMs) {
      held.lookedAt = now;
      held.unreadBytes = 0;
      for (const response of held.answers.keys()) held.unreadBytes += response.writableLength;
    }
    return held.requestBytes + held.unreadBytes;
  }

  /** The memory that all open answers hold, and those of the owner that holds the most, in bytes. */
  count(): { total: number; largest: number } {
    const each = [...this.owners.keys()].map((owner) => this.bytesOf(owner));
    return { total: each.reduce((sum, bytes) => sum + bytes, 0), largest: Math.max(0, ...each) };
  }

  /** Whom the answer is for; undefined for a public route. */
  ownerOf(response: Response): string | undefined {
    return this.ownersOf.get(response);
  }

  private mustOwn(response: Response): string {
    const owner = this.ownerOf(response);
    if (owner === undefined) throw new Error('The route of this answer is public.');
    return owner;
  }

  /** @throws TooMuchUnread */
  assertRoom(owner: string): void {
    if (this.bytesOf(owner) > this.maxBytes) throw new TooMuchUnread(this.maxBytes);
  }

  /** Ends the streams that are furthest behind, of each owner that has too much unread, until it has no longer too much. */
  private endStreams(): void {
    for (const [owner, { answers }] of [...this.owners]) {
      let bytes = this.bytesOf(owner);
      if (bytes <= this.maxBytes) continue;
      const streams = [...answers]
        .flatMap(([response, { end }]) => (end ? [{ waiting: response.writableLength, end }] : []))
        .sort((a, b) => b.waiting - a.waiting);
      for (const { waiting, end } of streams) {
        if (bytes <= this.maxBytes || waiting === 0) break;
        end();
        bytes -= waiting;
      }
    }
  }
}

/** The size of a JSON body, which stays in memory until the answer. Uploads are streams. */
function bodyBytesOf({ headers }: Request): number {
  return headers['content-type']?.includes('json') ? Number(headers['content-length'] ?? 0) || 0 : 0;
}
