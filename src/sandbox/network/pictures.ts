import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BadRequestException } from '@nestjs/common';
import { fileTypeFromBuffer } from 'file-type';

/** More than Flotilla accepts, so that tests can reach Flotilla's own limit. */
const MAX_BYTES = 2 * 1024 * 1024;
const TYPES = ['image/jpeg', 'image/png'];
const NAME = /^[0-9a-f]{64}$/;

/** The pictures of phones and groups, each in a file that has its hash as name. */
export class PictureStore {
  private constructor(private readonly dir: string) {}

  /** Opens the store, or creates it. */
  static async open(dir: string): Promise<PictureStore> {
    const store = new PictureStore(join(dir, 'pictures'));
    await mkdir(store.dir, { recursive: true });
    return store;
  }

  /**
   * Stores a JPEG or PNG.
   * @returns the name of its file
   */
  async save(base64: string): Promise<string> {
    const bytes = Buffer.from(base64, 'base64');
    const type = await typeOf(bytes);
    if (!TYPES.includes(type) || bytes.length > MAX_BYTES)
      throw new BadRequestException(
        `A picture must be a JPEG or PNG of at most ${MAX_BYTES} bytes, in base64.`,
      );
    const name = createHash('sha256').update(bytes).digest('hex');
    await writeFile(join(this.dir, name), bytes, { mode: 0o600 });
    return name;
  }

  /** The picture with this file name; null when there is none. */
  async read(name: string): Promise<{ type: string; body: Buffer } | null> {
    if (!NAME.test(name)) return null;
    const body = await readFile(join(this.dir, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null;
      throw error;
    });
    return body && { type: await typeOf(body), body };
  }
}

async function typeOf(bytes: Buffer): Promise<string> {
  return (await fileTypeFromBuffer(bytes))?.mime ?? 'application/octet-stream';
}
