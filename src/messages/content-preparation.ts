import { Injectable } from '@nestjs/common';
import { validate } from 'class-validator';
import { isDeepStrictEqual } from 'node:util';
import type { EntityManager } from 'typeorm';
import { MediaNotFound, MediaService, type MediaSource, type TakenMedia } from '../media/media.service.js';
import { type Grant, MessageLimitReached } from '../workspaces/limits.service.js';
import type { Media } from '../media/media.entity.js';
import { type FieldError, Problem, ValidationFailed } from '../platform/errors/problem.js';
import { withoutTurn } from '../platform/http/fair-share.js';
import { parsePhoneNumber } from '../platform/http/phone-number.js';
import { fieldErrors, toDto } from '../platform/http/validation.js';
import { Turns } from '../platform/turns.js';
import { isMediaType, type MessageType } from './message-types.js';
import type { ContactDto, MediaSourceDto, MessageContact, MessageMedia } from './content.dto.js';
import type { MessageContent } from './message.entity.js';
import { SendMessageDto } from './messages.dto.js';
import { isPostPlace, parseDestination, parseRecipient } from './recipient.js';
import { fromVcard, toVcard } from './vcard.js';

/** The request has fields that do not belong to its type of message. */
export class ContentMismatch extends Problem {
  constructor(type: string, errors: FieldError[]) {
    super(
      422,
      'message.content_mismatch',
      `A message of type ${type} does not take ${errors.map(({ path }) => path).join(', ')}. Remove it, or change the type. The text below an image, a video or a document is media.caption.`,
      errors,
    );
  }
}

/** A story or a post in a channel cannot be this, or cannot have these fields. */
export class CannotPost extends Problem {
  constructor(isStory: boolean, errors: FieldError[]) {
    const what = isStory
      ? `A story is ${oneOf(storyTypes)}`
      : `A post in a channel is ${oneOf(channelTypes)}`;
    super(
      422,
      'message.cannot_post',
      `${what}, without replyTo and mentions. Change it, or send it to a person or a group.`,
      errors,
    );
  }
}

/** The time for the downloads of a batch is over before this message's download began. */
export class TooManyDownloads extends Problem {
  constructor() {
    super(
      422,
      'media.url_unavailable',
      `The downloads of this batch took longer than ${batchDownloadMs / 1000} s in total. Send the remaining messages again, or upload the files with POST /media first.`,
    );
  }
}

/** A prepared message of a batch, or its error. */
export type Prepared = { dto: SendMessageDto; content: PreparedContent } | Problem;

/** Runs before a file is stored, so that a refused message leaves no file behind. @throws Problem */
export type CheckBeforeFile = (workspaceId: string, wanted: SendMessageDto) => Promise<void>;

/** The content of a message, as its row stores it. */
export interface PreparedContent {
  text: string | null;
  media: MessageMedia | null;
  content: MessageContent | null;
}

const fields = ['text', 'media', 'location', 'contact', 'poll'] as const;
type Field = (typeof fields)[number];
/** The types with a caption. */
const typesWithCaption = new Set<MessageType>(['image', 'video', 'document']);
const typesToViewOnce = new Set<MessageType>(['image', 'video', 'voice']);
const typesWithMentions = new Set<MessageType>(['text', 'image', 'video', 'document']);

/** What WhatsApp takes as a story, and as a post in a channel. */
const storyTypes: readonly MessageType[] = ['text', 'image', 'video'];
const channelTypes: readonly MessageType[] = ['text', 'image', 'video', 'voice', 'sticker', 'poll'];

/** For how long the downloads of a batch may begin. */
const batchDownloadMs = 60_000;
/** How many messages of a batch are prepared at the same time. */
const batchConcurrency = 8;
/** The most errors that are listed for a message of a batch: the answer has a thousand such lists. */
const maxItemErrors = 5;

/** Turns the content of a request into the content that the ledger stores. */
@Injectable()
export class ContentPreparation {
  constructor(private readonly media: MediaService) {}

  /**
   * Stores the media of a request: within a bounded time, and outside of any transaction. If the request is refused for
   * another reason, no media is stored.
   * @throws ValidationFailed, ContentMismatch, and the errors of `checkBeforeFile` and `MediaService.take`
   */
  async prepare(
    workspaceId: string,
    wanted: SendMessageDto,
    checkBeforeFile: CheckBeforeFile,
  ): Promise<PreparedContent> {
    checkFields(wanted);
    checkPost(wanted);
    if (needsUpload(wanted)) await checkBeforeFile(workspaceId, wanted);
    const { type, text = null, media, location, contact, poll, mentions } = wanted;
    const { viewOnce = false, gif = false, linkPreview = true } = wanted;
    const content: MessageContent = {
      ...(location
        ? { location: { ...location, name: location.name ?? null, address: location.address ?? null } }
        : {}),
      ...(contact ? { contact: contact.map(toContact) } : {}),
      ...(poll ? { poll: { ...poll, options: poll.options.map((option) => option.trim()) } } : {}),
      ...(mentions?.length ? { mentions: mentions.map((person) => parseRecipient(person)!.address) } : {}),
      ...(viewOnce ? { viewOnce } : {}),
      ...(gif ? { gif } : {}),
      ...(linkPreview ? {} : { linkPreview }),
    };
    return {
      text: media?.caption ?? text,
      media: media ? await this.take(workspaceId, gif ? 'gif' : type, media) : null,
      content: Object.keys(content).length === 0 ? null : content,
    };
  }

  /**
   * Prepares the messages of a batch, several at a time. An invalid message becomes its error.
   * @param grant limits how many files are stored: at most one for each granted message
   */
  async prepareBatch(
    workspaceId: string,
    wanted: Record<string, unknown>[],
    grant: Grant,
    checkBeforeFile: CheckBeforeFile,
  ): Promise<Prepared[]> {
    const turns = new Turns(workspaceId);
    const valid: (SendMessageDto | Problem)[] = [];
    for (const candidate of wanted) {
      await turns.next();
      valid.push(await orProblem(toSendMessageDto(candidate)));
    }
    const deadline = Date.now() + batchDownloadMs;
    let files = 0;
    const prepare = async (dto: SendMessageDto): Promise<Prepared> => {
      if (needsUpload(dto) && (files += 1) > grant.count) throw new MessageLimitReached(grant.limit);
      if (dto.media?.url !== undefined && Date.now() > deadline) throw new TooManyDownloads();
      return { dto, content: await this.prepare(workspaceId, dto, checkBeforeFile) };
    };
    const prepared: Prepared[] = [];
    for (let start = 0; start < valid.length; start += batchConcurrency) {
      await turns.next();
      const chunk = valid.slice(start, start + batchConcurrency);
      const prepareChunk = () =>
        Promise.all(chunk.map(async (dto) => (dto instanceof Problem ? dto : orProblem(prepare(dto)))));
      // Downloads may take long.
      const downloads = chunk.some((dto) => !(dto instanceof Problem) && dto.media?.url !== undefined);
      prepared.push(...(await (downloads ? withoutTurn(prepareChunk) : prepareChunk())));
    }
    return prepared;
  }

  /** Protects the media of messages from deletion until the transaction ends. A message whose media is gone becomes its error. */
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

  private async take(
    workspaceId: string,
    type: MessageType | 'gif',
    source: MediaSourceDto,
  ): Promise<MessageMedia> {
    const stored = await this.media.take(workspaceId, sourceOf(source), type);
    checkStored(stored, source);
    return toMessageMedia(stored);
  }
}

/** A stored file, as a message shows it. */
export function toMessageMedia({
  id,
  mimetype,
  size,
  filename,
  sha256,
  convertedFrom = null,
}: Media & Partial<TakenMedia>): MessageMedia {
  const converted = convertedFrom === null ? null : { from: convertedFrom };
  return { mediaId: id, mimetype, size, filename, sha256, converted, error: null };
}

/** Whether Flotilla must store a file for the message. */
function needsUpload({ media }: SendMessageDto): boolean {
  return media !== undefined && media.mediaId === undefined;
}

/** Checks that the request has the field of its type, and no field of another type. @throws ValidationFailed, ContentMismatch */
function checkFields(wanted: SendMessageDto): void {
  const { type, media } = wanted;
  const needed: Field = isMediaType(type) ? 'media' : type;
  if (wanted[needed] === undefined)
    throw new ValidationFailed([{ path: needed, message: `is required for a message of type ${type}` }]);
  const errors: FieldError[] = fields
    .filter((field) => field !== needed && wanted[field] !== undefined)
    .map((field) => ({ path: field, message: hintOf(field, type) }));
  if (media?.caption !== undefined && !typesWithCaption.has(type))
    errors.push({
      path: 'media.caption',
      message: `is not for type ${type}: WhatsApp shows no text below it`,
    });
  if (wanted.mentions !== undefined && !typesWithMentions.has(type))
    errors.push({ path: 'mentions', message: 'are only for a text or a caption' });
  if (wanted.viewOnce && !typesToViewOnce.has(type))
    errors.push({ path: 'viewOnce', message: 'is only for an image, a video or a voice message' });
  if (wanted.viewOnce && wanted.gif)
    errors.push({
      path: 'gif',
      message: 'does not go together with viewOnce: WhatsApp plays a GIF again and again',
    });
  if (wanted.gif && type !== 'video')
    errors.push({ path: 'gif', message: 'is only for a video: use type video, also for the file of a GIF' });
  if (wanted.linkPreview !== undefined && type !== 'text')
    errors.push({ path: 'linkPreview', message: 'is only for a text: no other message has a preview' });
  if (errors.length > 0) throw new ContentMismatch(type, errors);
  if (media) checkSource(media);
}

/** @throws ValidationFailed, CannotPost */
function checkPost({ to, type, accountId, replyTo, mentions }: SendMessageDto): void {
  // Most recipients are numbers, which are parsed later.
  if (!/status|newsletter/i.test(to)) return;
  const { chatId } = parseDestination(to)!;
  if (!isPostPlace(chatId)) return;
  const isStory = !chatId.endsWith('@newsletter');
  const types = isStory ? storyTypes : channelTypes;
  const errors: FieldError[] = [];
  if (!types.includes(type)) errors.push({ path: 'type', message: `must be ${oneOf(types)}` });
  if (replyTo !== undefined) errors.push({ path: 'replyTo', message: 'is not for posts: leave it out' });
  if (mentions !== undefined) errors.push({ path: 'mentions', message: 'are not for posts: leave them out' });
  if (errors.length > 0) throw new CannotPost(isStory, errors);
  if (accountId === undefined)
    throw new ValidationFailed([
      {
        path: 'accountId',
        message: 'is required for a story and for a post in a channel: it says who posts',
      },
    ]);
}

function oneOf(types: readonly MessageType[]): string {
  return `${types.slice(0, -1).join(', ')} or ${types.at(-1)}`;
}

/** The contact that a request describes, with the card that is sent. @throws ValidationFailed if a field contradicts its card */
function toContact({ name = '', vcard, organization, ...wanted }: ContactDto, index: number): MessageContact {
  const phone = wanted.phone ? parsePhoneNumber(wanted.phone) : null;
  const phones = (wanted.phones ?? []).map(({ number, phone: digits, label }) => ({
    number,
    phone: parsePhoneNumber(digits ?? number),
    label: label ?? 'cell',
  }));
  if (vcard) {
    const contact = fromVcard(vcard);
    const given = {
      name: name || null,
      phone,
      organization,
      phones: wanted.phones?.map(({ number }) => number),
    };
    const onCard = { ...contact, phones: contact.phones.map(({ number }) => number) };
    for (const [field, value] of Object.entries(given))
      if (
        value !== undefined &&
        value !== null &&
        !isDeepStrictEqual(value, onCard[field as keyof typeof given])
      )
        throw new ValidationFailed([
          {
            path: `contact.${index}.${field}`,
            message: 'says something else than vcard: leave out one of the two',
          },
        ]);
    return contact;
  }
  if (phone !== null && !phones.some((other) => other.phone === phone))
    phones.unshift({ number: `+${phone}`, phone, label: 'cell' });
  const contact = {
    name,
    phone: phone ?? phones.find((other) => other.phone !== null)?.phone ?? null,
    phones,
    organization: organization ?? null,
  };
  return { ...contact, vcard: toVcard(contact) };
}

function hintOf(field: Field, type: MessageType): string {
  if (field === 'text' && isMediaType(type)) return 'is not for media: use media.caption';
  return `does not belong to a message of type ${type}`;
}

function checkSource({ url, data, mediaId }: MediaSourceDto): void {
  const given = [url, data, mediaId].filter((source) => source !== undefined);
  if (given.length !== 1)
    throw new ValidationFailed([
      { path: 'media', message: 'must have exactly one of url, data and mediaId' },
    ]);
}

/** The `media` of an answer may be sent again as it is. @throws ValidationFailed if the caller wants another name or type for a stored file */
function checkStored(stored: Media, { mediaId, ...wanted }: MediaSourceDto): void {
  if (mediaId === undefined) return;
  const changed = (['mimetype', 'filename'] as const).filter(
    (field) => wanted[field] !== undefined && wanted[field] !== stored[field],
  );
  if (changed.length > 0)
    throw new ValidationFailed(
      changed.map((field) => ({
        path: `media.${field}`,
        message: `is ${stored[field] ?? 'not set'} for this mediaId: leave it out`,
      })),
    );
}

function sourceOf({ url, data, mediaId, mimetype, filename }: MediaSourceDto): MediaSource {
  if (mediaId !== undefined) return { mediaId };
  return url !== undefined ? { url, mimetype, filename } : { data: data!, mimetype, filename };
}

async function toSendMessageDto(candidate: Record<string, unknown>): Promise<SendMessageDto> {
  const dto = toDto(SendMessageDto, candidate);
  const errors = await validate(dto, { whitelist: true, forbidNonWhitelisted: true, stopAtFirstError: true });
  if (errors.length > 0)
    throw new ValidationFailed(
      errors.flatMap((error) => fieldErrors(error)),
      maxItemErrors,
    );
  return dto;
}

/** The result of work, or the problem that it threw. */
async function orProblem<Result>(work: Promise<Result>): Promise<Result | Problem> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof Problem) return error;
    throw error;
  }
}
