import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { MediaStorageUnavailable } from '../media/media-storage.js';
import { MediaService } from '../media/media.service.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import type { OutgoingFile } from '../whatsapp/outgoing-content.js';
import type { MessageMedia } from './content.dto.js';

/** The files that this instance hands to its browsers and gets from them, for a moment each. */
@Injectable()
export class MessageFiles implements OnModuleInit {
  private readonly dir: string;

  constructor(
    private readonly media: MediaService,
    @Inject(CONFIG) { varDir, instance }: Config,
  ) {
    this.dir = join(varDir, 'tmp', instance.id);
  }

  /** Removes what a killed process has left behind. */
  async onModuleInit(): Promise<void> {
    await rm(this.dir, { recursive: true, force: true });
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
  }

  /** Where a file may lie that somebody removes again. */
  newPath(): string {
    return join(this.dir, randomUUID());
  }

  /**
   * Copies the media of a message from the storage, for a browser of this machine.
   * @throws MediaNotFound, MediaBlobMissing, MediaStorageUnavailable
   */
  async copyOf(
    messageId: string,
    { mediaId, mimetype, size, filename }: MessageMedia,
  ): Promise<OutgoingFile> {
    const path = this.newPath();
    try {
      await this.media.copyTo(mediaId!, path);
    } catch (error) {
      // A stream that breaks, a disk that is full, a database that does not answer: nothing of it is the page's fault.
      throw error instanceof Problem ? error : new MediaStorageUnavailable(error);
    }
    return { path, mimetype, size: size!, filename: filename ?? messageId };
  }

  async remove({ path }: Pick<OutgoingFile, 'path'>): Promise<void> {
    await rm(path, { force: true });
  }
}
