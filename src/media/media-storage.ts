import type { Readable } from 'node:stream';
import { validate as isUuid } from 'uuid';
import { Problem } from '../platform/errors/problem.js';
import type { SpooledFile } from './media-spool.js';

/** The first and the last byte of a range, both included. */
export interface ByteRange {
  start: number;
  end: number;
}

/** The storage of files: a directory or a bucket. A key is written once and never reused for other bytes. */
export interface MediaStorage {
  /** Stores a complete file or nothing. It may move the file away. @throws MediaStorageUnavailable */
  put(key: string, file: SpooledFile): Promise<void>;
  /**
   * @param answerWithinMs for callers that delay others: the timeout of a remote storage for the first byte and for each pause
   * @throws MediaBlobMissing, MediaStorageUnavailable
   */
  open(key: string, range?: ByteRange, answerWithinMs?: number): Promise<Readable>;
  /** The length of the file in bytes; null if it is missing. @throws MediaStorageUnavailable */
  size(key: string): Promise<number | null>;
  /** Removes the file. A missing file is not an error. @throws MediaStorageUnavailable */
  delete(key: string): Promise<void>;
  /** All keys, and when each was written. @throws MediaStorageUnavailable */
  list(): AsyncIterable<{ key: string; writtenAt: Date }>;
}

/** Injection token of the {@link MediaStorage} of this process. */
export const MEDIA_STORAGE = Symbol('MEDIA_STORAGE');

/** The media has a row, but the storage does not have its file. */
export class MediaBlobMissing extends Problem {
  constructor(key: string) {
    super(
      500,
      'media.blob_missing',
      `The storage of media has lost ${key}. Upload the file again. Operators find all lost files with flotilla media:check.`,
    );
  }
}

export class MediaStorageUnavailable extends Problem {
  constructor(cause: unknown) {
    super(503, 'media.storage_unavailable', 'The storage of media is unavailable right now. Try again.');
    this.cause = cause;
  }
}

const keyPattern = /^[0-9a-f]{2}\/[0-9a-f]{64}\.([0-9a-f-]{36})$/;

/** The key of a blob: its content, and its id, which makes the key unique. */
export function blobKey({ sha256, blobId }: { sha256: string; blobId: string }): string {
  return `${sha256.slice(0, 2)}/${sha256}.${blobId}`;
}

/** The id of the blob under a key; null if the key has another form than {@link blobKey}. */
export function blobIdOf(key: string): string | null {
  const id = keyPattern.exec(key)?.[1];
  return id !== undefined && isUuid(id) ? id : null;
}
