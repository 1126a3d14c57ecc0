import { createReadStream } from 'node:fs';
import {
  type BeforeApplicationShutdown,
  Inject,
  Injectable,
  type OnApplicationBootstrap,
} from '@nestjs/common';
import { AccountSessions } from '../accounts/account-sessions.service.js';
import { MediaService } from '../media/media.service.js';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import type { MessageMedia } from './content.dto.js';
import { toMessageMedia } from './message-contents.service.js';
import { MessageFiles } from './message-files.service.js';
import { targetOf } from './message-rows.js';
import { type MessageWithMedia, ReceivedMediaService } from './received-media.service.js';

/** What a download that failed says: whether another try makes sense is in `isFinal`. */
class MediaNotDownloaded extends Problem {
  constructor(
    code: string,
    detail: string,
    readonly isFinal: boolean,
  ) {
    super(409, code, detail);
  }
}

const lookMs = 5_000;
const downloadedAtOnce = 4;
/** How long WhatsApp may take for one. */
const downloadMs = 120_000;
/** Between the tries of one, by attempt. */
const backoffMs = [2_000, 10_000, 30_000, 60_000];
/** What the storage says for good. */
const refusals = new Set(['media.too_large', 'media.empty', 'workspace.storage_limit']);

/** Downloads the media of incoming messages through the sessions of this instance. */
@Injectable()
export class MediaDownloader implements OnApplicationBootstrap, BeforeApplicationShutdown {
  private timer: NodeJS.Timeout | undefined;
  private running: Promise<void> | null = null;
  private again = false;
  private stopping = false;

  constructor(
    private readonly sessions: AccountSessions,
    private readonly received: ReceivedMediaService,
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
    await this.running;
  }

  /** Downloads what is due, soon. */
  look(): void {
    this.again = true;
    this.running ??= this.downloadDue()
      .catch((error: unknown) =>
        this.logger.warn({ err: error }, 'media that is due could not be looked for'),
      )
      .finally(() => {
        this.running = null;
      });
  }

  /**
   * Downloads the media of one message now, also when that failed for good before.
   * @throws AccountNotDrivenHere, SessionNotReady, MediaNotDownloaded, and what `MediaService.storeIncoming` throws
   */
  async download(accountId: string, messageId: string, epoch: number): Promise<void> {
    this.sessions.readyDriver(accountId, epoch);
    const message = await this.received.find(accountId, messageId);
    if (message && message.media.mediaId === null)
      await this.received.settle(message.id, await this.fetch(message));
  }

  private async downloadDue(): Promise<void> {
    while (this.again && !this.stopping) {
      this.again = false;
      const due = await this.received.claim(this.config.instance.id, downloadedAtOnce);
      if (due.length === downloadedAtOnce) this.again = true;
      await Promise.all(due.map((message) => this.downloadOne(message)));
    }
  }

  private async downloadOne(message: MessageWithMedia): Promise<void> {
    const { id, attempt } = message;
    try {
      await this.received.settle(id, await this.fetch(message));
    } catch (error) {
      const problem =
        error instanceof Problem ? error : new Problem(500, 'media.not_downloaded', String(error));
      const isFinal = error instanceof MediaNotDownloaded ? error.isFinal : refusals.has(problem.code);
      const { code } = problem;
      this.logger.warn({ messageId: id, code, detail: problem.message, attempt }, 'media not downloaded');
      try {
        if (isFinal || attempt > backoffMs.length) {
          const failed = { ...message.media, error: { code, message: problem.message.slice(0, 1_000) } };
          await this.received.settle(id, failed);
        } else await this.received.postpone(id, backoffMs[attempt - 1]!);
      } catch (unwritten) {
        // Its claim ends by itself, and it is tried again.
        this.logger.warn({ err: unwritten, messageId: id }, 'what became of a download was not written');
      }
    }
  }

  private async fetch(message: MessageWithMedia): Promise<MessageMedia> {
    const { maxBytes } = this.config.media;
    const session = this.sessions.readyDriver(message.accountId).current;
    const path = this.files.newPath();
    try {
      const fetched = await session.messages.downloadMedia(targetOf(message), path, maxBytes, downloadMs);
      switch (fetched.outcome) {
        case 'fetched':
          break;
        case 'too_large':
          throw new MediaNotDownloaded(
            'media.too_large',
            `It has ${fetched.size} bytes, and MEDIA_MAX_BYTES allows ${maxBytes}.`,
            true,
          );
        case 'not_found':
          throw new MediaNotDownloaded(
            'media.unavailable',
            'WhatsApp Web does not have the message any more.',
            true,
          );
        case 'gone':
          throw new MediaNotDownloaded(
            'media.unavailable',
            `WhatsApp does not have it any more: ${fetched.detail}`,
            true,
          );
        case 'not_ready':
          throw new MediaNotDownloaded('media.not_downloaded', 'WhatsApp Web was being loaded anew.', false);
        case 'failed':
          throw new MediaNotDownloaded('media.not_downloaded', fetched.detail, false);
      }
      const { mimetype, filename } = message.media;
      const stored = await this.media.storeIncoming(message.workspaceId, createReadStream(path), {
        mimetype,
        filename,
      });
      return toMessageMedia(stored);
    } finally {
      await this.files.remove({ path });
    }
  }
}
