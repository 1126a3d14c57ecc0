import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import { Injectable } from '@nestjs/common';
import type { Queue } from 'bullmq';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import { Problem } from '../platform/errors/problem.js';
import { sendProblem } from '../platform/errors/problem.filter.js';
import { pageHeaders } from '../platform/http/security-headers.js';
import { isLaneQueue, type QueueName, queueNames } from '../queues/queue-policies.js';
import { QueueStates } from '../queues/queue-states.js';
import { QueuesService, RedisUnreachable } from '../queues/queues.service.js';
import { AdminGuard } from './admin.guard.js';

/** Where the board is. */
export const boardPath = '/admin/queues';

const answerMs = 8_000;

/** Bull Board shows what Redis holds of the queues. */
@Injectable()
export class QueueBoard {
  constructor(
    private readonly guard: AdminGuard,
    private readonly queues: QueuesService,
    private readonly states: QueueStates,
  ) {}

  /** What serves {@link boardPath}, the outermost first. */
  handlers(): RequestHandler[] {
    const server = new ExpressAdapter();
    server.setBasePath(boardPath);
    createBullBoard({
      queues: queueNames.map((name) => new BoardQueue(name, this.queues.queue(name), this.states)),
      serverAdapter: server,
      options: { uiConfig: { boardTitle: 'Flotilla', hideDocsLink: true, showWorkers: false } },
    });
    // Its own scripts and styles, and nothing of others: not the fonts either that its page asks for.
    return [this.guard.middleware, pageHeaders, this.withRedis, server.getRouter() as RequestHandler];
  }

  /** What asks Redis is refused while that is away, and given up when it takes too long. */
  private readonly withRedis = (
    request: Request & { id?: string },
    response: Response,
    next: NextFunction,
  ): void => {
    if (!request.path.startsWith('/api/')) {
      next();
      return;
    }
    const refuse = (problem: Problem) => {
      if (!response.headersSent) sendProblem(response, problem, request.id);
    };
    const timer = setTimeout(() => refuse(new RedisUnreachable()), answerMs);
    response.once('close', () => clearTimeout(timer));
    this.queues.assertReady().then(
      () => next(),
      (error: unknown) => (error instanceof Problem ? refuse(error) : next(error)),
    );
  };
}

/** A queue on the board: paused and resumed as everywhere else, and without what its jobs carry but their id. */
class BoardQueue extends BullMQAdapter {
  constructor(
    private readonly queueName: QueueName,
    private readonly jobs: Queue,
    private readonly states: QueueStates,
  ) {
    super(jobs, {
      description: isLaneQueue(queueName)
        ? 'The next message of each account only. The backlog is in PostgreSQL: flotilla queue:monitor, GET /api/v1/admin/queues.'
        : 'Jobs that failed for good are in PostgreSQL: flotilla queue:failed.',
    });
    this.setFormatter('data', (data: { id?: unknown } | undefined) => ({ id: data?.id }));
    this.setFormatter('returnValue', () => undefined);
  }

  override async isPaused(): Promise<boolean> {
    return (await this.states.pausedSince()).has(this.queueName);
  }

  override async pause(): Promise<void> {
    await this.states.pause(this.queueName);
  }

  override async resume(): Promise<void> {
    await this.states.resume(this.queueName);
  }

  /** BullMQ pauses a queue before it removes all of it, and leaves it so when it is refused; here nobody would resume it. */
  override async obliterate(options?: { force?: boolean }): Promise<void> {
    try {
      await super.obliterate(options);
    } finally {
      await this.jobs.resume();
    }
  }
}
