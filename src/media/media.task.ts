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
    const failures: unknown[] = [];
    // One at a time, and each whatever becomes of the others.
    for (const step of [
      () => this.blobs.prune(),
      () => this.blobs.removeUnused(),
      () => this.spool.removeAbandoned(),
    ])
      await step().catch((error: unknown) => failures.push(error));
    if (failures.length > 0) throw failures.length === 1 ? failures[0] : new AggregateError(failures);
  }
}
