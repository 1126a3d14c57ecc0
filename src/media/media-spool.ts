import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { createHash, randomUUID } from 'node:crypto';
import { mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { MediaStorageUnavailable } from './media-storage.js';

/** A file on the disk of this machine that is not in the storage yet. */
export interface SpooledFile {
  path: string;
  size: number;
  /** In hexadecimal. */
  sha256: string;
}

export class MediaTooLarge extends Problem {
  constructor(maxBytes: number, what = 'A file') {
    super(413, 'media.too_large', `${what} may have at most ${maxBytes} bytes. Send a smaller file.`);
  }
}

export class MediaEmpty extends Problem {
  constructor() {
    super(422, 'media.empty', 'The file is empty. Send a file with at least one byte.');
  }
}

/** Longer than any upload may take: the process of an older file has died. */
const abandonedMs = 24 * 3_600_000;
/** Error codes of the disk. The sender of the file is not the cause. */
const diskErrors = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EACCES', 'EMFILE', 'ENFILE', 'ENOENT']);

/** Streams received files to the disk: their hash and type must be known before the storage takes them. */
@Injectable()
export class MediaSpool implements OnModuleInit {
  private readonly dir: string;

  constructor(@Inject(CONFIG) config: Config) {
    this.dir = join(config.media.path, 'spool');
  }

  async onModuleInit(): Promise<void> {
    await this.removeAbandoned();
  }

  /**
   * Writes a stream to a new file, and removes the file after an error. {@link drop} the file when it is no longer needed.
   * @param maxBytes the limit of its length
   * @throws MediaTooLarge, MediaEmpty, MediaStorageUnavailable if the disk fails, and the errors of the stream
   */
  async receive(source: Readable, maxBytes: number): Promise<SpooledFile> {
    const path = join(this.dir, randomUUID());
    // The stream may fail before the pipeline listens. The pipeline gets the error all the same.
    source.on('error', () => undefined);
    const hash = createHash('sha256');
    let size = 0;
    const measured = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        size += chunk.length;
        if (size > maxBytes) {
          done(new MediaTooLarge(maxBytes));
          return;
        }
        hash.update(chunk);
        done(null, chunk);
      },
    });
    try {
      await mkdir(this.dir, { recursive: true, mode: 0o700 });
      // The file exists before anything can fail: otherwise it could be made after it is removed below.
      const file = await open(path, 'wx', 0o600);
      await pipeline(source, measured, file.createWriteStream({ flush: true }));
      if (size === 0) throw new MediaEmpty();
      return { path, size, sha256: hash.digest('hex') };
    } catch (error) {
      source.destroy();
      await rm(path, { force: true });
      throw diskErrors.has((error as NodeJS.ErrnoException).code ?? '')
        ? new MediaStorageUnavailable(error)
        : error;
    }
  }

  /** Removes a file, unless the storage has moved it away. */
  async drop({ path }: SpooledFile): Promise<void> {
    await rm(path, { force: true });
  }

  /** Removes the files of processes of this machine that died. @returns how many files */
  async removeAbandoned(): Promise<number> {
    const names = await readdir(this.dir).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    let removed = 0;
    for (const name of names) {
      const path = join(this.dir, name);
      const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
        // Another process has removed or stored the file.
        if (error.code === 'ENOENT') return null;
        throw error;
      });
      if (!found || Date.now() - found.mtimeMs < abandonedMs) continue;
      await rm(path, { force: true });
      removed += 1;
    }
    return removed;
  }
}
