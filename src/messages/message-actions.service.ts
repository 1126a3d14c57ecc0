import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { maxLength } from 'class-validator';
import { DataSource } from 'typeorm';
import { AccountsService } from '../accounts/accounts.service.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { maxCaptionLength } from './content.dto.js';
import type { Message } from './message.entity.js';
import type { MessageTarget } from '../whatsapp/message-target.js';
import { targetOf } from './message-rows.js';
import { isPostPlace } from './recipient.js';
import { MessageAlreadySending, MessagesService } from './messages.service.js';
import { IncomingMediaService } from './incoming-media.service.js';

/** An action on a message. An empty emoji removes the reaction. */
export type MessageAction =
  | { kind: 'edit'; text: string; linkPreview?: boolean }
  | { kind: 'revoke' }
  | { kind: 'react'; emoji: string }
  | { kind: 'read' };

/** A request of the API to the instance that drives the account. Both programs are Flotilla's: it is typed and not validated. */
export interface ActOnMessage {
  epoch: number;
  target: MessageTarget;
  action: MessageAction;
}

/** A request of the API to the same instance to download media. */
export interface DownloadMedia {
  epoch: number;
  messageId: string;
}

export class MessageHasNoMedia extends Problem {
  constructor() {
    super(
      409,
      'message.no_media',
      'The message has nothing to download. Only a message with media that came in, or was written on the phone, does.',
    );
  }
}

export class MessageNotOutgoing extends Problem {
  constructor(what: string) {
    super(409, 'message.not_outgoing', `Only a message that this account sent can be ${what}.`);
  }
}

export class MessageNotIncoming extends Problem {
  constructor() {
    super(
      409,
      'message.not_incoming',
      'Only a message that somebody has written to this account can be marked as read.',
    );
  }
}

export class MessageNotSent extends Problem {
  constructor(message: Message) {
    const cure =
      stageOf(message) === 'ended'
        ? 'It will not be sent, so nobody can react to it.'
        : 'React to it after it is sent.';
    super(
      409,
      'message.not_sent',
      `The message is ${message.status}: its recipient does not have it. ${cure}`,
    );
  }
}

export class NotInGroup extends Problem {
  constructor(groupId: string) {
    super(
      409,
      'group.not_member',
      `The account is no longer in the group ${groupId}. Let an admin of the group add the account again.`,
    );
  }
}

/** `message.cannot_edit`, `message.cannot_revoke`, `message.cannot_react`, `message.cannot_read` */
export class ActionNotAllowed extends Problem {
  constructor(kind: MessageAction['kind'], reason: string) {
    super(409, `message.cannot_${kind}`, reason);
  }
}

/** Longer than a download takes, with the wait for its turn and the overhead. */
const downloadTimeoutMs = 200_000;
/** Longer than an action takes: up to 15 s of waiting for its turn and 25 s in the page. */
const actionTimeoutMs = 45_000;
/** The types with a text that WhatsApp allows to edit. */
const editableTypes = new Set(['text', 'image', 'video', 'document']);
const afterSend = (what: string) => `Wait until it is sent: then it can be ${what}.`;

/** Edits, revocations, reactions and marks that a message was read. They are idempotent: a caller without an answer may repeat the request. */
@Injectable()
export class MessageActionsService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly messages: MessagesService,
    private readonly accounts: AccountsService,
    private readonly incomingMedia: IncomingMediaService,
  ) {}

  /**
   * Changes the text of a message: in the ledger while it waits, at WhatsApp after it is sent.
   * @throws MessageNotFound, MessageNotOutgoing, ValidationFailed, MessageAlreadySending, ActionNotAllowed, AccountNotReady,
   * SessionChanging, InstanceUnreachable; InstanceAnswerLost if the result is unknown
   */
  async edit(workspaceId: string, id: string, text: string): Promise<Message> {
    const message = await this.messages.get(workspaceId, id);
    if (message.direction !== 'outgoing') throw new MessageNotOutgoing('edited');
    if (!editableTypes.has(message.type) || (message.type !== 'text' && message.text === null))
      throw new ActionNotAllowed(
        'edit',
        `Only a text or a caption can be edited, and this message is of type ${message.type}${message.media ? ' without a caption' : ''}.`,
      );
    if (message.type !== 'text' && !maxLength(text, maxCaptionLength))
      throw new ValidationFailed([
        { path: 'text', message: `is a caption and must be at most ${maxCaptionLength} characters` },
      ]);
    const stage = stageOf(message);
    if (stage !== 'waiting' && message.chatId === 'status@broadcast')
      throw new ActionNotAllowed('edit', 'A story cannot be edited. Revoke it, and post another one.');
    const linkPreview = message.content?.linkPreview !== false;
    if (stage === 'sending') throw new MessageAlreadySending(message, afterSend('edited'));
    if (stage === 'ended')
      throw new ActionNotAllowed('edit', `The message is ${message.status}: it will not be sent.`);
    if (message.revokedAt) throw new ActionNotAllowed('edit', 'The message has been revoked.');
    if (message.text === text) return message;
    if (stage === 'sent') await this.act(message, { kind: 'edit', text, linkPreview });
    else await this.editWaiting(message, text);
    return this.messages.get(workspaceId, id);
  }

  /**
   * Deletes a message for everyone. A waiting message is cancelled.
   * @throws as {@link edit}
   */
  async revoke(workspaceId: string, id: string): Promise<Message> {
    const message = await this.messages.get(workspaceId, id);
    if (message.direction !== 'outgoing') throw new MessageNotOutgoing('revoked');
    if (message.revokedAt || message.status === 'cancelled') return message;
    const stage = stageOf(message);
    if (stage === 'waiting') return this.messages.cancel(workspaceId, id);
    if (stage === 'sending') throw new MessageAlreadySending(message, afterSend('revoked'));
    if (stage === 'ended')
      throw new ActionNotAllowed(
        'revoke',
        `The message is ${message.status}: its recipient does not have it.`,
      );
    await this.act(message, { kind: 'revoke' });
    return this.messages.get(workspaceId, id);
  }

  /**
   * Reacts to a sent or received message. The reaction replaces an earlier reaction of this account.
   * @param emoji empty to remove the reaction
   * @throws MessageNotSent, and as {@link edit}
   */
  async react(workspaceId: string, id: string, emoji: string): Promise<Message> {
    const message = await this.messages.get(workspaceId, id);
    if (isPostPlace(message.chatId))
      throw new ActionNotAllowed(
        'react',
        'Flotilla does not react to stories and posts of channels. React on the phone.',
      );
    const stage = stageOf(message);
    if (stage === 'sending') throw new MessageAlreadySending(message, afterSend('reacted to'));
    if (stage === 'waiting' || stage === 'ended') throw new MessageNotSent(message);
    if (message.revokedAt) throw new ActionNotAllowed('react', 'The message has been revoked.');
    await this.act(message, { kind: 'react', emoji });
    return this.messages.get(workspaceId, id);
  }

  /**
   * Marks an incoming message as read, and with it all messages of its chat, because WhatsApp Web reads whole chats.
   * @throws MessageNotFound, MessageNotIncoming, ActionNotAllowed, and as {@link edit}
   */
  async read(workspaceId: string, id: string): Promise<Message> {
    const message = await this.messages.get(workspaceId, id);
    if (message.direction !== 'incoming') throw new MessageNotIncoming();
    if (isPostPlace(message.chatId))
      throw new ActionNotAllowed(
        'read',
        'Flotilla does not mark stories and posts of channels as read. Open them on the phone.',
      );
    if (message.readAt === null) await this.act(message, { kind: 'read' });
    return this.messages.get(workspaceId, id);
  }

  /**
   * Downloads the media of an incoming message, or of one from the phone, again, if the download failed or the file was deleted. Stored media stays.
   * @throws MessageNotFound, MessageHasNoMedia, AccountNotReady, SessionChanging, InstanceUnreachable, InstanceAnswerLost, and
   * the errors of `MediaDownloader.download`
   */
  async downloadMedia(workspaceId: string, id: string): Promise<Message> {
    const message = await this.messages.get(workspaceId, id);
    const isOurs = message.direction === 'outgoing' && !message.isFromDevice;
    if (isOurs || message.media === null) throw new MessageHasNoMedia();
    if (await this.incomingMedia.isStored(id)) return message;
    const request: Omit<DownloadMedia, 'epoch'> = { messageId: id };
    await this.accounts.askSession(workspaceId, message.accountId, 'media', request, downloadTimeoutMs);
    return this.messages.get(workspaceId, id);
  }

  private async editWaiting(message: Message, text: string): Promise<void> {
    const [, affected] = await this.database.query<[unknown[], number]>(
      `update messages set text = $2, edited_at = now()
       where id = $1 and stage in ('scheduled', 'queued') and attempts = 0`,
      [message.id, text],
    );
    if (affected > 0) return;
    const { workspaceId, id } = message;
    throw new MessageAlreadySending(await this.messages.get(workspaceId, id), afterSend('edited'));
  }

  /** Sends the action to the account's instance, which does it and writes the result. */
  private act(message: Message, action: MessageAction): Promise<void> {
    const request: Omit<ActOnMessage, 'epoch'> = { target: targetOf(message), action };
    return this.accounts.askSession(
      message.workspaceId,
      message.accountId,
      'actions',
      request,
      actionTimeoutMs,
    );
  }
}

/** What an action depends on. An `unknown` message counts as sent: the page knows whether it was. */
function stageOf({ status, attempts }: Message): 'waiting' | 'sending' | 'sent' | 'ended' {
  if (status === 'sending') return 'sending';
  // With attempts, the message may have arrived: an uncertain message is queued or scheduled again.
  if (status === 'scheduled' || status === 'queued') return attempts === 0 ? 'waiting' : 'sending';
  return status === 'failed' || status === 'cancelled' || status === 'expired' ? 'ended' : 'sent';
}
