import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { maxLength } from 'class-validator';
import { DataSource } from 'typeorm';
import { AccountsService } from '../accounts/accounts.service.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { longestCaption } from './content.dto.js';
import type { Message } from './message.entity.js';
import type { MessageTarget } from '../whatsapp/message-target.js';
import { targetOf } from './message-rows.js';
import { MessageAlreadySending, MessagesService } from './messages.service.js';
import { IncomingMediaService } from './incoming-media.service.js';

/** What can be done to a message after it was sent; an empty emoji takes a reaction back. */
export type MessageAction =
  { kind: 'edit'; text: string } | { kind: 'revoke' } | { kind: 'react'; emoji: string };

/** What the API asks of the instance that drives the account; both are ours, so it is typed and not validated. */
export interface ActOnMessage {
  epoch: number;
  target: MessageTarget;
  action: MessageAction;
}

/** What the API asks of that instance for media that was not downloaded. */
export interface DownloadMedia {
  epoch: number;
  messageId: string;
}

export class MessageHasNoMedia extends Problem {
  constructor() {
    super(409, 'message.no_media', 'Only an incoming message with media has something to download.');
  }
}

export class MessageNotOutgoing extends Problem {
  constructor(what: string) {
    super(409, 'message.not_outgoing', `Only a message that this account sent can be ${what}.`);
  }
}

export class MessageNotSent extends Problem {
  constructor({ status }: Message) {
    super(
      409,
      'message.not_sent',
      `The message is ${status}: its recipient does not have it, so there is nothing to react to.`,
    );
  }
}

/** `message.cannot_edit`, `message.cannot_revoke`, `message.cannot_react` */
export class ActionNotAllowed extends Problem {
  constructor(kind: MessageAction['kind'], reason: string) {
    super(409, `message.cannot_${kind}`, reason);
  }
}

/** Longer than it takes until a download's turn has come, the download, and what is around it. */
const downloadTimeoutMs = 200_000;
/** The same of an action: until its turn has come 15 s, in the page 25 s. */
const actionTimeoutMs = 45_000;
/** What has a text that WhatsApp lets be edited. */
const editable = new Set(['text', 'image', 'video', 'document']);
const once = (what: string) => `can be ${what} once it is sent`;

/** Edits, revocations and reactions. Doing one twice is doing it once, so a caller who got no answer may simply ask again. */
@Injectable()
export class MessageActionsService {
  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly messages: MessagesService,
    private readonly accounts: AccountsService,
    private readonly incomingMedia: IncomingMediaService,
  ) {}

  /**
   * Changes the text of a message: in the ledger as long as it waits, at WhatsApp once it is sent.
   * @throws MessageNotFound, MessageNotOutgoing, ValidationFailed, MessageAlreadySending, ActionNotAllowed, AccountNotReady, SessionChanging,
   * InstanceUnreachable; InstanceAnswerLost when nobody can tell
   */
  async edit(workspaceId: string, id: string, text: string): Promise<Message> {
    const message = await this.messages.get(workspaceId, id);
    if (message.direction !== 'outgoing') throw new MessageNotOutgoing('edited');
    if (!editable.has(message.type) || (message.type !== 'text' && message.text === null))
      throw new ActionNotAllowed(
        'edit',
        `Only text and captions can be edited, and this message is ${message.type}${message.media ? ' without a caption' : ''}.`,
      );
    if (message.type !== 'text' && !maxLength(text, longestCaption))
      throw new ValidationFailed([
        { path: 'text', message: `must be at most ${longestCaption} characters: it is a caption` },
      ]);
    const stage = stageOf(message);
    if (stage === 'sending') throw new MessageAlreadySending(message, once('edited'));
    if (stage === 'over')
      throw new ActionNotAllowed('edit', `The message is ${message.status}: it will not be sent.`);
    if (message.revokedAt) throw new ActionNotAllowed('edit', 'The message has been revoked.');
    if (message.text === text) return message;
    if (stage === 'sent') await this.act(message, { kind: 'edit', text });
    else await this.editWaiting(message, text);
    return this.messages.get(workspaceId, id);
  }

  /**
   * Deletes a message for everyone; one that still waits is cancelled.
   * @throws as {@link edit}
   */
  async revoke(workspaceId: string, id: string): Promise<Message> {
    const message = await this.messages.get(workspaceId, id);
    if (message.direction !== 'outgoing') throw new MessageNotOutgoing('revoked');
    if (message.revokedAt || message.status === 'cancelled') return message;
    const stage = stageOf(message);
    if (stage === 'waiting') return this.messages.cancel(workspaceId, id);
    if (stage === 'sending') throw new MessageAlreadySending(message, once('revoked'));
    if (stage === 'over')
      throw new ActionNotAllowed(
        'revoke',
        `The message is ${message.status}: its recipient does not have it.`,
      );
    await this.act(message, { kind: 'revoke' });
    return this.messages.get(workspaceId, id);
  }

  /**
   * Reacts to a message, sent or received, in place of an earlier reaction of this account.
   * @param emoji an empty one takes the reaction back
   * @throws MessageNotSent, and as {@link edit}
   */
  async react(workspaceId: string, id: string, emoji: string): Promise<Message> {
    const message = await this.messages.get(workspaceId, id);
    const stage = stageOf(message);
    if (stage === 'sending') throw new MessageAlreadySending(message, once('reacted to'));
    if (stage === 'waiting' || stage === 'over') throw new MessageNotSent(message);
    if (message.revokedAt) throw new ActionNotAllowed('react', 'The message has been revoked.');
    await this.act(message, { kind: 'react', emoji });
    return this.messages.get(workspaceId, id);
  }

  /**
   * Downloads the media of an incoming message again, where that failed or it was deleted; one that is there stays.
   * @throws MessageNotFound, MessageHasNoMedia, AccountNotReady, SessionChanging, InstanceUnreachable, InstanceAnswerLost, and
   * what `MediaDownloader.download` throws
   */
  async downloadMedia(workspaceId: string, id: string): Promise<Message> {
    const message = await this.messages.get(workspaceId, id);
    if (message.direction !== 'incoming' || message.media === null) throw new MessageHasNoMedia();
    if (await this.incomingMedia.isThere(id)) return message;
    const ask: Omit<DownloadMedia, 'epoch'> = { messageId: id };
    await this.accounts.askSession(workspaceId, message.accountId, 'media', ask, downloadTimeoutMs);
    return this.messages.get(workspaceId, id);
  }

  private async editWaiting(message: Message, text: string): Promise<void> {
    const [, affected] = await this.database.query(
      `update messages set text = $2, edited_at = now()
       where id = $1 and stage in ('scheduled', 'queued') and attempts = 0`,
      [message.id, text],
    );
    if (affected > 0) return;
    const { workspaceId, id } = message;
    throw new MessageAlreadySending(await this.messages.get(workspaceId, id), once('edited'));
  }

  /** Lets the instance of the account do it, which writes what came of it. */
  private act(message: Message, action: MessageAction): Promise<void> {
    const ask: Omit<ActOnMessage, 'epoch'> = { target: targetOf(message), action };
    return this.accounts.askSession(message.workspaceId, message.accountId, 'actions', ask, actionTimeoutMs);
  }
}

/** How far a message is, for those who want to change it. Of an `unknown` one the page can tell. */
function stageOf({ status, attempts }: Message): 'waiting' | 'sending' | 'sent' | 'over' {
  if (status === 'sending') return 'sending';
  // One that is sent again because its outcome was unknown may have arrived.
  if (status === 'scheduled' || status === 'queued') return attempts === 0 ? 'waiting' : 'sending';
  return status === 'failed' || status === 'cancelled' || status === 'expired' ? 'over' : 'sent';
}
