import { createCipheriv, createDecipheriv, createHash, createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { createReadStream, createWriteStream, type ReadStream } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { BadRequestException, NotFoundException } from '@nestjs/common';
import type { Content, MediaPointer } from '../journal/content.js';

export const MEDIA_PATH = '/v/media/';
const MAX_MEDIA_BYTES = 128 * 1024 * 1024;
/** Beyond this the store loses its oldest files, as WhatsApp loses media after some weeks. */
const MAX_STORED_BYTES = 4 * 1024 * 1024 * 1024;
const MAX_STORED_FILES = 50_000;
const MAC_BYTES = 10;
const NAME = /^[0-9a-f]{64}$/;

/**
 * The media that WhatsApp's servers store: encrypted bytes, by their hash. Only messages contain the keys. The sandbox acts
 * for the phones too, so it can encrypt and decrypt.
 */
export class MediaStore {
  /** The sizes of the files by their names, the oldest first. */
  private readonly sizes = new Map<string, number>();
  private bytes = 0;

  private constructor(private readonly dir: string) {}

  /** Opens the store, or creates it. */
  static async open(dir: string): Promise<MediaStore> {
    const store = new MediaStore(join(dir, 'media'));
    await mkdir(store.dir, { recursive: true });
    await store.readSizes();
    return store;
  }

  /**
   * Stores what a page uploads.
   * @returns its path; null when it is too large or does not have this hash
   */
  async saveUpload(request: IncomingMessage, encFilehash: string): Promise<string | null> {
    const partial = this.newPartial();
    const hash = createHash('sha256');
    let size = 0;
    const check = async function* (chunks: AsyncIterable<Buffer>) {
      for await (const chunk of chunks) {
        size += chunk.length;
        if (size > MAX_MEDIA_BYTES) return;
        hash.update(chunk);
        yield chunk;
      }
    };
    try {
      await pipeline(request, check, createWriteStream(partial, { mode: 0o600 }));
      const digest = hash.digest();
      if (size > MAX_MEDIA_BYTES || digest.toString('base64') !== encFilehash) return null;
      return await this.keep(partial, digest.toString('hex'), size);
    } finally {
      await rm(partial, { force: true });
    }
  }

  /** The encrypted bytes at a path; null when there are none. */
  async read(directPath: string): Promise<{ size: number; stream: ReadStream } | null> {
    const path = this.fileOf(directPath);
    const found = path && (await stat(path).catch(() => null));
    return path && found ? { size: found.size, stream: createReadStream(path) } : null;
  }

  /** Encrypts and stores what the owner of a phone sends. */
  async encrypt(data: Buffer, mimetype: string, filename?: string): Promise<MediaPointer> {
    const mediaKey = randomBytes(32);
    const { iv, cipherKey, macKey } = keysOf(mediaKey);
    const cipher = createCipheriv('aes-256-cbc', cipherKey, iv);
    const encrypted = Buffer.concat([cipher.update(data), cipher.final()]);
    const bytes = Buffer.concat([encrypted, macOf(macKey, iv, encrypted)]);
    return {
      directPath: await this.save(bytes),
      mediaKey: mediaKey.toString('base64'),
      encFilehash: hashOf(bytes).toString('base64'),
      filehash: hashOf(data).toString('base64'),
      mimetype,
      size: data.length,
      ...(filename === undefined ? {} : { filename }),
    };
  }

  /** Stores what an admin posts in a channel: such media are not encrypted, and their pointer has no key. */
  async savePlain(data: Buffer, mimetype: string): Promise<MediaPointer> {
    const filehash = hashOf(data).toString('base64');
    const directPath = await this.save(data);
    return { directPath, mediaKey: '', encFilehash: filehash, filehash, mimetype, size: data.length };
  }

  /**
   * The plain bytes of a message's media.
   * @throws NotFoundException when the bytes are lost
   * @throws BadRequestException when the bytes do not match the message
   */
  async decrypt(media: MediaPointer): Promise<Buffer> {
    const path = this.fileOf(media.directPath);
    if (!path) throw new BadRequestException(`${media.directPath} is not a path of media.`);
    const bytes = await readFile(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      throw new NotFoundException(`The media at ${media.directPath} is lost.`);
    });
    if (media.mediaKey === '') return checked(bytes, media);
    const { iv, cipherKey, macKey } = keysOf(Buffer.from(media.mediaKey, 'base64'));
    const encrypted = bytes.subarray(0, -MAC_BYTES);
    const isWhole =
      hashOf(bytes).toString('base64') === media.encFilehash &&
      macOf(macKey, iv, encrypted).equals(bytes.subarray(-MAC_BYTES));
    if (!isWhole) throw new BadRequestException(`The media at ${media.directPath} is not what was uploaded.`);
    const decipher = createDecipheriv('aes-256-cbc', cipherKey, iv);
    return checked(Buffer.concat([decipher.update(encrypted), decipher.final()]), media);
  }

  /**
   * The SHA-256 of the plain bytes of a message's media, in hexadecimal digits.
   * @throws as {@link decrypt}
   */
  async sha256Of(media: MediaPointer): Promise<string> {
    return hashOf(await this.decrypt(media)).toString('hex');
  }

  /** The content that a page submits, with the hash of its plain media. */
  async withHash({
    media,
    ...rest
  }: Omit<Content, 'media'> & { media?: MediaPointer | undefined }): Promise<Content> {
    return media ? { ...rest, media: { ...media, sha256: await this.sha256Of(media) } } : rest;
  }

  /** Deletes the bytes at a path, as WhatsApp does after some weeks. */
  async delete(directPath: string): Promise<void> {
    const path = this.fileOf(directPath);
    if (path) await this.remove(basename(path));
  }

  /** Deletes everything, except files that are being written now. */
  async clear(): Promise<void> {
    await Promise.all([...this.sizes.keys()].map((name) => this.remove(name)));
  }

  private async save(bytes: Buffer): Promise<string> {
    const partial = this.newPartial();
    try {
      await writeFile(partial, bytes, { mode: 0o600 });
      return await this.keep(partial, hashOf(bytes).toString('hex'), bytes.length);
    } finally {
      await rm(partial, { force: true });
    }
  }

  /** A file is renamed when it is complete, so that nobody reads a part of it. */
  private newPartial(): string {
    return join(this.dir, `partial.${randomBytes(8).toString('hex')}`);
  }

  /** Keeps a complete file under its name. @returns its path for the pages */
  private async keep(partial: string, name: string, size: number): Promise<string> {
    await rename(partial, join(this.dir, name));
    this.forget(name);
    this.sizes.set(name, size);
    this.bytes += size;
    for (const oldest of this.sizes.keys()) {
      if (this.sizes.size <= MAX_STORED_FILES && this.bytes <= MAX_STORED_BYTES) break;
      await this.remove(oldest);
    }
    return MEDIA_PATH + name;
  }

  private async remove(name: string): Promise<void> {
    this.forget(name);
    await rm(join(this.dir, name), { force: true });
  }

  private forget(name: string): void {
    this.bytes -= this.sizes.get(name) ?? 0;
    this.sizes.delete(name);
  }

  /** Reads the sizes of the files, and removes what a killed process has left half written. */
  private async readSizes(): Promise<void> {
    const found: { name: string; size: number; mtimeMs: number }[] = [];
    for (const name of await readdir(this.dir)) {
      const path = join(this.dir, name);
      if (NAME.test(name)) {
        const { size, mtimeMs } = await stat(path);
        found.push({ name, size, mtimeMs });
      } else await rm(path, { force: true });
    }
    for (const { name, size } of found.sort((a, b) => a.mtimeMs - b.mtimeMs)) {
      this.sizes.set(name, size);
      this.bytes += size;
    }
  }

  private fileOf(directPath: string): string | null {
    const name = directPath.startsWith(MEDIA_PATH) ? directPath.slice(MEDIA_PATH.length) : '';
    return NAME.test(name) ? join(this.dir, name) : null;
  }
}

/** @throws BadRequestException when the plain bytes are not those of the message */
function checked(data: Buffer, { filehash }: MediaPointer): Buffer {
  if (hashOf(data).toString('base64') !== filehash)
    throw new BadRequestException('The media does not match its message.');
  return data;
}

/** The keys that WhatsApp derives from a message's media key; the sandbox uses the same derivation for all types of media. */
function keysOf(mediaKey: Buffer): { iv: Buffer; cipherKey: Buffer; macKey: Buffer } {
  const derived = Buffer.from(hkdfSync('sha256', mediaKey, Buffer.alloc(32), 'WhatsApp Media Keys', 112));
  return {
    iv: derived.subarray(0, 16),
    cipherKey: derived.subarray(16, 48),
    macKey: derived.subarray(48, 80),
  };
}

function macOf(macKey: Buffer, iv: Buffer, encrypted: Buffer): Buffer {
  return createHmac('sha256', macKey).update(iv).update(encrypted).digest().subarray(0, MAC_BYTES);
}

function hashOf(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest();
}
