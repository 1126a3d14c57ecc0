import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { MediaBlobsService } from './media-blobs.service.js';
import { MediaSpool } from './media-spool.js';

/** Deletes unused media, and removes files without media from the storage and the spool. */
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
    // One step at a time. A failed step does not stop the next steps.
    for (const step of [
      () => this.blobs.prune(),
      () => this.blobs.removeUnused(),
      () => this.spool.removeAbandoned(),
    ])
      await step().catch((error: unknown) => failures.push(error));
    if (failures.length > 0) throw failures.length === 1 ? failures[0] : new AggregateError(failures);
  }
}
