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

/** A running download. `done` rejects with the reason of a failure. */
interface Running {
  accountId: string;
  done: Promise<void>;
}

/** A download that a caller requested and that waits for its turn. */
interface DownloadRequest {
  accountId: string;
  messageId: string;
  done: Promise<void>;
  settle: (result: Promise<void>) => void;
}

const pollMs = 5_000;
/** Each download belongs to another account: it waits for its own WhatsApp, and holds at most one file in this process. */
const concurrency = 8;
/** How many requests may wait, and how long. */
const maxRequests = 32;
const maxRequestWaitMs = 30_000;
/** How long WhatsApp may take for one download. */
const downloadTimeoutMs = 120_000;
/** The delays between the attempts. The last delay repeats until the message is published without its media. */
const backoffMs = [2_000, 10_000, 30_000, 60_000];
/** Errors that a retry would not change. */
const permanentCodes = new Set([
  'media.unavailable',
  'media.too_large',
  'media.empty',
  'workspace.storage_limit',
]);

/**
 * Downloads the media of incoming messages through the sessions of this instance, one at a time for each account: a slow account
 * does not delay other accounts.
 */
@Injectable()
export class MediaDownloader implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private timer: NodeJS.Timeout | undefined;
  private filling: Promise<void> | null = null;
  private isFillWanted = false;
  private stopping = false;
  /** By the id of their message. */
  private readonly running = new Map<string, Running>();
  private readonly requests: DownloadRequest[] = [];

  constructor(
    private readonly sessions: AccountSessions,
    private readonly incomingMedia: IncomingMediaService,
    private readonly media: MediaService,
    private readonly files: MessageFiles,
    @Inject(CONFIG) private readonly config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  onApplicationBootstrap(): void {
    this.timer = setInterval(() => this.wake(), pollMs);
  }

  async beforeApplicationShutdown(): Promise<void> {
    this.stopping = true;
    clearInterval(this.timer);
    await this.filling;
    for (const { settle } of this.requests.splice(0)) settle(Promise.reject(new DownloadsBusy()));
    await Promise.allSettled([...this.running.values()].map(({ done }) => done));
  }

  /** Starts due downloads soon. */
  wake(): void {
    this.isFillWanted = true;
    this.filling ??= this.fill()
      .catch((error: unknown) =>
        this.logger.warn({ err: error }, 'due downloads could not be claimed; trying again'),
      )
      .finally(() => {
        this.filling = null;
      });
  }

  /**
   * Downloads the media of one message before the due downloads, even if an earlier download failed for good. If its download
   * already runs or waits, the call shares that download.
   * @throws AccountNotDrivenHere, SessionNotReady, MediaGone, MediaNotDownloaded, DownloadsBusy, and the errors of
   *   `MediaService.storeIncoming`
   */
  async download(accountId: string, messageId: string, epoch: number): Promise<void> {
    this.sessions.readyDriver(accountId, epoch);
    const same = this.running.get(messageId) ?? this.requests.find((other) => other.messageId === messageId);
    if (same) return same.done;
    if (this.stopping || this.requests.length >= maxRequests) throw new DownloadsBusy();
    let settle: DownloadRequest['settle'] = () => undefined;
    const done = new Promise<void>((resolve) => (settle = resolve));
    const request = { accountId, messageId, done, settle };
    this.requests.push(request);
    const timer = setTimeout(() => {
      const place = this.requests.indexOf(request);
      if (place < 0) return;
      this.requests.splice(place, 1);
      settle(Promise.reject(new DownloadsBusy()));
    }, maxRequestWaitMs);
    this.wake();
    await done.finally(() => clearTimeout(timer));
  }

  /** Starts requested and then due downloads, up to the limit. The end of each download calls this again. */
  private async fill(): Promise<void> {
    while (this.isFillWanted && !this.stopping) {
      this.isFillWanted = false;
      for (const request of [...this.requests]) {
        if (this.room === 0 || this.busyAccounts.includes(request.accountId)) continue;
        this.requests.splice(this.requests.indexOf(request), 1);
        const { accountId, messageId } = request;
        request.settle(this.start(messageId, accountId, this.downloadRequested(accountId, messageId)));
      }
      if (this.room === 0) continue;
      const due = await this.incomingMedia.claim(this.config.instance.id, this.room, this.busyAccounts);
      for (const message of due)
        // An error is already written and logged. A caller that shares this download gets the error too.
        this.start(message.id, message.accountId, this.downloadDue(message)).catch(() => undefined);
    }
  }

  private get room(): number {
    return concurrency - this.running.size;
  }

  private get busyAccounts(): string[] {
    return [...this.running.values()].map(({ accountId }) => accountId);
  }

  private start(id: string, accountId: string, download: Promise<void>): Promise<void> {
    const done = download.finally(() => {
      this.running.delete(id);
      this.wake();
    });
    this.running.set(id, { accountId, done });
    return done;
  }

  /** Reads the message when its turn has come: its media may be stored by then. */
  private async downloadRequested(accountId: string, messageId: string): Promise<void> {
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

  /** Schedules a retry, or ends the download for good, so that the message is published. */
  private async postpone(message: MessageWithMedia, error: unknown): Promise<void> {
    const { id, attempt } = message;
    this.logger.warn({ err: error, messageId: id, attempt }, 'media not downloaded');
    try {
      if (error instanceof Problem && permanentCodes.has(error.code)) {
        const { code } = error;
        await this.incomingMedia.settle(id, { ...message.media, error: { code, message: error.message } });
      } else await this.incomingMedia.postpone(id, backoffAfter(attempt, backoffMs));
    } catch (unwritten) {
      // The claim runs out, and the download is tried again.
      this.logger.warn({ err: unwritten, messageId: id }, 'the result of a download could not be written');
    }
  }

  /** @throws SessionNotReady, MediaGone, MediaNotDownloaded, and the errors of `MediaService.storeIncoming` */
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
      .downloadMedia(targetOf(message), path, maxBytes, downloadTimeoutMs)
      .catch((error: unknown) => {
        throw new MediaNotDownloaded(error);
      });
    switch (fetched.outcome) {
      case 'fetched':
        return;
      case 'too_large':
        throw new MediaTooLarge(maxBytes, 'The received file');
      case 'not_found':
        throw new MediaGone(new Error('WhatsApp Web does not have the message.'));
      case 'gone':
        throw new MediaGone(new Error(fetched.detail));
      case 'not_ready':
        throw new MediaNotDownloaded(new Error('The page was reloading.'));
      case 'failed':
        throw new MediaNotDownloaded(new Error(fetched.detail));
    }
  }
}
