import type { MessageTarget } from '../message-target.js';
import type { PageModel, PageWindow } from './page-functions.js';

/*
 * Downloads media inside the WhatsApp Web page. See page-functions.ts for the rules of such functions.
 */

/** The result of downloading the media of a message. */
export type PageFetchResult =
  /** The caller can read it in pieces now. */
  | { outcome: 'fetched'; size: number; mimetype: string; filename: string | null }
  /** The page does not have the message. */
  | { outcome: 'not_found' }
  /** It is larger than the limit. `size` is in bytes. */
  | { outcome: 'too_large'; size: number }
  /** WhatsApp no longer has it. */
  | { outcome: 'gone'; detail: string }
  /** A retry may succeed. */
  | { outcome: 'failed'; detail: string }
  | { outcome: 'not_ready' };

/** A message with media, as the page holds it. */
interface MediaModel extends PageModel {
  mediaData?: { mediaStage: string };
  encFilehash?: unknown;
  filehash?: unknown;
  mediaKey?: unknown;
  mediaKeyTimestamp?: unknown;
  downloadMedia(options: object): Promise<unknown>;
}

declare const window: PageWindow;
declare const FileReader: new () => {
  result: string;
  error: unknown;
  onload: () => void;
  onerror: () => void;
  readAsDataURL(blob: Blob): void;
};

/** Downloads and decrypts the media of a message, as the library does, and keeps it for {@link readMedia}. */
export async function fetchMedia(
  target: MessageTarget,
  maxBytes: number,
  timeoutMs: number,
): Promise<PageFetchResult> {
  const { flotilla } = window;
  if (!flotilla) return { outcome: 'not_ready' };
  const isInChat = !/@(broadcast|newsletter)$/.test(target.chatId);
  const found = isInChat
    ? (await flotilla.locate(target))?.message
    : window
        .require('WAWebCollections')
        .Msg.getModelsArray()
        .find(({ id }) => id.id === target.whatsappId && id.fromMe === target.fromMe);
  const message = found as MediaModel | undefined;
  if (!message) return { outcome: 'not_found' };
  if (!message.directPath)
    return { outcome: 'gone', detail: 'WhatsApp Web has no download address for the media' };
  const size = Number(message.size ?? 0);
  if (size > maxBytes) return { outcome: 'too_large', size };

  const stop = new AbortController();
  let timer;
  const timeout = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      stop.abort();
      reject(new Error(`WhatsApp Web did not download the media within ${timeoutMs} ms`));
    }, timeoutMs);
  });
  const quiet = { addAnnotations: () => quiet, addPoint: () => quiet };
  const download = async (): Promise<ArrayBuffer> => {
    // For old media, WhatsApp Web asks the phone of the sender to upload it again.
    if (message.mediaData && message.mediaData.mediaStage !== 'RESOLVED')
      await message.downloadMedia({ downloadEvenIfExpensive: true, rmrReason: 1 });
    const { directPath, encFilehash, filehash, mediaKey, mediaKeyTimestamp, type } = message;
    return window.require('WAWebDownloadManager').downloadManager.downloadAndMaybeDecrypt({
      directPath,
      encFilehash,
      filehash,
      mediaKey,
      mediaKeyTimestamp,
      type,
      signal: stop.signal,
      downloadQpl: quiet,
    });
  };
  try {
    const bytes = await Promise.race([download(), timeout]);
    if (bytes.byteLength > maxBytes) return { outcome: 'too_large', size: bytes.byteLength };
    flotilla.fetched.set(target.whatsappId, new Blob([bytes]));
    return {
      outcome: 'fetched',
      size: bytes.byteLength,
      mimetype: String(message.mimetype ?? 'application/octet-stream'),
      filename: message.filename ?? null,
    };
  } catch (error) {
    const isGone = (error as { status?: number }).status === 404;
    return { outcome: isGone ? 'gone' : 'failed', detail: String(error) };
  } finally {
    clearTimeout(timer);
  }
}

/** A piece of the downloaded media, as base64; null if it is gone because the page was reloaded. */
export async function readMedia(whatsappId: string, offset: number, length: number): Promise<string | null> {
  const blob = window.flotilla?.fetched.get(whatsappId);
  if (!blob) return null;
  const reader = new FileReader();
  const read = new Promise<void>((resolve, reject) => {
    reader.onload = () => resolve();
    reader.onerror = () => reject(reader.error as Error);
  });
  reader.readAsDataURL(blob.slice(offset, offset + length));
  await read;
  return reader.result.slice(reader.result.indexOf(',') + 1);
}

/** Releases the downloaded media. */
export function forgetMedia(whatsappId: string): void {
  window.flotilla?.fetched.delete(whatsappId);
}
