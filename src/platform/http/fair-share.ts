import { Injectable } from '@nestjs/common';
import type { Response } from 'express';
import { presentContext } from '../context.js';
import { Problem } from '../errors/problem.js';

/** How many requests of one owner this process works on at once. They need not take all connections to PostgreSQL. */
const atOnce = 8;
/** The same for a heavy owner, while other owners make requests, too. */
const atOnceHeavy = 2;
/**
 * An owner is heavy when its requests took more than so many milliseconds in each of two seconds, and more than those of any other, and
 * when more of them wait than of any other: the requests of an owner that is slowed down by others take long, too.
 */
const heavyMs = 2_000;
/** It stays heavy for this long, in milliseconds, and for as long as its requests wait. */
const heavyForMs = 3_000;
/** For this long after its last request an owner counts as one that makes requests, in milliseconds. */
const activeMs = 1_000;
/** If requests of a heavy owner wait, its place stays empty after each for so many times as long as the work took. */
const restRatio = 2;
const maxRestMs = 200;

/** Ends the work for a request whose connection is closed. Its client never sees it. */
export class ClientGone extends Problem {
  constructor() {
    super(408, 'request.timeout', 'The client has closed the connection.');
  }
}

/**
 * Gives each owner of requests (a workspace, or the admin) the same share of this process and of its connections to PostgreSQL: it
 * works on few requests of an owner at once, and the others of that owner wait in order. For a heavy owner it works on fewer,
 * and with rests. One owner with a thousand requests thus delays its own requests, and not those of others.
 */
@Injectable()
export class FairShare {
  private readonly owners = new Map<string, Owner>();
  private readonly used = new RecentUse();
  /** The last request, and the last one of another owner. */
  private latest = { owner: '', at: -Infinity };
  private latestOther = { owner: '', at: -Infinity };

  /**
   * Waits for the turn of the present request. The turn ends when its answer begins, or when its client is gone.
   * @throws ClientGone
   */
  async enter(owner: string, response: Response): Promise<void> {
    const context = presentContext();
    if (!context?.isRequest) throw new Error('Only code that serves a request has turns.');
    this.see(owner);
    const turn = new Turn(this, owner, response);
    context.turn = turn;
    await turn.take();
    if (response.closed) throw new ClientGone();
  }

  /** Does work for an owner that is not a request, when it is the owner's turn. */
  async run<Result>(owner: string, work: () => Promise<Result>): Promise<Result> {
    await this.wait(owner);
    const began = performance.now();
    try {
      return await work();
    } finally {
      this.leave(owner, performance.now() - began);
    }
  }

  /** Resolves when the owner may work on one request more. @returns null: at once */
  wait(owner: string): Promise<void> | null {
    const own = this.owners.get(owner);
    if (!own) {
      this.owners.set(owner, { working: 1, waiting: [], isScheduled: false });
      return null;
    }
    if (own.waiting.length === 0 && own.working < this.limitOf(owner)) {
      own.working += 1;
      return null;
    }
    return new Promise((resolve) => own.waiting.push(resolve));
  }

  /** @param tookMs how long the work took */
  leave(owner: string, tookMs: number): void {
    const mayBeHeavy = this.used.add(owner, tookMs);
    if (mayBeHeavy && this.hasLongestQueue(owner)) this.used.keepHeavy(owner);
    const isWaiting = (this.owners.get(owner)?.waiting.length ?? 0) > 0;
    if (isWaiting && this.limitOf(owner) === atOnceHeavy) {
      this.used.keepHeavy(owner);
      setTimeout(() => this.free(owner), Math.min(restRatio * tookMs, maxRestMs)).unref();
    } else this.free(owner);
  }

  private hasLongestQueue(owner: string): boolean {
    const length = this.owners.get(owner)?.waiting.length ?? 0;
    if (length === 0) return false;
    for (const { waiting } of this.owners.values()) if (waiting.length > length) return false;
    return true;
  }

  private free(owner: string): void {
    const own = this.owners.get(owner);
    if (!own) return;
    own.working -= 1;
    if (own.waiting.length === 0) {
      if (own.working === 0) this.owners.delete(owner);
    } else if (!own.isScheduled) {
      // Requests that end at once, such as refused ones, would otherwise follow each other by the thousand in one round of the event loop.
      own.isScheduled = true;
      setImmediate(() => this.beginNext(owner, own));
    }
  }

  private beginNext(owner: string, own: Owner): void {
    own.isScheduled = false;
    const limit = this.limitOf(owner);
    for (const next of own.waiting.splice(0, Math.max(0, limit - own.working))) {
      own.working += 1;
      next();
    }
  }

  private see(owner: string): void {
    if (owner !== this.latest.owner) this.latestOther = this.latest;
    this.latest = { owner, at: performance.now() };
  }

  private limitOf(owner: string): number {
    const other = this.latest.owner === owner ? this.latestOther : this.latest;
    return performance.now() - other.at < activeMs && this.used.isHeavy(owner) ? atOnceHeavy : atOnce;
  }
}

interface Owner {
  working: number;
  waiting: (() => void)[];
  /** Whether the next ones begin in the next round of the event loop. */
  isScheduled: boolean;
}

/** The time that requests took in the last one to two seconds, by owner. */
class RecentUse {
  private since = -Infinity;
  private present = new Map<string, number>();
  private past = new Map<string, number>();
  private most = { owner: '', ms: 0 };
  /** Until when an owner is heavy. */
  private readonly heavy = new Map<string, number>();

  /** @returns whether the owner took as much as a heavy one, and more than any other */
  add(owner: string, ms: number): boolean {
    const now = performance.now();
    if (now - this.since > activeMs) {
      this.past = now - this.since > 2 * activeMs ? new Map<string, number>() : this.present;
      this.present = new Map<string, number>();
      this.since = now;
      this.most = { owner: '', ms: 0 };
      for (const [each, used] of this.past) this.rank(each, used);
      for (const [each, until] of this.heavy) if (until < now) this.heavy.delete(each);
    }
    const used = (this.present.get(owner) ?? 0) + ms;
    this.present.set(owner, used);
    const all = used + (this.past.get(owner) ?? 0);
    this.rank(owner, all);
    // The sum is over two seconds at most.
    return owner === this.most.owner && all > 2 * heavyMs;
  }

  isHeavy(owner: string): boolean {
    return (this.heavy.get(owner) ?? 0) > performance.now();
  }

  keepHeavy(owner: string): void {
    this.heavy.set(owner, performance.now() + heavyForMs);
  }

  private rank(owner: string, ms: number): void {
    if (owner === this.most.owner || ms > this.most.ms) this.most = { owner, ms };
  }
}

/** The turn of one request. */
class Turn {
  private isHeld = false;
  private began = 0;
  private isOver = false;

  constructor(
    private readonly share: FairShare,
    private readonly owner: string,
    private readonly response: Response,
  ) {
    const writeHead = response.writeHead.bind(response) as (...head: unknown[]) => Response;
    response.writeHead = (...head: unknown[]) => {
      this.end();
      return writeHead(...head);
    };
    response.once('close', () => this.end());
  }

  async take(): Promise<void> {
    await this.share.wait(this.owner);
    this.isHeld = true;
    this.began = performance.now();
    if (this.isOver || this.response.closed) this.give();
  }

  /** Does work that waits for others, without the turn. */
  async without<Result>(work: () => Promise<Result>): Promise<Result> {
    if (!this.isHeld) return work();
    this.give();
    try {
      return await work();
    } finally {
      if (!this.isOver) await this.take();
    }
  }

  private end(): void {
    this.isOver = true;
    this.give();
  }

  private give(): void {
    if (!this.isHeld) return;
    this.isHeld = false;
    this.share.leave(this.owner, performance.now() - this.began);
  }
}

/**
 * Does work that waits for something slow, such as an instance, a stranger's server, or the rest of a body. The request gives up
 * its turn for that time, and waits for a new turn afterwards. Outside of a request it just does the work.
 */
export function withoutTurn<Result>(work: () => Promise<Result>): Promise<Result> {
  const turn = presentContext()?.turn;
  return turn ? turn.without(work) : work();
}
