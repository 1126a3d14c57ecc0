import { createBullBoard } from '@bull-board/api';
import { BullMQAdapter } from '@bull-board/api/bullMQAdapter';
import { ExpressAdapter } from '@bull-board/express';
import { Injectable } from '@nestjs/common';
import type { Queue } from 'bullmq';
import type { Express, NextFunction, Request, RequestHandler, Response } from 'express';
import { Problem } from '../platform/errors/problem.js';
import { sendProblem } from '../platform/errors/problem.filter.js';
import { maxFormBytes, readJson } from '../platform/http/body.js';
import { pageHeaders } from '../platform/http/security-headers.js';
import { isLaneQueue, type QueueName, queueNames } from '../queues/queue-policies.js';
import { QueueStates } from '../queues/queue-states.js';
import { QueuesService, RedisUnreachable } from '../queues/queues.service.js';
import { AdminGuard } from './admin.guard.js';

/** The path of the board. */
export const boardPath = '/admin/queues';

const timeoutMs = 8_000;

/** Bull Board: shows the jobs that Redis holds. */
@Injectable()
export class QueueBoard {
  constructor(
    private readonly guard: AdminGuard,
    private readonly queues: QueuesService,
    private readonly states: QueueStates,
  ) {}

  /** The request handlers of {@link boardPath}, the outermost first. */
  handlers(): RequestHandler[] {
    const server = new ExpressAdapter();
    server.setBasePath(boardPath);
    createBullBoard({
      queues: queueNames.map((name) => new BoardQueue(name, this.queues.queue(name), this.states)),
      serverAdapter: server,
      options: { uiConfig: { boardTitle: 'Flotilla', hideDocsLink: true, showWorkers: false } },
    });
    // The headers allow only its own scripts and styles, so the external fonts of its page do not load.
    const readBody = readJson({ bytes: maxFormBytes });
    return [
      this.guard.middleware,
      readBody,
      pageHeaders,
      this.withRedis,
      withoutBanner(server.getRouter() as Express),
    ];
  }

  /** Refuses API calls while Redis is not connected, and ends calls that take too long. */
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
    const timer = setTimeout(() => refuse(new RedisUnreachable()), timeoutMs);
    response.once('close', () => clearTimeout(timer));
    this.queues.assertReady().then(
      () => next(),
      (error: unknown) => (error instanceof Problem ? refuse(error) : next(error)),
    );
  };
}

/** The board is an Express application of its own, with Express's own defaults. */
function withoutBanner(board: Express): RequestHandler {
  board.disable('x-powered-by');
  return board;
}

/** A queue on the board. It pauses and resumes as everywhere else, and shows only the ids of its jobs, not their data. */
class BoardQueue extends BullMQAdapter {
  constructor(
    private readonly queueName: QueueName,
    private readonly jobs: Queue,
    private readonly states: QueueStates,
  ) {
    super(jobs, {
      description: isLaneQueue(queueName)
        ? 'Only the next message of each account. The backlog is in PostgreSQL: flotilla queue:monitor, GET /api/v1/admin/queues.'
        : 'Failed jobs are in PostgreSQL: flotilla queue:failed.',
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

  /**
   * BullMQ pauses a queue before it obliterates it, and leaves the queue paused if that is refused. Flotilla never resumes this
   * pause of BullMQ, so it must end here.
   */
  override async obliterate(options?: { force?: boolean }): Promise<void> {
    try {
      await super.obliterate(options);
    } finally {
      await this.jobs.resume();
    }
  }
}
