import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { firstId } from '../platform/database/ids.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { isInUse } from './media-in-use.js';
import { blobIdOf, blobKey, MEDIA_STORAGE, type MediaStorage } from './media-storage.js';

interface Blob {
  id: string;
  sha256: Buffer;
  size: string;
}

/** A finding of `media:check`. */
export interface StorageFinding {
  problem: 'missing' | 'damaged' | 'stray';
  key: string;
  /** The media that refer to the file. */
  mediaIds: string[];
}

/** How many rows one statement takes: few, so that its locks are short. */
const batchSize = 500;
/** If no media refers to a blob after this time, its process died. An upload may take much less time than this. */
const abandonedHours = 24;
/** How many removals may fail in a row. */
const maxFailures = 50;

/** Deletes unused media, removes files without media from the storage, and finds lost files. For the whole fleet. */
@Injectable()
export class MediaBlobsService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    @Inject(MEDIA_STORAGE) private readonly storage: MediaStorage,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /**
   * Deletes the media that were not used for a time and that no waiting message needs.
   * @param olderThanMs this time; null keeps all media; without it, the time of the settings
   * @returns how many media
   */
  async prune(olderThanMs: number | null = this.config.media.retentionMs): Promise<number> {
    if (olderThanMs === null) return 0;
    let total = 0;
    for (let pruned = batchSize; pruned === batchSize; total += pruned) {
      // A media that a message takes at this moment is locked, or has a new `last_used_at` when its lock is free.
      const [, count]: [unknown, number] = await this.database.query(
        `delete from media where id in (
           select m.id from media m where m.last_used_at < now() - $1 * interval '1 millisecond'
             and not ${isInUse('m.id::text')}
           order by m.last_used_at limit ${batchSize} for update skip locked)
         and last_used_at < now() - $1 * interval '1 millisecond'`,
        [olderThanMs],
      );
      pruned = count;
    }
    return total;
  }

  /**
   * Removes the blobs without media, and the blobs whose upload died. A concurrent upload of the same content is safe, because
   * it has a key of its own. If a blob cannot be removed, the next call tries again.
   * @returns how many blobs
   * @throws MediaStorageUnavailable if {@link maxFailures} removals fail in a row: the storage must be down
   */
  async removeUnused(): Promise<number> {
    await this.database.query(
      `update media_blobs set state = 'doomed' where id in (select id from media_blobs
         where (state = 'kept' and refs = 0)
           or (state = 'writing' and created_at < now() - interval '${abandonedHours} hours')
         order by id for update skip locked)`,
    );
    let removed = 0;
    let failed = 0;
    for (let after = firstId; ;) {
      const blobs: Blob[] = await this.database.query(
        `select id, sha256, size from media_blobs where state = 'doomed' and id > $1 order by id limit ${batchSize}`,
        [after],
      );
      for (const blob of blobs) {
        try {
          await this.storage.delete(keyOf(blob));
        } catch (error) {
          failed += 1;
          if (failed === maxFailures) throw error;
          this.logger.warn(
            { err: error, key: keyOf(blob) },
            'cannot remove a file from the storage; trying again later',
          );
          continue;
        }
        failed = 0;
        await this.database.query('delete from media_blobs where id = $1', [blob.id]);
        removed += 1;
      }
      if (blobs.length < batchSize) return removed;
      after = blobs.at(-1)!.id;
    }
  }

  /**
   * Compares the rows with the storage. It finds files that are missing or have a wrong length, and files without a row that are
   * older than a day: a younger file may belong to an upload. It ignores files that Flotilla has not named.
   */
  async *check(): AsyncIterable<StorageFinding> {
    for (let after = firstId; ;) {
      const blobs: Blob[] = await this.database.query(
        `select id, sha256, size from media_blobs where state = 'kept' and id > $1 order by id limit ${batchSize}`,
        [after],
      );
      for (const blob of blobs) {
        const size = await this.storage.size(keyOf(blob));
        if (size === Number(blob.size)) continue;
        const rows: { id: string }[] = await this.database.query('select id from media where blob_id = $1', [
          blob.id,
        ]);
        // The media was deleted after the query: the file may go before its row.
        if (rows.length === 0) continue;
        yield {
          problem: size === null ? 'missing' : 'damaged',
          key: keyOf(blob),
          mediaIds: rows.map(({ id }) => id),
        };
      }
      if (blobs.length < batchSize) break;
      after = blobs.at(-1)!.id;
    }
    for await (const { key, writtenAt } of this.storage.list()) {
      const isOld = Date.now() - writtenAt.getTime() > abandonedHours * 3_600_000;
      if (isOld && (await this.isStray(key))) yield { problem: 'stray', key, mediaIds: [] };
    }
  }

  /** Removes a stray file that {@link check} found, unless it is not stray any more. */
  async removeStray(key: string): Promise<void> {
    if (await this.isStray(key)) await this.storage.delete(key);
  }

  /** Whether a file has a name of Flotilla but no row. Files with other names belong to others. */
  private async isStray(key: string): Promise<boolean> {
    const id = blobIdOf(key);
    if (id === null) return false;
    const known: unknown[] = await this.database.query('select from media_blobs where id = $1', [id]);
    return known.length === 0;
  }
}

function keyOf({ id, sha256 }: Blob): string {
  return blobKey({ sha256: sha256.toString('hex'), blobId: id });
}
