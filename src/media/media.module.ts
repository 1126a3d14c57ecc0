import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { join } from 'node:path';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { DiskStorage } from './disk-storage.js';
import { MEDIA_STORAGE } from './media-storage.js';
import { MediaSpool } from './media-spool.js';
import { Media } from './media.entity.js';
import { MediaService } from './media.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Media])],
  providers: [
    {
      provide: MEDIA_STORAGE,
      inject: [CONFIG],
      useFactory: ({ media }: Config) => new DiskStorage(join(media.path, 'files')),
    },
    MediaSpool,
    MediaService,
  ],
  exports: [MediaService],
})
export class MediaModule {}
