import { Injectable } from '@nestjs/common';
import type { NextFunction, Request, Response } from 'express';
import { AsyncLocalStorage } from 'node:async_hooks';
import { Problem } from '../errors/problem.js';

/** How many requests of one owner this process works on at once while other owners make requests, too. */
const atOnceBesideOthers = 2;
/** The same for an owner that is alone. Its requests need not take all connections to PostgreSQL. */
const atOnceAlone = 8;
/** For this long after its last request an owner counts as one that makes requests, in milliseconds. */
const activeMs = 1_000;
/** After work that took longer, its place stays empty for as long, if other owners make requests. */
const restFromMs = 20;
const maxRestMs = 200;

/** Ends the work for a request whose connection is closed. Its client never sees it. */
export class ClientGone extends Problem {
  constructor() {
    super(408, 'request.timeout', 'The client has closed the connection.');
  }
}

const turns = new AsyncLocalStorage<{ turn: Turn | null }>();

/** Middleware for {@link FairShare}: it must run around all work for the request. */
export function serveInTurn(_request: Request, _response: Response, next: NextFunction): void {
  turns.run({ turn: null }, next);
}

/**
 * Gives each owner of requests (a workspace, or the admin) the same share of this process and of its connections to PostgreSQL: it
 * works on few requests of an owner at once, and the others of that owner wait in order. Long work is followed by a rest. One
 * owner with a thousand requests thus delays its own requests, and not those of others.
 */
@Injectable()
export class FairShare {
  private readonly owners = new Map<string, { working: number; waiting: (() => void)[] }>();
  /** The last request, and the last one of another owner. */
  private latest = { owner: '', at: -Infinity };
  private latestOther = { owner: '', at: -Infinity };

  /**
   * Waits for the turn of the present request. The turn ends when its answer begins, or when its client is gone.
   * @throws ClientGone
   */
  async enter(owner: string, response: Response): Promise<void> {
    const context = turns.getStore();
    if (!context) throw new Error('The middleware serveInTurn must run before the guards.');
    this.see(owner);
    context.turn = new Turn(this, owner, response);
    await context.turn.take();
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
      this.owners.set(owner, { working: 1, waiting: [] });
      return null;
    }
    if (own.working < this.limitOf(owner)) {
      own.working += 1;
      return null;
    }
    return new Promise((resolve) => own.waiting.push(resolve));
  }

  /** @param tookMs how long the work took */
  leave(owner: string, tookMs: number): void {
    if (tookMs > restFromMs && this.limitOf(owner) === atOnceBesideOthers)
      setTimeout(() => this.free(owner), Math.min(tookMs, maxRestMs)).unref();
    else this.free(owner);
  }

  private free(owner: string): void {
    const own = this.owners.get(owner);
    if (!own) return;
    own.working -= 1;
    const limit = this.limitOf(owner);
    for (const next of own.waiting.splice(0, Math.max(0, limit - own.working))) {
      own.working += 1;
      next();
    }
    if (own.working === 0) this.owners.delete(owner);
  }

  private see(owner: string): void {
    if (owner !== this.latest.owner) this.latestOther = this.latest;
    this.latest = { owner, at: performance.now() };
  }

  private limitOf(owner: string): number {
    const other = this.latest.owner === owner ? this.latestOther : this.latest;
    return performance.now() - other.at < activeMs ? atOnceBesideOthers : atOnceAlone;
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
  const turn = turns.getStore()?.turn;
  return turn ? turn.without(work) : work();
}
