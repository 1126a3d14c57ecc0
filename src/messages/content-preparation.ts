import { Injectable } from '@nestjs/common';
import { plainToInstance } from 'class-transformer';
import { validate } from 'class-validator';
import type { EntityManager } from 'typeorm';
import { MediaNotFound, MediaService, type MediaSource } from '../media/media.service.js';
import { type Grant, MessageLimitReached } from '../workspaces/limits.service.js';
import type { Media } from '../media/media.entity.js';
import { type FieldError, Problem, ValidationFailed } from '../platform/errors/problem.js';
import { fieldErrors } from '../platform/http/http.js';
import { parsePhoneNumber } from '../platform/http/phone-number.js';
import { isMediaType, type MessageType } from './message-types.js';
import type { MediaSourceDto, MessageMedia } from './content.dto.js';
import type { MessageContent } from './message.entity.js';
import { SendMessageDto } from './messages.dto.js';
import { parseRecipient } from './recipient.js';

/** A request has fields that its type of message does not. */
export class ContentMismatch extends Problem {
  constructor(type: string, errors: FieldError[]) {
    super(
      422,
      'message.content_mismatch',
      `A message of type ${type} has no ${errors.map(({ path }) => path).join(', ')}. Leave it out, or name the type that has it; the text below a picture, video or document is media.caption.`,
      errors,
    );
  }
}

/** Those of a batch that come after the time for its downloads. */
export class TooManyDownloads extends Problem {
  constructor() {
    super(
      422,
      'media.url_unavailable',
      `The downloads of this batch took longer than ${batchMediaMs / 1000} s in all. Send the rest again, or upload the files with POST /media first.`,
    );
  }
}

/** A message of a batch, or what is wrong with it. */
export type Prepared = { dto: SendMessageDto; content: PreparedContent } | Problem;

/** Runs before a file is stored, so that nothing is stored for a message that is refused. @throws Problem */
export type CheckBeforeFile = (workspaceId: string, wanted: SendMessageDto) => Promise<void>;

/** What a message says, as its row has it. */
export interface PreparedContent {
  text: string | null;
  media: MessageMedia | null;
  content: MessageContent | null;
}

const fields = ['text', 'media', 'location', 'contact', 'poll'] as const;
type Field = (typeof fields)[number];
/** WhatsApp shows a text below these. */
const captioned = new Set<MessageType>(['image', 'video', 'document']);
const mentioning = new Set<MessageType>(['text', 'image', 'video', 'document']);

/** How long the media of a batch may be downloaded, and how many at a time. */
const batchMediaMs = 60_000;
const preparedAtOnce = 8;

/** Makes what a request asks to be sent into what the ledger keeps. */
@Injectable()
export class ContentPreparation {
  constructor(private readonly media: MediaService) {}

  /**
   * Takes in the media that a request names: within a bounded time, and outside of any transaction. Of a request that is
   * refused for anything else, nothing is stored.
   * @throws ValidationFailed, ContentMismatch, and whatever `checkBeforeFile` and `MediaService.take` throw
   */
  async prepare(
    workspaceId: string,
    wanted: SendMessageDto,
    checkBeforeFile: CheckBeforeFile,
  ): Promise<PreparedContent> {
    checkFields(wanted);
    if (bringsFile(wanted)) await checkBeforeFile(workspaceId, wanted);
    const { type, text = null, media, location, contact, poll, mentions } = wanted;
    const content: MessageContent = {
      ...(location
        ? { location: { ...location, name: location.name ?? null, address: location.address ?? null } }
        : {}),
      ...(contact
        ? {
            contact: contact.map(({ name, phone, organization = null }) => ({
              name,
              phone: parsePhoneNumber(phone),
              organization,
            })),
          }
        : {}),
      ...(poll ? { poll: { ...poll, options: poll.options.map((option) => option.trim()) } } : {}),
      ...(mentions?.length ? { mentions: mentions.map((person) => parseRecipient(person)!.address) } : {}),
    };
    return {
      text: media?.caption ?? text,
      media: media ? await this.take(workspaceId, type, media) : null,
      content: Object.keys(content).length === 0 ? null : content,
    };
  }

  /**
   * Reads the messages of a batch and takes their media in, some at a time; a message that is wrong becomes its error.
   * @param grant no more files are taken in than messages are granted
   */
  async prepareBatch(
    workspaceId: string,
    wanted: Record<string, unknown>[],
    grant: Grant,
    checkBeforeFile: CheckBeforeFile,
  ): Promise<Prepared[]> {
    const deadline = Date.now() + batchMediaMs;
    let files = 0;
    const prepare = async (candidate: Record<string, unknown>) => {
      try {
        const dto = await toSendMessageDto(candidate);
        if (bringsFile(dto) && (files += 1) > grant.count) throw new MessageLimitReached(grant.limit);
        if (dto.media?.url !== undefined && Date.now() > deadline) throw new TooManyDownloads();
        return { dto, content: await this.prepare(workspaceId, dto, checkBeforeFile) };
      } catch (error) {
        if (error instanceof Problem) return error;
        throw error;
      }
    };
    const prepared: Prepared[] = [];
    for (let start = 0; start < wanted.length; start += preparedAtOnce)
      prepared.push(...(await Promise.all(wanted.slice(start, start + preparedAtOnce).map(prepare))));
    return prepared;
  }

  /** Keeps the media of messages from being deleted until a transaction ends; one that has lost its media becomes its error. */
  async hold(manager: EntityManager, workspaceId: string, candidates: Prepared[]): Promise<Prepared[]> {
    const mediaIdOf = (candidate: Prepared) =>
      candidate instanceof Problem ? null : (candidate.content.media?.mediaId ?? null);
    const wanted = candidates.map(mediaIdOf).filter((id) => id !== null);
    if (wanted.length === 0) return candidates;
    const held = await this.media.hold(manager, workspaceId, wanted);
    return candidates.map((candidate) => {
      const id = mediaIdOf(candidate);
      return id === null || held.has(id) ? candidate : new MediaNotFound(id);
    });
  }

  private async take(workspaceId: string, type: MessageType, source: MediaSourceDto): Promise<MessageMedia> {
    return toMessageMedia(await this.media.take(workspaceId, sourceOf(source), type));
  }
}

/** A stored file as messages show it. */
export function toMessageMedia({ id, mimetype, size, filename, sha256 }: Media): MessageMedia {
  return { mediaId: id, mimetype, size, filename, sha256, error: null };
}

/** Whether a file has to be stored for it. */
function bringsFile({ media }: SendMessageDto): boolean {
  return media !== undefined && media.mediaId === undefined;
}

/** Exactly the field of its type. */
function checkFields(wanted: SendMessageDto): void {
  const { type, media } = wanted;
  const needed: Field = isMediaType(type) ? 'media' : type;
  if (wanted[needed] === undefined)
    throw new ValidationFailed([{ path: needed, message: `must be there: the type is ${type}` }]);
  const errors: FieldError[] = fields
    .filter((field) => field !== needed && wanted[field] !== undefined)
    .map((field) => ({ path: field, message: hintOf(field, type) }));
  if (media?.caption !== undefined && !captioned.has(type))
    errors.push({ path: 'media.caption', message: `WhatsApp shows no text below ${type}` });
  if (wanted.mentions !== undefined && !mentioning.has(type))
    errors.push({ path: 'mentions', message: 'only a text or a caption can mention somebody' });
  if (errors.length > 0) throw new ContentMismatch(type, errors);
  if (media) checkSource(media);
}

function hintOf(field: Field, type: MessageType): string {
  if (field === 'text' && isMediaType(type)) return 'the text below media is media.caption';
  return `is of another type of message than ${type}`;
}

function checkSource({ url, data, mediaId, mimetype, filename }: MediaSourceDto): void {
  const given = [url, data, mediaId].filter((source) => source !== undefined);
  if (given.length !== 1)
    throw new ValidationFailed([
      { path: 'media', message: 'must have exactly one of url, data and mediaId' },
    ]);
  if (mediaId !== undefined && (mimetype !== undefined || filename !== undefined))
    throw new ValidationFailed([
      { path: 'media.mediaId', message: 'has its mimetype and filename already: leave them out' },
    ]);
}

function sourceOf({ url, data, mediaId, mimetype, filename }: MediaSourceDto): MediaSource {
  if (mediaId !== undefined) return { mediaId };
  return url !== undefined ? { url, mimetype, filename } : { data: data!, mimetype, filename };
}

async function toSendMessageDto(candidate: Record<string, unknown>): Promise<SendMessageDto> {
  const dto = plainToInstance(SendMessageDto, candidate);
  const errors = await validate(dto, { whitelist: true, forbidNonWhitelisted: true, stopAtFirstError: true });
  if (errors.length > 0) throw new ValidationFailed(errors.flatMap((error) => fieldErrors(error)));
  return dto;
}
