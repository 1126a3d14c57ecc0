import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { DataSource, type EntityManager, LessThan, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { given } from '../platform/database/given.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { publicFetch } from '../platform/http/public-fetch.js';
import { type ByteRange, blobKey, MEDIA_STORAGE, type MediaStorage } from './media-storage.js';
import {
  assertAsDeclared,
  assertNoProgram,
  kindOf,
  type MediaKind,
  mediaTypeOf,
  MediaTypeMismatch,
} from './media-type.js';
import { MediaSpool, MediaTooLarge, type SpooledFile } from './media-spool.js';
import type { ListMediaQuery } from './media.dto.js';
import { Media, type MediaOrigin } from './media.entity.js';

export class MediaNotFound extends Problem {
  constructor(id: string) {
    super(404, 'media.not_found', `This workspace has no media ${id}. Upload the file with POST /media.`);
  }
}

export class MediaInUse extends Problem {
  constructor() {
    super(
      409,
      'media.in_use',
      'A message that is not sent yet needs this media. Delete it once the message is sent, or cancel the message first.',
    );
  }
}

export class MediaUnavailable extends Problem {
  constructor(why: string) {
    super(422, 'media.url_unavailable', `The media could not be downloaded: ${why}`);
  }
}

export class StorageLimitReached extends Problem {
  constructor(limit: number) {
    super(
      413,
      'workspace.storage_limit',
      `This workspace may store ${limit} bytes of media, and this file is more than what is left. Delete media that is no longer needed.`,
    );
  }
}

/** What a message's media is made of, as its sender names it. */
export type MediaSource =
  | { mediaId: string }
  | { url: string; mimetype?: string; filename?: string }
  /** `data` is base64. */
  | { data: string; mimetype?: string; filename?: string };

/** What is said of a file by whoever hands it over. */
export interface FileDescription {
  mimetype: string | null;
  filename: string | null;
  /** Nobody vouches for the type: it is no error when the bytes say something else. */
  isGuess?: boolean;
}

/** The media that types of messages take, and how long WhatsApp lets each be; a document may be as long as any media. */
const sendable: Record<string, { kind: MediaKind | null; maxBytes: number }> = {
  image: { kind: 'image', maxBytes: 16 * 2 ** 20 },
  video: { kind: 'video', maxBytes: 64 * 2 ** 20 },
  audio: { kind: 'audio', maxBytes: 16 * 2 ** 20 },
  voice: { kind: 'audio', maxBytes: 16 * 2 ** 20 },
  sticker: { kind: 'image', maxBytes: 2 ** 20 },
  document: { kind: null, maxBytes: Infinity },
};
/** How much base64 is decoded at once; a multiple of four. */
const decodedAtOnce = 65_536;
/** In characters; file systems take no longer one. */
const longestName = 200;

/** The files of workspaces: taking them in, giving them out. */
@Injectable()
export class MediaService {
  constructor(
    @InjectRepository(Media) private readonly media: Repository<Media>,
    @InjectDataSource() private readonly database: DataSource,
    @Inject(MEDIA_STORAGE) private readonly storage: MediaStorage,
    private readonly spool: MediaSpool,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /**
   * The media of a message that is to be accepted: looked up, decoded, or downloaded now, within a bounded time, so that a
   * message that was accepted has its media. To be called outside of a transaction.
   * @throws MediaNotFound, MediaUnavailable, MediaTooLarge, MediaEmpty, MediaTypeMismatch, MediaTypeRefused,
   *   StorageLimitReached, MediaStorageUnavailable, ValidationFailed when `data` is no base64
   */
  async take(workspaceId: string, source: MediaSource): Promise<Media> {
    if ('mediaId' in source) return this.use(workspaceId, source.mediaId);
    if ('data' in source) {
      const file = await this.spool.receive(decode(source.data), this.config.media.maxBytes);
      return this.store(workspaceId, file, describe(source), 'data');
    }
    const { file, declared } = await this.download(source.url);
    const { mimetype, filename } = describe(source);
    const described = {
      mimetype: mimetype ?? declared.mimetype,
      filename: filename ?? declared.filename,
      isGuess: mimetype === null,
    };
    return this.store(workspaceId, file, described, 'url');
  }

  /** @throws MediaNotFound, also for media of another workspace */
  async get(workspaceId: string, id: string): Promise<Media> {
    const media = await this.media.findOneBy({ id, workspaceId });
    if (!media) throw new MediaNotFound(id);
    return media;
  }

  /** Up to `limit + 1` media, newest first. */
  async list(workspaceId: string, { source, cursor, limit }: ListMediaQuery): Promise<Media[]> {
    return this.media.find({
      where: { workspaceId, ...given({ source, id: cursor === undefined ? undefined : LessThan(cursor) }) },
      order: { id: 'DESC' },
      take: limit + 1,
    });
  }

  /**
   * The bytes of a media, or of a part of it. Whoever asks has seen to it that they may.
   * @throws MediaNotFound, MediaBlobMissing, MediaStorageUnavailable
   */
  async open(media: Media | string, range?: ByteRange): Promise<Readable> {
    const row = typeof media === 'string' ? await this.media.findOneBy({ id: media }) : media;
    if (!row) throw new MediaNotFound(String(media));
    return this.storage.open(blobKey(row), range);
  }

  /**
   * Writes the bytes of a media to a new file; when it fails nothing is left.
   * @throws MediaNotFound, MediaBlobMissing, MediaStorageUnavailable, and an Error when `path` exists
   */
  async copyTo(media: Media | string, path: string): Promise<void> {
    const source = await this.open(media);
    try {
      await pipeline(source, createWriteStream(path, { flags: 'wx', mode: 0o600 }));
    } catch (error) {
      source.destroy();
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') await rm(path, { force: true });
      throw error;
    }
  }

  /** Takes an upload in, on this machine's disk until {@link store}. @throws MediaTooLarge, MediaEmpty, MediaStorageUnavailable */
  receive(source: Readable): Promise<SpooledFile> {
    return this.spool.receive(source, this.config.media.maxBytes);
  }

  /** Removes an upload that is not to be stored. */
  discard(file: SpooledFile): Promise<void> {
    return this.spool.drop(file);
  }

  /**
   * Stores a received file. The same file under the same name is the same media.
   * @throws MediaTypeMismatch, MediaTypeRefused, StorageLimitReached, MediaStorageUnavailable
   */
  async store(
    workspaceId: string,
    file: SpooledFile,
    { mimetype, filename, isGuess = false }: FileDescription,
    source: MediaOrigin,
  ): Promise<Media> {
    try {
      const name = cleanName(filename);
      const type = await mediaTypeOf(file.path, mimetype);
      if (source !== 'incoming') {
        assertNoProgram(type, name);
        if (!isGuess) assertAsDeclared(type, mimetype);
      }
      return await this.keep(workspaceId, file, { mimetype: type, filename: name, source });
    } finally {
      await this.spool.drop(file);
    }
  }

  /**
   * Stores the media of a message that was received. It is not refused for what it is.
   * @param source a stream of it
   * @param described as its sender does; its type is believed only where its bytes do not tell
   * @throws MediaTooLarge, MediaEmpty, StorageLimitReached, MediaStorageUnavailable, and whatever the stream fails with
   */
  async storeIncoming(
    workspaceId: string,
    source: Readable,
    { mimetype = null, filename = null }: Partial<FileDescription> = {},
  ): Promise<Media> {
    return this.store(workspaceId, await this.receive(source), { mimetype, filename }, 'incoming');
  }

  /**
   * Deletes a media; its bytes go when nobody else has the same ones. Messages that were sent with it keep what they say of it.
   * @throws MediaNotFound, MediaInUse
   */
  async delete(workspaceId: string, id: string): Promise<void> {
    await this.database.transaction(async (manager) => {
      const found = await manager.findOne(Media, {
        where: { id, workspaceId },
        lock: { mode: 'pessimistic_write' },
      });
      if (!found) throw new MediaNotFound(id);
      // Asked with the row locked: a message that is inserted now waits, and finds it gone.
      const needed: unknown[] = await manager.query(
        `select from messages where media ->> 'mediaId' = $1 and media is not null and stage is not null limit 1`,
        [id],
      );
      if (needed.length > 0) throw new MediaInUse();
      await manager.delete(Media, { id });
    });
  }

  /**
   * Whether a media can be sent as a type of message.
   * @throws MediaTypeMismatch, MediaTooLarge
   */
  assertSendable(media: Media, type: string): void {
    const { kind, maxBytes } = sendable[type]!;
    if (kind !== null && kindOf(media.mimetype) !== kind) {
      throw new MediaTypeMismatch(
        `${media.mimetype} cannot be sent as ${type}. Send it as ${kindOf(media.mimetype)} or as document.`,
      );
    }
    if (media.size > maxBytes) throw new MediaTooLarge(maxBytes, `What is sent as ${type}`);
  }

  private async use(workspaceId: string, id: string): Promise<Media> {
    const { affected } = await this.media.update({ id, workspaceId }, { lastUsedAt: () => 'now()' });
    if (!affected) throw new MediaNotFound(id);
    return this.get(workspaceId, id);
  }

  private async download(url: string): Promise<{ file: SpooledFile; declared: FileDescription }> {
    const { maxBytes, fetchTimeoutMs } = this.config.media;
    try {
      const answer = await publicFetch(url, {
        method: 'GET',
        timeoutMs: fetchTimeoutMs,
        maxBytes,
        allowPrivate: this.config.allowedPrivateAddresses,
      });
      if (answer.status !== 200) {
        answer.body.on('error', () => undefined).destroy();
        throw new MediaUnavailable(
          `its server answered ${answer.status}. It must answer 200; redirects are not followed.`,
        );
      }
      const declared = {
        mimetype: answer.headers['content-type'] ?? null,
        filename: decodeURIComponentOrNull(basename(new URL(url).pathname)),
      };
      return { file: await this.spool.receive(answer.body, maxBytes), declared };
    } catch (error) {
      const { code = '', message } = error as Error & { code?: string };
      if (code === 'url.too_large') throw new MediaTooLarge(maxBytes);
      if (code.startsWith('url.')) throw new MediaUnavailable(message);
      throw error;
    }
  }

  private async keep(
    workspaceId: string,
    file: SpooledFile,
    described: { mimetype: string; filename: string | null; source: MediaOrigin },
  ): Promise<Media> {
    const { sha256, size } = file;
    const content = Buffer.from(sha256, 'hex');
    const [same]: { id: string }[] = await this.database.query(
      `select id from media where workspace_id = $1 and sha256 = $2 and mimetype = $3 and coalesce(filename, '') = $4`,
      [workspaceId, content, described.mimetype, described.filename ?? ''],
    );
    if (same) {
      const used = await this.use(workspaceId, same.id).catch((error: unknown) => {
        if (error instanceof MediaNotFound) return null;
        throw error;
      });
      if (used) return used;
    }
    await assertRoom(this.database.manager, workspaceId, size);
    // What others have stored is written anew all the same, so that nobody can tell by the time it takes.
    const blobId = uuidv7();
    await this.database.query('select write_media_blob($1, $2, $3)', [blobId, content, size]);
    try {
      await this.storage.put(blobKey({ sha256, blobId }), file);
      return await this.refer(workspaceId, blobId, file, described);
    } catch (error) {
      // If that fails too, the bytes are removed a day later.
      await this.database.query('select give_up_media_blob($1)', [blobId]).catch(() => undefined);
      throw error;
    }
  }

  /** The media of bytes that lie in the storage: these, or the same that were there before. */
  private refer(
    workspaceId: string,
    blobId: string,
    { sha256, size }: SpooledFile,
    { mimetype, filename, source }: { mimetype: string; filename: string | null; source: MediaOrigin },
  ): Promise<Media> {
    return this.database.transaction(async (manager) => {
      await assertRoom(manager, workspaceId, size);
      const [{ kept }] = await manager.query('select keep_media_blob($1) as kept', [blobId]);
      if (kept === null) throw new Error(`The blob ${blobId} was removed while it was written.`);
      const [{ id }] = await manager.query(
        `insert into media (id, workspace_id, blob_id, sha256, size, mimetype, filename, source)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (workspace_id, sha256, mimetype, coalesce(filename, '')) do update set last_used_at = now()
         returning id`,
        [uuidv7(), workspaceId, kept, Buffer.from(sha256, 'hex'), size, mimetype, filename, source],
      );
      return manager.findOneByOrFail(Media, { id });
    });
  }
}

/**
 * Whether a workspace that has a limit may store so much more. In a transaction that then stores, nobody else of the workspace
 * can use the same room.
 */
async function assertRoom(manager: EntityManager, workspaceId: string, size: number): Promise<void> {
  const [row] = await manager.query('select max_storage_bytes as most from workspaces where id = $1', [
    workspaceId,
  ]);
  if (!row || row.most === null) return;
  await manager.query('select pg_advisory_xact_lock(hashtextextended($1, 0))', [`media of ${workspaceId}`]);
  const [{ used }] = await manager.query(
    'select coalesce(sum(size), 0)::bigint as used from media where workspace_id = $1',
    [workspaceId],
  );
  if (Number(used) + size > Number(row.most)) throw new StorageLimitReached(Number(row.most));
}

function describe({ mimetype, filename }: { mimetype?: string; filename?: string }): FileDescription {
  return { mimetype: mimetype ?? null, filename: filename ?? null };
}

/** The bytes of base64, a piece at a time. @throws ValidationFailed */
function decode(data: string): Readable {
  if (data.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(data)) {
    throw new ValidationFailed([{ path: 'media.data', message: 'must be base64, as RFC 4648 has it' }]);
  }
  return Readable.from(
    (function* () {
      for (let from = 0; from < data.length; from += decodedAtOnce)
        yield Buffer.from(data.slice(from, from + decodedAtOnce), 'base64');
    })(),
    { objectMode: false },
  );
}

/** A name without a path and without what no file system or header takes; null when nothing is left of it. */
export function cleanName(name: string | null): string | null {
  const last = (name ?? '').split(/[/\\]/).at(-1)!;

  const clean = last
    .toWellFormed()
    .replace(/[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, '')
    .trim();
  if (/^\.*$/.test(clean)) return null;
  return [...clean].length <= longestName ? clean : shorten(clean);
}

/** Keeps the end, which says what it is. */
function shorten(name: string): string {
  const extension = /\.[^.]{1,16}$/.exec(name)?.[0] ?? '';
  return (
    [...name.slice(0, name.length - extension.length)].slice(0, longestName - extension.length).join('') +
    extension
  );
}

function decodeURIComponentOrNull(text: string): string | null {
  try {
    return decodeURIComponent(text);
  } catch {
    return null;
  }
}
