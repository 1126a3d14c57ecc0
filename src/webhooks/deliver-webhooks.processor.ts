import { Injectable } from '@nestjs/common';
import type { Job } from 'bullmq';
import type { JobContext, QueueProcessor } from '../queues/job-runner.js';
import type { WebhookLane } from './webhook-sequences.js';
import { WebhookRunner } from './webhook-runner.js';

/**
 * One hint in, and the lane is run in slots that are not the worker's: beside sends the job ends at once, lest an endpoint
 * that hangs hold one up. A worker of this queue alone has nothing else to do, and its job lasts as long as the lane runs.
 */
@Injectable()
export class DeliverWebhooksProcessor implements QueueProcessor {
  readonly queues = ['webhooks'] as const;

  constructor(private readonly runner: WebhookRunner) {}

  async process({ data }: Job<WebhookLane>, context: JobContext): Promise<void> {
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
