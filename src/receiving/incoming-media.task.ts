import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { IncomingMediaService } from '../messages/incoming-media.service.js';

/** Publishes incoming messages whose media was not downloaded in time. */
@Injectable()
export class IncomingMediaTask implements ScheduledTask {
  readonly name = 'received-media';
  readonly everyMs = 30_000;

  constructor(private readonly media: IncomingMediaService) {}

  run(): Promise<number> {
    return this.media.giveUpLate();
  }
}
