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

/** What `media:check` finds. */
export interface StorageFinding {
  problem: 'missing' | 'damaged' | 'stray';
  key: string;
  /** The media that refer to it. */
  mediaIds: string[];
}

/** How many rows one statement takes: short enough that nobody waits for it. */
const atOnce = 500;
/** A blob that is still not referred to after this time was left by a process that died. Uploads are bounded by far less. */
const abandonedHours = 24;
/** How many removals may fail in a row. */
const mostFailures = 50;

/** Forgets media after its time, removes the bytes that nobody refers to, and looks after what is lost. For the whole fleet. */
@Injectable()
export class MediaBlobsService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    @Inject(MEDIA_STORAGE) private readonly storage: MediaStorage,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /**
   * Forgets the media that nobody has used for a time and that no waiting message needs.
   * @param olderThanMs that time; what the settings say unless given
   * @returns how many media
   */
  async prune(olderThanMs: number | null = this.config.media.retentionMs): Promise<number> {
    if (olderThanMs === null) return 0;
    let total = 0;
    for (let pruned = atOnce; pruned === atOnce; total += pruned) {
      // One that is taken for a message at this moment is locked, or has a new time once it is free.
      const [, count]: [unknown, number] = await this.database.query(
        `delete from media where id in (
           select m.id from media m where m.last_used_at < now() - $1 * interval '1 millisecond'
             and not ${isInUse('m.id::text')}
           order by m.last_used_at limit ${atOnce} for update skip locked)
         and last_used_at < now() - $1 * interval '1 millisecond'`,
        [olderThanMs],
      );
      pruned = count;
    }
    return total;
  }

  /**
   * Removes the bytes that no media refers to any more, and those whose upload died. A parallel upload of the same content is
   * safe: it has a key of its own. One that cannot be removed is left for the next time.
   * @returns how many blobs
   * @throws MediaStorageUnavailable when so many cannot be removed, one after the other, that the storage must be down
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
        `select id, sha256, size from media_blobs where state = 'doomed' and id > $1 order by id limit ${atOnce}`,
        [after],
      );
      for (const blob of blobs) {
        try {
          await this.storage.delete(keyOf(blob));
        } catch (error) {
          failed += 1;
          if (failed === mostFailures) throw error;
          this.logger.warn({ err: error, key: keyOf(blob) }, 'a file of the storage could not be removed');
          continue;
        }
        failed = 0;
        await this.database.query('delete from media_blobs where id = $1', [blob.id]);
        removed += 1;
      }
      if (blobs.length < atOnce) return removed;
      after = blobs.at(-1)!.id;
    }
  }

  /**
   * Compares the rows with the storage: bytes that are missing or of another length, and files of ours that have belonged to
   * nothing for a day. What is being stored at this moment is none of them, and files of others are not looked at.
   */
  async *check(): AsyncIterable<StorageFinding> {
    for (let after = firstId; ;) {
      const blobs: Blob[] = await this.database.query(
        `select id, sha256, size from media_blobs where state = 'kept' and id > $1 order by id limit ${atOnce}`,
        [after],
      );
      for (const blob of blobs) {
        const size = await this.storage.size(keyOf(blob));
        if (size === Number(blob.size)) continue;
        const rows: { id: string }[] = await this.database.query('select id from media where blob_id = $1', [
          blob.id,
        ]);
        // Deleted since: its bytes may go before its row.
        if (rows.length === 0) continue;
        yield {
          problem: size === null ? 'missing' : 'damaged',
          key: keyOf(blob),
          mediaIds: rows.map(({ id }) => id),
        };
      }
      if (blobs.length < atOnce) break;
      after = blobs.at(-1)!.id;
    }
    for await (const { key, writtenAt } of this.storage.list()) {
      const isOld = Date.now() - writtenAt.getTime() > abandonedHours * 3_600_000;
      if (isOld && (await this.isStray(key))) yield { problem: 'stray', key, mediaIds: [] };
    }
  }

  /** Removes a file that {@link check} found to belong to nothing; one that is not, or no more, stays. */
  async removeStray(key: string): Promise<void> {
    if (await this.isStray(key)) await this.storage.delete(key);
  }

  /** Whether a file is named as ours are, and no row knows it. What is named otherwise is somebody else's. */
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
