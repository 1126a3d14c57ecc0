import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { join } from 'node:path';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { DiskStorage } from './disk-storage.js';
import { MediaBlobsService } from './media-blobs.service.js';
import { MEDIA_STORAGE } from './media-storage.js';
import { MediaSpool } from './media-spool.js';
import { Media } from './media.entity.js';
import { MediaService } from './media.service.js';
import { S3Storage } from './s3-storage.js';

@Module({
  imports: [TypeOrmModule.forFeature([Media])],
  providers: [
    {
      provide: MEDIA_STORAGE,
      inject: [CONFIG],
      useFactory: ({ media }: Config) =>
        media.s3 ? new S3Storage(media.s3) : new DiskStorage(join(media.path, 'files')),
    },
    MediaSpool,
    MediaService,
    MediaBlobsService,
  ],
  exports: [MediaService, MediaBlobsService, MediaSpool],
})
export class MediaModule {}
