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

/** How long a read of the storage may stall, at its start and later: all messages of the account wait for it. */
const stallTimeoutMs = 5_000;
/** A file is broken after this many failed reads, if each time the storage could read another file before. */
const maxFailedReads = 5;
/** For how many files the count of failed reads is kept. */
const rememberedFiles = 1_000;

/** The storage can read other files, but not this one: a retry would not help. */
export class MediaUnreadable extends Problem {
  constructor(cause: unknown) {
    super(
      500,
      'media.unreadable',
      'The file of the message cannot be read, but the media storage can read other files. Upload the file again, and send a new message.',
    );
    this.cause = cause;
  }
}

/** The temporary files that this instance gives to its browsers and receives from them. */
@Injectable()
export class MessageFiles implements OnModuleInit {
  private readonly dir: string;
  /** How many files were copied so far. If the number grows, the storage works. */
  private copied = 0;
  /** By media: how often it could not be read although other files were read since its last failure. */
  private readonly failedReads = new LRUCache<string, { times: number; copiedBefore: number }>({
    max: rememberedFiles,
  });

  constructor(
    private readonly media: MediaService,
    @Inject(CONFIG) { varDir, instance }: Config,
  ) {
    this.dir = join(varDir, 'tmp', instance.id);
  }

  /** Removes the files that a killed process left behind. */
  async onModuleInit(): Promise<void> {
    await rm(this.dir, { recursive: true, force: true });
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
  }

  /** A path for a new temporary file. The caller removes the file. */
  newPath(): string {
    return join(this.dir, randomUUID());
  }

  /**
   * Copies the media of a message from the storage, for a browser on this machine.
   * @throws MediaNotFound, MediaBlobMissing, MediaStorageUnavailable, MediaUnreadable
   */
  async copyOf(
    messageId: string,
    { mediaId, mimetype, size, filename }: MessageMedia,
  ): Promise<OutgoingFile> {
    const path = this.newPath();
    try {
      await this.media.copyTo(mediaId!, path, stallTimeoutMs);
    } catch (error) {
      // A broken stream, a full disk or a silent database is not a fault of the page, so the browser need not restart.
      const problem = error instanceof Problem ? error : new MediaStorageUnavailable(error);
      if (problem instanceof MediaStorageUnavailable && this.countFailedRead(mediaId!))
        throw new MediaUnreadable(error);
      throw problem;
    }
    this.copied += 1;
    this.failedReads.delete(mediaId!);
    return { path, mimetype, size: size!, filename: filename ?? messageId };
  }

  /**
   * Counts a failed read. The sender waits for the end of an outage, however long it takes. But if only one file cannot be
   * read, the later messages of its priority would wait for ever.
   * @returns whether the file is broken
   */
  private countFailedRead(mediaId: string): boolean {
    const before = this.failedReads.get(mediaId);
    const onlyThisFailed = before !== undefined && this.copied > before.copiedBefore;
    const times = (before?.times ?? 0) + (onlyThisFailed ? 1 : 0);
    this.failedReads.set(mediaId, { times, copiedBefore: this.copied });
    return times >= maxFailedReads;
  }

  async remove({ path }: Pick<OutgoingFile, 'path'>): Promise<void> {
    await rm(path, { force: true });
  }
}
