import { Inject, Injectable } from '@nestjs/common';
import type { Job } from 'bullmq';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { JobContext, QueueProcessor } from '../queues/job-runner.js';
import { QueuesService } from '../queues/queues.service.js';
import type { LaneHead } from './lane-run.js';
import { LaneTurns } from './lane-turns.js';
import { headJob } from '../messages/message.entity.js';
import { type Lane, LanesService } from './lanes.service.js';
import { servedPriorities } from './lane-order.js';

/** How long a job may keep its slot and continue its lane. */
const maxJobMs = 5_000;
/** The part of the queue's timeout that a job may use before its last send, which must end within the rest. */
const maxTimeoutShare = 0.5;
/** The limits of one call to the instance. During a call, a worker cannot react to lanes that wait for the slot. */
const maxRunMs = 250;
const maxRunMessages = 25;

/** What to put after the job has left its queue. */
type Remainder =
  { kind: 'head'; head: LaneHead } | { kind: 'unclaimed'; accountId: string } | { kind: 'none' };

/**
 * Takes the head of a lane, and lets the instance that owns the account run the lane. While the worker has idle slots, the lane
 * continues without going through Redis. Otherwise, after its turn, the lane's next head goes to the end of its queue.
 */
@Injectable()
export class LanesProcessor implements QueueProcessor<Remainder> {
  readonly queues = ['whatsapp-urgent', 'whatsapp-high', 'whatsapp-normal', 'whatsapp-campaign'] as const;
  private readonly turns = new LaneTurns();

  constructor(
    private readonly lanes: LanesService,
    private readonly queuesService: QueuesService,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  async process(job: Job<{ id: string }>, context: JobContext): Promise<Remainder> {
    const lane = await this.lanes.find(job.data.id);
    if (!lane) return { kind: 'none' };
    try {
      return await this.runLane(lane, context);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      // Usually the instance is restarting. The sweep puts its running sends and its waiting messages again.
      this.logger.warn(
        {
          accountId: lane.accountId,
          code: error.code,
          detail: error.message,
          reason: error.cause instanceof Error ? error.cause.message : undefined,
        },
        'a lane could not be run; the sweep will put it again',
      );
      return { kind: 'none' };
    }
  }

  private async runLane(lane: Lane, context: JobContext): Promise<Remainder> {
    const { hasJobLimit, policy } = context;
    const until = Date.now() + Math.min(maxJobMs, policy.timeoutMs * maxTimeoutShare);
    let sent = 0;
    for (;;) {
      this.turns.note(lane);
      const turn = hasJobLimit ? 1 : this.turns.length(lane.workspaceId);
      // Read again for each run: a queue may have been paused.
      const order = servedPriorities(context);
      if (order.length === 0) return { kind: 'none' };
      const hasSpareSlot = !hasJobLimit && context.hasIdleSlot();
      const result = await this.lanes.run(lane, {
        order,
        most: hasSpareSlot ? maxRunMessages : Math.max(1, turn - sent),
        forMs: maxRunMs,
        asUrgentOnly: !hasSpareSlot,
        policy,
      });
      sent += result.ended;
      if (result.isUnclaimed) return { kind: 'unclaimed', accountId: lane.accountId };
      if (!result.head) return { kind: 'none' };
      const mayGoOn = Date.now() < until && ((!hasJobLimit && context.hasIdleSlot()) || sent < turn);
      if (!mayGoOn) return { kind: 'head', head: result.head };
    }
  }

  /** The job has left Redis now, so the new job may have the same id. */
  async completed(remainder: Remainder): Promise<void> {
    if (remainder.kind === 'head') {
      await this.queuesService.put([headJob(remainder.head.id, remainder.head.priority)]);
    } else if (remainder.kind === 'unclaimed') {
      // The send that kept the lane busy may have ended while this job still existed, so that the next head could not be put.
      await this.lanes.feed([remainder.accountId]);
    }
  }
}
