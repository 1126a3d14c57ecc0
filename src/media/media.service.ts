import { Inject, Injectable } from '@nestjs/common';
import { InjectDataSource, InjectRepository } from '@nestjs/typeorm';
import { createWriteStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { DataSource, type EntityManager, LessThan, Repository } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { given } from '../platform/database/given.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { withoutTurn } from '../platform/http/fair-share.js';
import { publicDownload } from '../platform/http/public-download.js';
import { ConcurrencyLimit } from '../platform/limits/concurrency-limit.js';
import { SharedCounts } from '../platform/limits/shared-counts.js';
import { isInUse } from './media-in-use.js';
import { type Goal, MediaConverter, TooManyConversions } from './media-converter.js';
import { MediaKeeper } from './media-keeper.js';
import { cleanName, nameOfAnswer, renamed, withFittingExtension } from './media-name.js';
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

/** The workspace already downloads as many media URLs as it may at the same time. */
export class TooManyUrlDownloads extends Problem {
  constructor(limit: number) {
    super(
      429,
      'media.too_many_downloads',
      `This workspace is downloading ${limit} media URLs, the limit. Wait until some have ended, upload the files with POST /media instead, or raise MEDIA_DOWNLOADS_PER_WORKSPACE.`,
      undefined,
      5,
    );
  }
}

/** The source of a message's media, as the request gives it. */
export type MediaSource =
  | { mediaId: string }
  | { url: string; mimetype?: string; filename?: string }
  /** `data` is base64. */
  | { data: string; mimetype?: string; filename?: string };

/** A media of a message. */
export type TakenMedia = Media & {
  /** The type that the file had before Flotilla converted it; null for a file that is sent as it is. */
  convertedFrom: string | null;
};

/** What the sender of a file says about it. */
export interface FileDescription {
  mimetype: string | null;
  filename: string | null;
  /** The type was not declared by the sender: another type of the bytes is not an error. */
  isGuess?: boolean;
  /** The name was not given by the sender: it gets an extension that fits the type. */
  isNameGuess?: boolean;
}

interface Sendable {
  kind: MediaKind | null;
  /** The types that phones show, if not every type of the kind. */
  types?: readonly string[];
  /** WhatsApp's limit of the length. */
  maxBytes: number;
  /** The limit of a file before its conversion, if that is another one. */
  maxSourceBytes?: number;
}

/** The media of each message type; `gif` is a video that plays as a GIF. A document has no limit except that of all media. */
const sendable: Record<string, Sendable> = {
  image: { kind: 'image', types: ['image/jpeg', 'image/png'], maxBytes: 16 * 2 ** 20 },
  video: { kind: 'video', maxBytes: 64 * 2 ** 20 },
  gif: { kind: 'video', types: ['video/mp4'], maxBytes: 64 * 2 ** 20 },
  audio: { kind: 'audio', maxBytes: 16 * 2 ** 20 },
  voice: { kind: 'audio', maxBytes: 16 * 2 ** 20 },
  sticker: { kind: 'image', types: ['image/webp'], maxBytes: 2 ** 20, maxSourceBytes: 16 * 2 ** 20 },
  document: { kind: null, maxBytes: Infinity },
};
/** How many files of one workspace wait for their conversion or are converted: as many as a batch prepares at the same time. */
const conversionsPerWorkspace = 8;
/** How many characters of base64 are decoded at once; a multiple of four. */
const base64ChunkLength = 65_536;

/** Stores and returns the files of workspaces. */
@Injectable()
export class MediaService {
  private readonly downloads: ConcurrencyLimit;
  private readonly conversions: ConcurrencyLimit;

  constructor(
    @InjectRepository(Media) private readonly media: Repository<Media>,
    @InjectDataSource() private readonly database: DataSource,
    @Inject(MEDIA_STORAGE) private readonly storage: MediaStorage,
    private readonly spool: MediaSpool,
    private readonly keeper: MediaKeeper,
    private readonly converter: MediaConverter,
    @Inject(CONFIG) private readonly config: Config,
    counts: SharedCounts,
  ) {
    this.downloads = new ConcurrencyLimit(
      counts,
      'downloads',
      config.media.downloadsPerWorkspace,
      (limit) => new TooManyUrlDownloads(limit),
    );
    this.conversions = new ConcurrencyLimit(
      counts,
      'conversions',
      conversionsPerWorkspace,
      () => new TooManyConversions(),
    );
  }

  /**
   * The media of a message before the message is accepted: it is looked up, decoded or downloaded within a time limit, so that
   * every accepted message has its media. Call it outside of a transaction.
   * @param type the message type, or `gif`; a file that this type cannot carry is refused and not kept
   * @throws MediaNotFound, MediaUnavailable, TooManyUrlDownloads, MediaTooLarge, MediaEmpty, MediaTypeMismatch, MediaTypeRefused,
   *   StorageLimitReached, MediaStorageUnavailable, ConverterMissing, NotConvertible, TooManyConversions, ValidationFailed if
   *   `data` is not base64
   */
  async take(workspaceId: string, source: MediaSource, type = 'document'): Promise<TakenMedia> {
    if ('mediaId' in source) {
      const media = await this.get(workspaceId, source.mediaId);
      if (this.converter.goalOf(media.mimetype, type)) return this.takeConverted(workspaceId, media, type);
      assertSendable(media, type);
      return Object.assign(await this.use(workspaceId, source.mediaId), { convertedFrom: null });
    }
    const { maxBytes: maxSentBytes, maxSourceBytes = maxSentBytes } = sendable[type]!;
    const maxBytes = Math.min(this.config.media.maxBytes, maxSourceBytes);
    if ('data' in source) {
      const file = await this.spool.receive(decode(source.data), maxBytes);
      return this.store(workspaceId, file, describe(source), 'data', type);
    }
    const { url } = source;
    const { file, declared } = await withoutTurn(() => this.download(workspaceId, url, maxBytes));
    const { mimetype, filename } = describe(source);
    const described = {
      mimetype: mimetype ?? declared.mimetype,
      filename: filename ?? declared.filename,
      isGuess: mimetype === null,
      isNameGuess: filename === null,
    };
    return this.store(workspaceId, file, described, 'url', type);
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
   * The bytes of a media, or of a part of it. The caller must have checked the access.
   * @throws MediaNotFound, MediaBlobMissing, MediaStorageUnavailable
   */
  async open(media: Media | string, range?: ByteRange, answerWithinMs?: number): Promise<Readable> {
    const row = typeof media === 'string' ? await this.media.findOneBy({ id: media }) : media;
    if (!row) throw new MediaNotFound(String(media));
    return this.storage.open(blobKey(row), range, answerWithinMs);
  }

  /**
   * Writes the bytes of a media to a new file, and removes the file after an error.
   * @param answerWithinMs the timeout of the storage for the first byte and for each pause
   * @throws MediaNotFound, MediaBlobMissing, MediaStorageUnavailable; and an Error if `path` exists or cannot be written, or
   * the stream breaks
   */
  async copyTo(media: Media | string, path: string, answerWithinMs?: number): Promise<void> {
    const source = await this.open(media, undefined, answerWithinMs);
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

  /** Removes an upload that will not be stored. */
  discard(file: SpooledFile): Promise<void> {
    return this.spool.drop(file);
  }

  /**
   * Stores a received file. The same file under the same name is the same media.
   * @param sentAs the type of the message that will carry it
   * @throws MediaTypeMismatch, MediaTypeRefused, StorageLimitReached, MediaStorageUnavailable
   */
  async store(
    workspaceId: string,
    file: SpooledFile,
    { mimetype, filename, isGuess = false, isNameGuess = false }: FileDescription,
    source: MediaOrigin,
    sentAs = 'document',
  ): Promise<TakenMedia> {
    let converted: SpooledFile | null = null;
    try {
      const given = cleanName(filename);
      const type = await mediaTypeOf(file.path, mimetype);
      const name = isNameGuess ? cleanName(withFittingExtension(given, type)) : given;
      if (source !== 'incoming') {
        for (const checked of [given, name]) assertNoProgram(type, checked);
        if (!isGuess) assertAsDeclared(type, mimetype);
      }
      // A declared type may leave out the codec, which decides here.
      const goal =
        source !== 'incoming' && this.converter.goalOf(type, sentAs) !== null
          ? this.converter.goalOf(await mediaTypeOf(file.path, null), sentAs)
          : null;
      if (goal !== null)
        converted = await this.convert(workspaceId, file, type, goal, sendable[sentAs]!.maxBytes);
      const sent = converted ?? file;
      const mimetypeSent = converted ? await mediaTypeOf(converted.path, null) : type;
      assertSendable({ mimetype: mimetypeSent, size: sent.size }, sentAs);
      const media = await this.keeper.keep(workspaceId, sent, {
        mimetype: mimetypeSent,
        filename: converted && name !== null ? renamed(name, mimetypeSent) : name,
        source,
      });
      return Object.assign(media, { convertedFrom: converted ? type : null });
    } finally {
      await this.spool.drop(file);
      if (converted) await this.spool.drop(converted);
    }
  }

  private async convert(
    workspaceId: string,
    file: SpooledFile,
    type: string,
    goal: Goal,
    maxBytes: number,
  ): Promise<SpooledFile> {
    const leave = this.conversions.enter(workspaceId);
    try {
      return await withoutTurn(() => this.converter.convert(workspaceId, file, type, goal, maxBytes));
    } finally {
      leave();
    }
  }

  private async takeConverted(workspaceId: string, media: Media, type: string): Promise<TakenMedia> {
    const file = await this.spool.receive(await this.open(media), this.config.media.maxBytes);
    return this.store(workspaceId, file, media, media.source === 'incoming' ? 'data' : media.source, type);
  }

  /**
   * Stores the media of a received message. Its type is no reason to refuse it.
   * @param source its bytes
   * @param described the sender's description; its type counts only if the bytes do not tell
   * @throws MediaTooLarge, MediaEmpty, StorageLimitReached, MediaStorageUnavailable, and the errors of the stream
   */
  async storeIncoming(
    workspaceId: string,
    source: Readable,
    { mimetype = null, filename = null }: Partial<FileDescription> = {},
  ): Promise<Media> {
    return this.store(workspaceId, await this.receive(source), { mimetype, filename }, 'incoming');
  }

  /**
   * Deletes a media. Its file is removed when no other media shares it. Sent messages keep their description of the media.
   * @throws MediaNotFound, MediaInUse
   */
  async delete(workspaceId: string, id: string): Promise<void> {
    await this.database.transaction(async (manager) => {
      const found = await manager.findOne(Media, {
        where: { id, workspaceId },
        lock: { mode: 'pessimistic_write' },
      });
      if (!found) throw new MediaNotFound(id);
      // The row is locked: an insert of a message that needs it waits, and then does not find it.
      const [row] = await manager.query<{ needed: boolean }[]>(`select ${isInUse('$1')} as needed`, [id]);
      if (row!.needed) throw new MediaInUse();
      await manager.delete(Media, { id });
    });
  }

  /**
   * Prevents the deletion of media until a transaction ends.
   * @returns the ids that exist
   */
  async hold(manager: EntityManager, workspaceId: string, ids: string[]): Promise<Set<string>> {
    const held: { id: string }[] = await manager.query(
      'select id from media where id = any($1) and workspace_id = $2 order by id for key share',
      [ids, workspaceId],
    );
    return new Set(held.map(({ id }) => id));
  }

  private async use(workspaceId: string, id: string): Promise<Media> {
    const { affected } = await this.media.update({ id, workspaceId }, { lastUsedAt: () => 'now()' });
    if (!affected) throw new MediaNotFound(id);
    return this.get(workspaceId, id);
  }

  private async download(
    workspaceId: string,
    url: string,
    maxBytes: number,
  ): Promise<{ file: SpooledFile; declared: FileDescription }> {
    const { fetchTimeoutMs } = this.config.media;
    const leave = this.downloads.enter(workspaceId);
    try {
      const answer = await publicDownload(url, {
        timeoutMs: fetchTimeoutMs,
        maxBytes,
        allowPrivate: this.config.allowedPrivateAddresses,
        userAgent: `Mozilla/5.0 (compatible; Flotilla/${this.config.version})`,
      });
      if (answer.status < 200 || answer.status >= 300 || answer.status === 206) {
        answer.body.destroy();
        throw new MediaUnavailable(
          `its server answered ${answer.status}. It must answer 200 to a GET without cookies.`,
        );
      }
      const declared = {
        mimetype: answer.headers['content-type'] ?? null,
        filename: nameOfAnswer(answer.headers['content-disposition'], answer.url),
      };
      return { file: await this.spool.receive(answer.body, maxBytes), declared };
    } catch (error) {
      const { code = '', message } = error as Error & { code?: string };
      if (code === 'url.too_large') throw new MediaTooLarge(maxBytes);
      if (code.startsWith('url.')) throw new MediaUnavailable(message);
      throw error;
    } finally {
      leave();
    }
  }
}

/** @throws MediaTypeMismatch, MediaTooLarge if a message of this type cannot carry the media */
function assertSendable({ mimetype, size }: Pick<Media, 'mimetype' | 'size'>, type: string): void {
  const { kind, types, maxBytes } = sendable[type]!;
  if ((kind !== null && kindOf(mimetype) !== kind) || types?.includes(mimetype) === false) {
    const others = [...new Set([kindOf(mimetype), 'document'])].filter((other) => other !== type);
    const gif = type === 'video' && mimetype === 'image/gif' ? ', or add gif: true' : '';
    throw new MediaTypeMismatch(
      `${mimetype} cannot be sent as ${type}. Send it as ${others.join(' or ')}${gif}.`,
    );
  }
  if (size > maxBytes) throw new MediaTooLarge(maxBytes, `A file that is sent as ${type}`);
}

function describe({ mimetype, filename }: { mimetype?: string; filename?: string }): FileDescription {
  return { mimetype: mimetype ?? null, filename: filename ?? null };
}

/** Decodes base64 in chunks. @throws ValidationFailed */
function decode(data: string): Readable {
  if (data.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(data)) {
    throw new ValidationFailed([{ path: 'media.data', message: 'must be base64 (RFC 4648)' }]);
  }
  return Readable.from(
    (function* () {
      for (let from = 0; from < data.length; from += base64ChunkLength)
        yield Buffer.from(data.slice(from, from + base64ChunkLength), 'base64');
    })(),
    { objectMode: false },
  );
}
