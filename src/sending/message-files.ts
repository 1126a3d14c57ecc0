import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { LRUCache } from 'lru-cache';
import { MediaStorageUnavailable } from '../media/media-storage.js';
import { MediaService } from '../media/media.service.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import type { OutgoingFile } from '../whatsapp/outgoing-content.js';
import type { MessageMedia } from '../messages/content.dto.js';

/** How long a storage may take to begin to give a file, and to go on: everything of the account waits for it. */
const answerWithinMs = 5_000;
/** How often a file cannot be read before it is taken to be broken, each time after another file could. */
const brokenAfter = 5;
/** Of how many files it is known that they could not be read. */
const rememberedFiles = 1_000;

/** One file cannot be read, while the storage gives others: it will not pass by waiting. */
export class MediaUnreadable extends Problem {
  constructor(cause: unknown) {
    super(
      500,
      'media.unreadable',
      'Its file cannot be read, while the storage of media gives other files. Upload it again, and send a new message.',
    );
    this.cause = cause;
  }
}

/** The files that this instance hands to its browsers and gets from them, for a moment each. */
@Injectable()
export class MessageFiles implements OnModuleInit {
  private readonly dir: string;
  /** How many files could be copied so far: when that grows, the storage is there. */
  private copied = 0;
  /** By media: how often it could not be read although others could since the time before. */
  private readonly unread = new LRUCache<string, { times: number; copiedBefore: number }>({
    max: rememberedFiles,
  });

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
   * @throws MediaNotFound, MediaBlobMissing, MediaStorageUnavailable, MediaUnreadable
   */
  async copyOf(
    messageId: string,
    { mediaId, mimetype, size, filename }: MessageMedia,
  ): Promise<OutgoingFile> {
    const path = this.newPath();
    try {
      await this.media.copyTo(mediaId!, path, answerWithinMs);
    } catch (error) {
      // A stream that breaks, a disk that is full, a database that does not answer: nothing of it is the page's fault.
      const problem = error instanceof Problem ? error : new MediaStorageUnavailable(error);
      if (problem instanceof MediaStorageUnavailable && this.isBroken(mediaId!))
        throw new MediaUnreadable(error);
      throw problem;
    }
    this.copied += 1;
    this.unread.delete(mediaId!);
    return { path, mimetype, size: size!, filename: filename ?? messageId };
  }

  /**
   * Notes that a file could not be read. An outage is waited for however long it takes; of one file that alone cannot be read,
   * everything of its priority would wait for ever.
   */
  private isBroken(mediaId: string): boolean {
    const before = this.unread.get(mediaId);
    const isAlone = before !== undefined && this.copied > before.copiedBefore;
    const times = (before?.times ?? 0) + (isAlone ? 1 : 0);
    this.unread.set(mediaId, { times, copiedBefore: this.copied });
    return times >= brokenAfter;
  }

  async remove({ path }: Pick<OutgoingFile, 'path'>): Promise<void> {
    await rm(path, { force: true });
  }
}
