import { Injectable } from '@nestjs/common';
import type { Job } from 'bullmq';
import { logContext } from '../platform/logging/logger.js';
import type { QueueProcessor } from '../queues/queue-worker.service.js';
import { QueuesService } from '../queues/queues.service.js';
import { headOf, LanesService } from './lanes.service.js';
import { SendingService, type SendOutcome } from './sending.service.js';

/** One head in, one send, the lane's next head out. */
@Injectable()
export class SendMessageProcessor implements QueueProcessor<SendOutcome> {
  readonly queues = ['whatsapp-urgent', 'whatsapp-high', 'whatsapp-normal', 'whatsapp-campaign'] as const;

  constructor(
    private readonly sending: SendingService,
    private readonly lanes: LanesService,
    private readonly queuesService: QueuesService,
  ) {}

  async process(job: Job<{ id: string }>): Promise<SendOutcome> {
    return logContext.run({ messageId: job.data.id }, () => this.sending.sendHeadOf(job.data.id));
  }

  /** The job is out of Redis by now, so the next head may be one of the same id. */
  async completed(outcome: SendOutcome): Promise<void> {
    switch (outcome.kind) {
      case 'sent':
      case 'failed':
        if (outcome.next) await this.queuesService.put([headOf(outcome.next.id, outcome.next.priority)]);
        return;
      case 'nothing':
        // The send that kept the lane busy may have ended while this job still stood for the next head.
        if (outcome.accountId) await this.lanes.feed(outcome.accountId);
        return;
      case 'postponed':
        // The sweep puts it again when its time has come.
        return;
    }
  }
}
