import type { Readable } from 'node:stream';
import { validate as isUuid } from 'uuid';
import { Problem } from '../platform/errors/problem.js';
import type { SpooledFile } from './media-spool.js';

/** The first and the last byte that are wanted, both included. */
export interface ByteRange {
  start: number;
  end: number;
}

/** Where the bytes of media lie: on a disk, or in a bucket. A key is written once and never used for other bytes. */
export interface MediaStorage {
  /** Keeps a file, wholly or not at all; it may be moved away. @throws MediaStorageUnavailable */
  put(key: string, file: SpooledFile): Promise<void>;
  /**
   * @param answerWithinMs for somebody who holds others up: how long a storage elsewhere may take to begin, and to go on
   * @throws MediaBlobMissing, MediaStorageUnavailable
   */
  open(key: string, range?: ByteRange, answerWithinMs?: number): Promise<Readable>;
  /** How many bytes it has; null when it is not there. @throws MediaStorageUnavailable */
  size(key: string): Promise<number | null>;
  /** Removes it; one that is not there is as good. @throws MediaStorageUnavailable */
  delete(key: string): Promise<void>;
  /** All keys, with the time when each was written. @throws MediaStorageUnavailable */
  list(): AsyncIterable<{ key: string; writtenAt: Date }>;
}

/** Injection token of the {@link MediaStorage} of this process. */
export const MEDIA_STORAGE = Symbol('MEDIA_STORAGE');

/** The row is there and its bytes are not. */
export class MediaBlobMissing extends Problem {
  constructor(key: string) {
    super(
      500,
      'media.blob_missing',
      `The storage of media has lost ${key}. Upload the file again; operators find all of these with flotilla media:check.`,
    );
  }
}

export class MediaStorageUnavailable extends Problem {
  constructor(cause: unknown) {
    super(
      503,
      'media.storage_unavailable',
      'The storage of media does not take or give files right now. Try again.',
    );
    this.cause = cause;
  }
}

const keyPattern = /^[0-9a-f]{2}\/[0-9a-f]{64}\.([0-9a-f-]{36})$/;

/** Where a blob lies: by its content, and by an id that makes the key its own. */
export function blobKey({ sha256, blobId }: { sha256: string; blobId: string }): string {
  return `${sha256.slice(0, 2)}/${sha256}.${blobId}`;
}

/** The id of the blob under a key; null when the key is none of ours. */
export function blobIdOf(key: string): string | null {
  const id = keyPattern.exec(key)?.[1];
  return id !== undefined && isUuid(id) ? id : null;
}
