import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { WebVersionPolicyService } from './web-version-policy.service.js';

/** Decides about new versions of WhatsApp Web. */
@Injectable()
export class WebVersionsTask implements ScheduledTask {
  readonly name = 'web-versions';
  readonly everyMs = 2_000;

  constructor(private readonly policy: WebVersionPolicyService) {}

  run(): Promise<void> {
    return this.policy.judge();
  }
}
