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

/** How long a job may go on with its lane before it gives its slot back. */
const longestJobMs = 5_000;
/** Nor longer than so much of the time after which it would be failed: its last send has to end within the rest. */
const shareOfTimeout = 0.5;
/** How long a lane is left to its instance: so late does a lane notice that others wait for its slot. */
const longestRunMs = 250;
const longestRun = 25;

/** What is to be put once the job has left its queue. */
type Remainder =
  { kind: 'head'; head: LaneHead } | { kind: 'unclaimed'; accountId: string } | { kind: 'none' };

/**
 * One head in, and its lane is run by the instance that owns the account. While the worker has slots to spare nobody waits
 * for this one, so the lane goes on without a way through Redis; otherwise, when its turn is over, its head goes to the end
 * of its queue, as every lane's does.
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
      // Most often an instance that is being restarted. What it was at, and what waits, the sweep puts again.
      this.logger.warn(
        { accountId: lane.accountId, code: error.code, detail: error.message },
        'a lane was not run',
      );
      return { kind: 'none' };
    }
  }

  private async runLane(lane: Lane, context: JobContext): Promise<Remainder> {
    const { hasJobLimit, policy } = context;
    const until = Date.now() + Math.min(longestJobMs, policy.timeoutMs * shareOfTimeout);
    let sent = 0;
    for (;;) {
      this.turns.note(lane);
      const turn = hasJobLimit ? 1 : this.turns.length(lane.workspaceId);
      // A queue may have been paused meanwhile.
      const order = servedPriorities(context);
      if (order.length === 0) return { kind: 'none' };
      const isAlone = !hasJobLimit && context.hasIdleSlot();
      const result = await this.lanes.run(lane, {
        order,
        most: isAlone ? longestRun : Math.max(1, turn - sent),
        forMs: longestRunMs,
        asUrgentOnly: !isAlone,
        policy,
      });
      sent += result.ended;
      if (result.isUnclaimed) return { kind: 'unclaimed', accountId: lane.accountId };
      if (!result.head) return { kind: 'none' };
      const mayGoOn = Date.now() < until && ((!hasJobLimit && context.hasIdleSlot()) || sent < turn);
      if (!mayGoOn) return { kind: 'head', head: result.head };
    }
  }

  /** The job is out of Redis by now, so what is put may have the same id. */
  async completed(remainder: Remainder): Promise<void> {
    if (remainder.kind === 'head') {
      await this.queuesService.put([headJob(remainder.head.id, remainder.head.priority)]);
    } else if (remainder.kind === 'unclaimed') {
      // The send that kept the lane busy may have ended while this job still stood for the next head.
      await this.lanes.feed([remainder.accountId]);
    }
  }
}
