import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { MediaBlobsService } from './media-blobs.service.js';
import { MediaSpool } from './media-spool.js';

/** Forgets media after its time, and removes from the storage what nobody refers to any more. */
@Injectable()
export class MediaTask implements ScheduledTask {
  readonly name = 'media';
  readonly everyMs = 60_000;

  constructor(
    private readonly blobs: MediaBlobsService,
    private readonly spool: MediaSpool,
  ) {}

  async run(): Promise<void> {
    await this.blobs.prune();
    await this.blobs.removeUnused();
    await this.spool.removeAbandoned();
  }
}
