import { createReadStream } from 'node:fs';
import {
  type BeforeApplicationShutdown,
  Inject,
  Injectable,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { AccountSessions } from '../sessions/account-sessions.js';
import { MediaService } from '../media/media.service.js';
import { MediaTooLarge } from '../media/media-spool.js';
import { backoffAfter } from '../platform/backoff.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { MessageMedia } from '../messages/content.dto.js';
import { DownloadsBusy, MediaGone, MediaNotDownloaded } from '../messages/media-problems.js';
import { toMessageMedia } from '../messages/content-preparation.js';
import { MessageFiles } from '../sending/message-files.js';
import { targetOf } from '../messages/message-rows.js';
import { type MessageWithMedia, IncomingMediaService } from '../messages/incoming-media.service.js';

/** A download that runs; it rejects with why it failed. */
interface Running {
  accountId: string;
  done: Promise<void>;
}

/** One that somebody asked for, and that waits for its turn. */
interface Asked {
  accountId: string;
  messageId: string;
  done: Promise<void>;
  settle: (result: Promise<void>) => void;
}

const lookMs = 5_000;
/** Of as many accounts: each waits for its own WhatsApp, and costs this process a file at most. */
const downloadedAtOnce = 8;
/** How many may wait that were asked for, and how long. */
const mostAsked = 32;
const askedMs = 30_000;
/** How long WhatsApp may take for one. */
const downloadMs = 120_000;
/** Between the tries of one, by attempt; the last one again and again, until the message is published without it. */
const backoffMs = [2_000, 10_000, 30_000, 60_000];
/** What no other try would change. */
const final = new Set(['media.unavailable', 'media.too_large', 'media.empty', 'workspace.storage_limit']);

/**
 * Downloads the media of incoming messages through the sessions of this instance, of each account one at a time: one that is slow
 * keeps nobody else waiting.
 */
@Injectable()
export class MediaDownloader implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private timer: NodeJS.Timeout | undefined;
  private filling: Promise<void> | null = null;
  private again = false;
  private stopping = false;
  /** By the id of their message. */
  private readonly running = new Map<string, Running>();
  private readonly asked: Asked[] = [];

  constructor(
    private readonly sessions: AccountSessions,
    private readonly incomingMedia: IncomingMediaService,
    private readonly media: MediaService,
    private readonly files: MessageFiles,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => this.look(), lookMs);
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping = true;
    clearInterval(this.timer);
    await this.filling;
    for (const { settle } of this.asked.splice(0)) settle(Promise.reject(new DownloadsBusy()));
    await Promise.allSettled([...this.running.values()].map(({ done }) => done));
  }

  /** Downloads what is due, soon. */
  look(): void {
    this.again = true;
    this.filling ??= this.fill()
      .catch((error: unknown) =>
        this.logger.warn({ err: error }, 'media that is due could not be looked for'),
      )
      .finally(() => {
        this.filling = null;
      });
  }

  /**
   * Downloads the media of one message before those that are due, also when that failed for good before. Who asks for one that is
   * being downloaded, waits for that.
   * @throws AccountNotDrivenHere, SessionNotReady, MediaGone, MediaNotDownloaded, DownloadsBusy, and what
   *   `MediaService.storeIncoming` throws
   */
  async download(accountId: string, messageId: string, epoch: number): Promise<void> {
    this.sessions.readyDriver(accountId, epoch);
    const same = this.running.get(messageId) ?? this.asked.find((other) => other.messageId === messageId);
    if (same) return same.done;
    if (this.stopping || this.asked.length >= mostAsked) throw new DownloadsBusy();
    let settle: Asked['settle'] = () => undefined;
    const done = new Promise<void>((resolve) => (settle = resolve));
    const asked = { accountId, messageId, done, settle };
    this.asked.push(asked);
    const timer = setTimeout(() => {
      const place = this.asked.indexOf(asked);
      if (place < 0) return;
      this.asked.splice(place, 1);
      settle(Promise.reject(new DownloadsBusy()));
    }, askedMs);
    this.look();
    await done.finally(() => clearTimeout(timer));
  }

  /** Starts what is asked for and what is due, as far as there is room; the end of each download makes room again. */
  private async fill(): Promise<void> {
    while (this.again && !this.stopping) {
      this.again = false;
      for (const asked of [...this.asked]) {
        if (this.room === 0 || this.busy.includes(asked.accountId)) continue;
        this.asked.splice(this.asked.indexOf(asked), 1);
        const { accountId, messageId } = asked;
        asked.settle(this.start(messageId, accountId, this.downloadAsked(accountId, messageId)));
      }
      if (this.room === 0) continue;
      const due = await this.incomingMedia.claim(this.config.instance.id, this.room, this.busy);
      for (const message of due)
        // What became of it has been written by then; who asks for the same meanwhile is told.
        this.start(message.id, message.accountId, this.downloadDue(message)).catch(() => undefined);
    }
  }

  private get room(): number {
    return downloadedAtOnce - this.running.size;
  }

  private get busy(): string[] {
    return [...this.running.values()].map(({ accountId }) => accountId);
  }

  private start(id: string, accountId: string, download: Promise<void>): Promise<void> {
    const done = download.finally(() => {
      this.running.delete(id);
      this.look();
    });
    this.running.set(id, { accountId, done });
    return done;
  }

  /** Looked up when its turn has come: it may be there by then. */
  private async downloadAsked(accountId: string, messageId: string): Promise<void> {
    const message = await this.incomingMedia.find(accountId, messageId);
    if (message && message.media.mediaId === null) await this.fetch(message);
  }

  private async downloadDue(message: MessageWithMedia): Promise<void> {
    try {
      await this.fetch(message);
    } catch (error) {
      await this.postpone(message, error);
      throw error;
    }
  }

  /** What is due is tried again, or is over; the message is published then. */
  private async postpone(message: MessageWithMedia, error: unknown): Promise<void> {
    const { id, attempt } = message;
    this.logger.warn({ err: error, messageId: id, attempt }, 'media not downloaded');
    try {
      if (error instanceof Problem && final.has(error.code)) {
        const { code } = error;
        await this.incomingMedia.settle(id, { ...message.media, error: { code, message: error.message } });
      } else await this.incomingMedia.postpone(id, backoffAfter(attempt, backoffMs));
    } catch (unwritten) {
      // Its claim ends by itself, and it is tried again.
      this.logger.warn({ err: unwritten, messageId: id }, 'what became of a download was not written');
    }
  }

  /** @throws SessionNotReady, MediaGone, MediaNotDownloaded, and what `MediaService.storeIncoming` throws */
  private async fetch(message: MessageWithMedia): Promise<void> {
    const path = this.files.newPath();
    try {
      await this.fetchTo(path, message);
      const { mimetype, filename } = message.media;
      const stored = await this.media.storeIncoming(message.workspaceId, createReadStream(path), {
        mimetype,
        filename,
      });
      const media: MessageMedia = toMessageMedia(stored);
      await this.incomingMedia.settle(message.id, media);
    } finally {
      await this.files.remove({ path });
    }
  }

  private async fetchTo(path: string, message: MessageWithMedia): Promise<void> {
    const { maxBytes } = this.config.media;
    const session = this.sessions.readyDriver(message.accountId).current;
    const fetched = await session.messages
      .downloadMedia(targetOf(message), path, maxBytes, downloadMs)
      .catch((error: unknown) => {
        throw new MediaNotDownloaded(error);
      });
    switch (fetched.outcome) {
      case 'fetched':
        return;
      case 'too_large':
        throw new MediaTooLarge(maxBytes, 'What is received');
      case 'not_found':
        throw new MediaGone(new Error('WhatsApp Web does not have the message.'));
      case 'gone':
        throw new MediaGone(new Error(fetched.detail));
      case 'not_ready':
        throw new MediaNotDownloaded(new Error('The page was being loaded anew.'));
      case 'failed':
        throw new MediaNotDownloaded(new Error(fetched.detail));
    }
  }
}
