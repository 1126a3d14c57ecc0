import { Inject, Injectable } from '@nestjs/common';
import type { Job } from 'bullmq';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { logContext } from '../platform/logging/logger.js';
import type { QueueProcessor, WorkerSlots } from '../queues/queue-worker.service.js';
import { QueuesService } from '../queues/queues.service.js';
import { LaneTurns } from './lane-turns.js';
import { headOf, LanesService } from './lanes.service.js';
import { strictOrder } from './message-rows.js';
import { type Claim, SendingService, type SendOutcome } from './sending.service.js';

/** How long a job may go on with its lane before it gives its slot back. */
const longestRunMs = 5_000;

/** What is to be put once the job has left its queue. */
type Remainder =
  | { kind: 'head'; id: string; priority: number }
  | { kind: 'unclaimed'; messageId: string }
  | { kind: 'none' };

/**
 * One head in, and the lane goes on from it. While the worker has slots to spare nobody waits for this one, so the lane's
 * next message is sent without a way through Redis; otherwise its head goes to the end of its queue when its turn is over, as
 * every lane's does.
 */
@Injectable()
export class SendMessageProcessor implements QueueProcessor<Remainder> {
  readonly queues = ['whatsapp-urgent', 'whatsapp-high', 'whatsapp-normal', 'whatsapp-campaign'] as const;

  private readonly turns: LaneTurns;

  constructor(
    private readonly sending: SendingService,
    private readonly lanes: LanesService,
    private readonly queuesService: QueuesService,
    @Inject(CONFIG) config: Config,
  ) {
    this.turns = new LaneTurns(config.worker.campaignShare);
  }

  async process(job: Job<{ id: string }>, slots: WorkerSlots): Promise<Remainder> {
    const until = Date.now() + longestRunMs;
    let claim = await this.sending.claim(job.data.id, strictOrder);
    if (!claim) return { kind: 'unclaimed', messageId: job.data.id };
    for (let sent = 1; claim; sent += 1) {
      const { accountId, workspaceId, priority }: Claim = claim;
      this.turns.note(claim, priority);
      const next = this.turns.order(accountId, strictOrder);
      const isOver = Date.now() >= until;
      const hasTurn = sent < this.turns.turn(workspaceId);
      // In its turn a lane goes on with what is as urgent: what is less so is behind the heads that wait.
      const goOn = isOver
        ? []
        : slots.hasSpare()
          ? next
          : hasTurn
            ? next.filter((other) => other >= priority)
            : [];
      const outcome = await this.send(claim, next, goOn);
      // The sweep puts a postponed message again when its time has come.
      if (outcome.kind === 'postponed') return { kind: 'none' };
      if (outcome.head) return { kind: 'head', ...outcome.head };
      claim = outcome.next;
    }
    return { kind: 'none' };
  }

  private send(claim: Claim, next: readonly number[], goOn: readonly number[]): Promise<SendOutcome> {
    return logContext.run({ messageId: claim.id }, () => this.sending.send(claim, next, goOn));
  }

  /** The job is out of Redis by now, so what is put may have the same id. */
  async completed(remainder: Remainder): Promise<void> {
    if (remainder.kind === 'head') {
      await this.queuesService.put([headOf(remainder.id, remainder.priority)]);
    } else if (remainder.kind === 'unclaimed') {
      // The send that kept the lane busy may have ended while this job still stood for the next head.
      const accountId = await this.sending.accountOf(remainder.messageId);
      if (accountId) await this.lanes.feed([accountId]);
    }
  }
}
