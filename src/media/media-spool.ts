import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { createHash, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { MediaStorageUnavailable } from './media-storage.js';

/** A file on this machine's disk that is not in the storage yet. */
export interface SpooledFile {
  path: string;
  size: number;
  /** In hexadecimal. */
  sha256: string;
}

export class MediaTooLarge extends Problem {
  constructor(maxBytes: number, what = 'A file') {
    super(413, 'media.too_large', `${what} may have at most ${maxBytes} bytes.`);
  }
}

export class MediaEmpty extends Problem {
  constructor() {
    super(422, 'media.empty', 'The file is empty. Send one with at least one byte.');
  }
}

/** Longer than any upload may take: what is older was left by a process that died. */
const abandonedMs = 24 * 3_600_000;
/** What says that the disk cannot take it, whoever sent it. */
const diskErrors = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EROFS', 'EACCES', 'EMFILE', 'ENFILE', 'ENOENT']);

/** Takes files in by streaming, onto the disk: their hash and their type must be known before they are stored. */
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
   * Writes a stream to a file of its own; when it fails nothing is left. {@link drop} the file when it is no longer needed.
   * @param maxBytes how long it may be
   * @throws MediaTooLarge, MediaEmpty, MediaStorageUnavailable when the disk does not take it, and whatever the stream fails with
   */
  async receive(source: Readable, maxBytes: number): Promise<SpooledFile> {
    const path = join(this.dir, randomUUID());
    // It may fail before the pipeline listens; the pipeline is told all the same.
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
      await pipeline(source, measured, createWriteStream(path, { flags: 'wx', mode: 0o600, flush: true }));
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

  /** Removes a file, unless the storage has taken it away. */
  async drop({ path }: SpooledFile): Promise<void> {
    await rm(path, { force: true });
  }

  /** Removes what processes of this machine left behind that died over it. @returns how many files */
  async removeAbandoned(): Promise<number> {
    const names = await readdir(this.dir).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    let removed = 0;
    for (const name of names) {
      const path = join(this.dir, name);
      const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
        // Another process was faster, or has stored it.
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
