import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { DataSource, type EntityManager, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { Problem } from '../platform/errors/problem.js';
import { LimitsService } from '../workspaces/limits.service.js';
import { withoutTurn } from '../platform/http/fair-share.js';
import { blobKey, MEDIA_STORAGE, type MediaStorage } from './media-storage.js';
import type { SpooledFile } from './media-spool.js';
import { Media, type MediaOrigin } from './media.entity.js';

export class StorageLimitReached extends Problem {
  constructor(limit: number) {
    super(
      413,
      'workspace.storage_limit',
      `The file does not fit: this workspace may store ${limit} bytes of media. Delete media that you no longer need.`,
    );
  }
}

/** How a workspace sees a file. */
interface Described {
  mimetype: string;
  filename: string | null;
  source: MediaOrigin;
}

/** Puts files into the storage, and makes them media of a workspace. Order of locks: the content, then media, then blobs. */
@Injectable()
export class MediaKeeper {
  constructor(
    @InjectRepository(Media) private readonly media: Repository<Media>,
    @InjectDataSource() private readonly database: DataSource,
    @Inject(MEDIA_STORAGE) private readonly storage: MediaStorage,
    private readonly limits: LimitsService,
  ) {
    limits.onUsage(async (workspaceId) => ({
      storageBytes: await storedBytes(database.manager, workspaceId),
    }));
  }

  /**
   * Keeps a file. The same file under the same name is the same media. The storage has its bytes once; if the storage has lost
   * them, they are written again.
   * @throws StorageLimitReached, MediaStorageUnavailable
   */
  async keep(workspaceId: string, file: SpooledFile, described: Described): Promise<Media> {
    const { sha256, size } = file;
    const content = Buffer.from(sha256, 'hex');
    const known = await this.findSame(workspaceId, file, described);
    if (known) return known;
    const { maxStorageBytes } = await this.limits.of(workspaceId);
    // The bytes are written even if another workspace has stored them, so that the duration does not reveal that.
    const blobId = uuidv7();
    await this.database.query('select write_media_blob($1, $2, $3)', [blobId, content, size]);
    try {
      await withoutTurn(() => this.storage.put(blobKey({ sha256, blobId }), file));
      const lost = await this.findLost(file, blobId);
      return await this.database.transaction(async (manager) => {
        if (maxStorageBytes !== null) await assertRoom(manager, workspaceId, size, maxStorageBytes);
        return this.refer(manager, workspaceId, { ...file, blobId, lost }, described);
      });
    } catch (error) {
      // If this fails too, the scheduler removes the bytes a day later.
      await this.database.query('select give_up_media_blob($1)', [blobId]).catch(() => undefined);
      throw error;
    }
  }

  /** The workspace's media of the same file, if the storage still has the bytes. It counts as used now. */
  private async findSame(
    workspaceId: string,
    file: SpooledFile,
    described: Described,
  ): Promise<Media | null> {
    const values = sameValues(workspaceId, file, described);
    const [same]: { blobId: string }[] = await this.database.query(
      `select blob_id as "blobId" from media where ${isSame}`,
      values,
    );
    if (!same || (await this.sizeOf(file, same.blobId)) !== file.size) return null;
    const [[used]]: [{ id: string }[], number] = await this.database.query(
      `update media set last_used_at = now() where ${isSame} returning id`,
      values,
    );
    return used ? this.media.findOneBy({ id: used.id }) : null;
  }

  /** The known blob with the same content, if the storage has lost it or a part of it. */
  private async findLost(file: SpooledFile, written: string): Promise<string | null> {
    const [row] = await this.database.query<{ kept: string | null }[]>('select kept_media_blob($1) as kept', [
      Buffer.from(file.sha256, 'hex'),
    ]);
    const kept = row!.kept;
    // Without a known blob the storage is asked all the same, so that the duration does not reveal whether there is one.
    const size = await this.sizeOf(file, kept ?? written);
    return size === file.size ? null : kept;
  }

  private sizeOf({ sha256 }: SpooledFile, blobId: string): Promise<number | null> {
    return this.storage.size(blobKey({ sha256, blobId }));
  }

  /** The media of a file in the storage. It refers to this blob, or to an earlier blob with the same content. */
  private async refer(
    manager: EntityManager,
    workspaceId: string,
    file: SpooledFile & { blobId: string; lost: string | null },
    described: Described,
  ): Promise<Media> {
    const content = Buffer.from(file.sha256, 'hex');
    const values = sameValues(workspaceId, file, described);
    await manager.query('select lock_media_content($1)', [content]);
    // A concurrent call may have stored the same file. Lock its row first, then the blob, in the order of a deletion.
    const [[same]]: [{ id: string }[], number] = await manager.query(
      `update media set last_used_at = now() where ${isSame} returning id`,
      values,
    );
    const [row] = await manager.query<{ kept: string | null }[]>('select keep_media_blob($1, $2) as kept', [
      file.blobId,
      file.lost,
    ]);
    const kept = row!.kept;
    if (kept === null)
      throw new Error(`The blob ${file.blobId} was removed while its file was being stored.`);
    const id = same?.id ?? uuidv7();
    if (!same)
      await manager.query(
        `insert into media (id, workspace_id, sha256, mimetype, filename, blob_id, size, source)
         values ($1, $2, $3, $4, $5, $6, $7, $8)`,
        [id, workspaceId, content, described.mimetype, described.filename, kept, file.size, described.source],
      );
    return manager.findOneByOrFail(Media, { id });
  }
}

/** SQL: two files are the same media. $1 is the workspace, $2 the content, $3 the type, $4 the name. */
const isSame = `workspace_id = $1 and sha256 = $2 and mimetype = $3 and coalesce(filename, '') = $4`;

function sameValues(workspaceId: string, { sha256 }: SpooledFile, { mimetype, filename }: Described) {
  return [workspaceId, Buffer.from(sha256, 'hex'), mimetype, filename ?? ''];
}

/**
 * Checks the limit of the workspace. The lock keeps concurrent uploads of the workspace out until the transaction ends.
 * @throws StorageLimitReached
 */
async function assertRoom(
  manager: EntityManager,
  workspaceId: string,
  size: number,
  limit: number,
): Promise<void> {
  await manager.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`media of ${workspaceId}`]);
  if ((await storedBytes(manager, workspaceId)) + size > limit) throw new StorageLimitReached(limit);
}

async function storedBytes(manager: EntityManager, workspaceId: string): Promise<number> {
  const [row] = await manager.query<{ bytes: string }[]>(
    'select coalesce(sum(size), 0)::bigint as bytes from media where workspace_id = $1',
    [workspaceId],
  );
  return Number(row!.bytes);
}
