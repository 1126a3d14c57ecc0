import { mkdir, open, opendir, rename, rm, stat } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import type { Readable } from 'node:stream';
import {
  type ByteRange,
  MediaBlobMissing,
  type MediaStorage,
  MediaStorageUnavailable,
} from './media-storage.js';
import type { SpooledFile } from './media-spool.js';

/**
 * Media in a directory, which every server of the fleet must share. A file is moved there once it is whole and on the disk,
 * so that a power cut leaves it there or not, but never half.
 */
export class DiskStorage implements MediaStorage {
  /** @param dir on the file system of the spool, or files cannot be moved */
  constructor(private readonly dir: string) {}

  async put(key: string, file: SpooledFile): Promise<void> {
    const target = this.pathOf(key);
    try {
      const created = await mkdir(dirname(target), { recursive: true, mode: 0o700 });
      await rename(file.path, target);
      await syncDirectory(dirname(target));
      if (created !== undefined) await syncDirectory(dirname(created));
    } catch (error) {
      throw new MediaStorageUnavailable(error);
    }
  }

  async open(key: string, range?: ByteRange): Promise<Readable> {
    const file = await open(this.pathOf(key)).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'ENOENT' ? new MediaBlobMissing(key) : new MediaStorageUnavailable(error);
    });
    return file.createReadStream(range);
  }

  async size(key: string): Promise<number | null> {
    try {
      return (await stat(this.pathOf(key))).size;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
      throw new MediaStorageUnavailable(error);
    }
  }

  async delete(key: string): Promise<void> {
    await rm(this.pathOf(key), { force: true }).catch((error: unknown) => {
      throw new MediaStorageUnavailable(error);
    });
  }

  async *list(): AsyncIterable<{ key: string; writtenAt: Date }> {
    try {
      for await (const entry of await opendir(this.dir, { recursive: true })) {
        if (!entry.isFile()) continue;
        const path = join(entry.parentPath, entry.name);
        const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT') return null;
          throw error;
        });
        if (found) yield { key: relative(this.dir, path).split(sep).join('/'), writtenAt: found.mtime };
      }
    } catch (error) {
      // Nothing was ever stored.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw new MediaStorageUnavailable(error);
    }
  }

  private pathOf(key: string): string {
    return join(this.dir, key);
  }
}

/** Until its directory is on the disk too, a file that was moved into it may be gone after a power cut. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
