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

/** A file in the directory. If it is missing, the file system with the media is not mounted, so missing files are not lost. */
const marker = '.flotilla-media';
/** The parts in which a file is read. Each part of a download takes a turn. */
const chunkBytes = 256 * 1024;

/**
 * Media in a directory that all servers of the fleet must share. A file moves there when it is complete and on the disk, so
 * that a power cut never leaves half of a file.
 */
export class DiskStorage implements MediaStorage {
  /**
   * @param dir must be on the file system of the spool, because files are moved
   * @param isNew whether no media is stored yet, so that the directory may be created
   */
  constructor(
    private readonly dir: string,
    private readonly isNew: () => Promise<boolean>,
  ) {}

  async put(key: string, file: SpooledFile): Promise<void> {
    const target = this.pathOf(key);
    try {
      if (!(await this.isMounted())) await this.create();
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
    return file.createReadStream({ ...range, highWaterMark: chunkBytes });
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
      // Nothing was stored yet.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw new MediaStorageUnavailable(error);
    }
  }

  /** @throws MediaStorageUnavailable unless the error says that a file is missing in a mounted directory */
  private async expectNotFound(error: unknown): Promise<void> {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw new MediaStorageUnavailable(error);
    if (!(await this.isMounted())) throw new MediaStorageUnavailable(this.notMounted());
  }

  private async isMounted(): Promise<boolean> {
    return access(this.pathOf(marker)).then(
      () => true,
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return false;
        throw new MediaStorageUnavailable(error);
      },
    );
  }

  private async create(): Promise<void> {
    if (!(await this.isNew())) throw this.notMounted();
    await mkdir(this.dir, { recursive: true, mode: 0o700 });
    await writeFile(this.pathOf(marker), '', { flush: true });
    await syncDirectory(this.dir);
    await syncDirectory(dirname(this.dir));
  }

  private notMounted(): Error {
    return new Error(
      `${this.pathOf(marker)} is missing: the file system with the media is not mounted. Mount it. If the media are lost for good, make an empty file of that name.`,
    );
  }

  private pathOf(key: string): string {
    return join(this.dir, key);
  }
}

/** Writes a directory to the disk: before that, a power cut can undo the move of a file into it. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
