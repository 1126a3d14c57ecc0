import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { join } from 'node:path';
import { DataSource } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { asPlatform } from '../platform/context.js';
import { DiskStorage } from './disk-storage.js';
import { MediaBlobsService } from './media-blobs.service.js';
import { MediaConverter } from './media-converter.js';
import { MediaKeeper } from './media-keeper.js';
import { MEDIA_STORAGE } from './media-storage.js';
import { MediaSpool } from './media-spool.js';
import { Media } from './media.entity.js';
import { MediaService } from './media.service.js';
import { S3Storage } from './s3-storage.js';
import { WorkspacesModule } from '../workspaces/workspaces.module.js';

@Module({
  imports: [TypeOrmModule.forFeature([Media]), WorkspacesModule],
  providers: [
    {
      provide: MEDIA_STORAGE,
      inject: [CONFIG, DataSource],
      useFactory: ({ media }: Config, database: DataSource) =>
        media.s3
          ? new S3Storage(media.s3)
          : new DiskStorage(join(media.path, 'files'), () => hasNoMedia(database)),
    },
    MediaSpool,
    MediaConverter,
    MediaKeeper,
    MediaService,
    MediaBlobsService,
  ],
  exports: [MediaService, MediaBlobsService, MediaSpool],
})
export class MediaModule {}

/** Whether no workspace has any media. */
async function hasNoMedia(database: DataSource): Promise<boolean> {
  return asPlatform(async () => {
    const kept: unknown[] = await database.query(`select from media_blobs where state = 'kept' limit 1`);
    return kept.length === 0;
  });
}
