import { access, mkdir, open, opendir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';
import type { Readable } from 'node:stream';
import {
  type ByteRange,
  MediaBlobMissing,
  type MediaStorage,
  MediaStorageUnavailable,
} from './media-storage.js';
import type { SpooledFile } from './media-spool.js';

/** Lies in the directory: without it another file system is to be mounted there, and files that are not found are not lost. */
const marker = '.flotilla-media';

/**
 * Media in a directory, which every server of the fleet must share. A file is moved there once it is whole and on the disk,
 * so that a power cut leaves it there or not, but never half.
 */
export class DiskStorage implements MediaStorage {
  /**
   * @param dir on the file system of the spool, or files cannot be moved
   * @param isNew whether nothing has been stored anywhere yet, so that the directory may be begun
   */
  constructor(
    private readonly dir: string,
    private readonly isNew: () => Promise<boolean>,
  ) {}

  async put(key: string, file: SpooledFile): Promise<void> {
    const target = this.pathOf(key);
    try {
      if (!(await this.isThere())) await this.begin();
      const created = await mkdir(dirname(target), { recursive: true, mode: 0o700 });
      await rename(file.path, target);
      await syncDirectory(dirname(target));
      if (created !== undefined) await syncDirectory(dirname(created));
    } catch (error) {
      throw new MediaStorageUnavailable(error);
    }
  }

  async open(key: string, range?: ByteRange): Promise<Readable> {
    const file = await open(this.pathOf(key)).catch(async (error: NodeJS.ErrnoException) => {
      await this.expectNotFound(error);
      throw new MediaBlobMissing(key);
    });
    return file.createReadStream(range);
  }

  async size(key: string): Promise<number | null> {
    try {
      return (await stat(this.pathOf(key))).size;
    } catch (error) {
      await this.expectNotFound(error);
      return null;
    }
  }

  async delete(key: string): Promise<void> {
    await rm(this.pathOf(key)).catch((error: unknown) => this.expectNotFound(error));
  }

  async *list(): AsyncIterable<{ key: string; writtenAt: Date }> {
    try {
      for await (const entry of await opendir(this.dir, { recursive: true })) {
        if (!entry.isFile() || entry.name === marker) continue;
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

  /** @throws MediaStorageUnavailable unless it says that a file is not there, of a directory that is */
  private async expectNotFound(error: unknown): Promise<void> {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw new MediaStorageUnavailable(error);
    if (!(await this.isThere())) throw new MediaStorageUnavailable(this.notMounted());
  }

  private async isThere(): Promise<boolean> {
    return access(this.pathOf(marker)).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return false;
        throw new MediaStorageUnavailable(error);
      },
    );
  }

  private async begin(): Promise<void> {
    if (!(await this.isNew())) throw this.notMounted();
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    await writeFile(this.pathOf(marker), '', { flush: true });
    await syncDirectory(this.dir);
    await syncDirectory(dirname(this.dir));
  }

  private notMounted(): Error {
    return new Error(
      `${this.pathOf(marker)} is missing: the file system with the media is not mounted. If they are lost, make an empty file of that name.`,
    );
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
