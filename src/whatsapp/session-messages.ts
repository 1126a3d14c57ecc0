import type { MessageTarget } from './message-target.js';
import { type FileHandle, open } from 'node:fs/promises';
import type { Page } from 'puppeteer';
import { resultWithin, withDeadline } from './deadlines.js';
import { reactionsTo, recentChanges } from './in-page/page-actions.js';
import { type PageCall, recentCalls } from './in-page/page-calls.js';
import { recentMessages, recentOwnIds } from './in-page/page-events.js';
import {
  acksOf,
  type PageChange,
  type PageGroupNotice,
  type PageMessage,
  type PageSource,
  recentNotices,
} from './in-page/page-functions.js';
import { fetchMedia, forgetMedia, type PageFetchResult, readMedia } from './in-page/page-media.js';

/** How long the page may take to answer. */
const answerMs = 15_000;
/** How much of a file to read from the page at a time. A multiple of 3, so that base64 needs no padding. */
const pieceBytes = 3 * 512 * 1024;

/** Reads the messages that the page of a ready session holds. Every method throws if the page does not answer in time. */
export class SessionMessages {
  constructor(private readonly page: Page) {}

  /**
   * Downloads the media of a message into a file.
   * @param maxBytes the limit of the size
   * @param timeoutMs how long the page may take to download all of it
   * @throws if the page is lost or does not answer
   */
  async downloadMedia(
    target: MessageTarget,
    path: string,
    maxBytes: number,
    timeoutMs: number,
  ): Promise<PageFetchResult> {
    const fetching = this.page.evaluate(fetchMedia, target, maxBytes, timeoutMs);
    const fetched = await withDeadline(fetching, timeoutMs + answerMs);
    if (fetched.outcome !== 'fetched') return fetched;
    let file: FileHandle | undefined;
    try {
      file = await open(path, 'w', 0o600);
      for (let offset = 0; offset < fetched.size; offset += pieceBytes) {
        const reading = this.page.evaluate(readMedia, target.whatsappId, offset, pieceBytes);
        const piece = await withDeadline(reading, answerMs);
        if (piece === null) return { outcome: 'not_ready' };
        await file.writeFile(Buffer.from(piece, 'base64'));
      }
    } finally {
      await file?.close();
      await resultWithin(
        this.page.evaluate(forgetMedia, target.whatsappId).catch(() => undefined),
        answerMs,
      );
    }
    return fetched;
  }

  /** Changes of the messages that the page holds. @param since milliseconds since 1970 */
  async recentChanges(since: number, limit: number): Promise<PageChange[]> {
    return withDeadline(this.page.evaluate(recentChanges, since, limit), answerMs);
  }

  /** The present reactions to those of the messages that the page knows. */
  async reactionsTo(targets: MessageTarget[]): ReturnType<typeof reactionsTo> {
    return withDeadline(this.page.evaluate(reactionsTo, targets), answerMs);
  }

  /** The group notices that the page holds. @param since seconds since 1970 */
  async recentNotices(since: number, limit: number): Promise<PageGroupNotice[]> {
    return withDeadline(this.page.evaluate(recentNotices, since, limit), answerMs);
  }

  /** The calls that the page holds: those that ring, and missed ones. @param since seconds since 1970 */
  async recentCalls(since: number, limit: number): Promise<PageCall[]> {
    return withDeadline(this.page.evaluate(recentCalls, since, limit), answerMs);
  }

  /** The present acks of messages that this account sent. The result omits messages that the page does not know. */
  async acksOf(
    messages: { chatId: string; whatsappId: string }[],
  ): Promise<{ whatsappId: string; ack: number }[]> {
    return withDeadline(this.page.evaluate(acksOf, messages), answerMs);
  }

  /**
   * The latest incoming messages that the page holds, oldest first, with those of this account that `ownIds` name.
   * @param sources which messages outside of chats to read too
   */
  async recentMessages(
    limit: number,
    sources: PageSource[] = [],
    ownIds: string[] = [],
  ): Promise<PageMessage[]> {
    return withDeadline(this.page.evaluate(recentMessages, limit, sources, ownIds), answerMs);
  }

  /**
   * The WhatsApp ids of the latest messages of this account that the page holds and may not have sent itself.
   * @param since seconds since 1970
   */
  async recentOwnIds(since: number, limit: number): Promise<string[]> {
    return withDeadline(this.page.evaluate(recentOwnIds, since, limit), answerMs);
  }
}
