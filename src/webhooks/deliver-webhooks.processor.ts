import { Injectable } from '@nestjs/common';
import type { Job } from 'bullmq';
import type { JobContext, QueueProcessor } from '../queues/job-runner.js';
import type { WebhookSequence } from './webhook-sequences.js';
import { WebhookRunner } from './webhook-runner.js';

/**
 * Delivers the sequence that a job names, in the slots of {@link WebhookRunner}. In a worker that serves other queues too,
 * the job ends at once, so that an endpoint that hangs delays no send. In a worker that serves only this queue, the job lasts
 * as long as the sequence runs.
 */
@Injectable()
export class DeliverWebhooksProcessor implements QueueProcessor {
  readonly queues = ['webhooks'] as const;

  constructor(private readonly runner: WebhookRunner) {}

  async process({ data }: Job<WebhookSequence>, context: JobContext): Promise<void> {
    const run = this.runner.begin({
      webhookId: data.webhookId,
      laneId: data.laneId,
      workspaceId: data.workspaceId,
    });
    if (context.servedQueues().every((queue) => queue === 'webhooks')) await run;
  }

  stop(): Promise<void> {
    return this.runner.stop();
  }
}
