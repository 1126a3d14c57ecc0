import { createHash } from 'node:crypto';
import { Column, Entity, PrimaryColumn } from 'typeorm';
import { priorities } from '../queues/priorities.js';
import type {
  MessageContact,
  MessageGroup,
  MessageLocation,
  MessageMedia,
  Participant,
  Person,
  MessagePoll,
  MessageVote,
} from './content.dto.js';
import type { QueueName } from '../queues/queue-policies.js';
import type { JobHint } from '../queues/queues.service.js';

export { priorities, type Priority } from '../queues/priorities.js';

/** The queue for the lane heads of a priority. */
export function queueOf(priority: number): QueueName {
  return `whatsapp-${priorities[priority]!}`;
}

/** The job for a lane head: this message is the first of its account's lane. */
export function headJob(messageId: string, priority: number): JobHint {
  return { queue: queueOf(priority), id: `message-${messageId}`, data: { id: messageId } };
}

export const messageStatuses = [
  'scheduled',
  'queued',
  'sending',
  'sent',
  'delivered',
  'read',
  'played',
  'failed',
  'unknown',
  'cancelled',
  'expired',
  'received',
] as const;
export type MessageStatus = (typeof messageStatuses)[number];

/**
 * The WhatsApp id of an outgoing message. It is derived from the message's own id before the first attempt, so that every
 * attempt uses the same WhatsApp id: `3EB0`, the prefix of WhatsApp Web's own ids, and 72 bits of a hash.
 */
export function whatsappIdOf(messageId: string): string {
  return `3EB0${createHash('sha256').update(messageId).digest('hex').slice(0, 18).toUpperCase()}`;
}

/**
 * The 32 bytes from which the keys of a poll's votes are derived. They stay secret because WhatsApp does not learn the
 * message's own id, which has 74 random bits.
 */
export function pollSecretOf(messageId: string): number[] {
  return [...createHash('sha256').update(`poll ${messageId}`).digest()];
}

/** The content of a message besides its text and media. */
export interface MessageContent {
  location?: MessageLocation;
  contact?: MessageContact[];
  poll?: MessagePoll;
  mentions?: string[];
  viewOnce?: true;
  gif?: true;
  /** WhatsApp shows no preview of the link in the text. */
  linkPreview?: false;
  participant?: Person & Partial<Participant>;
  group?: MessageGroup;
  /** The person to whom a message from the phone went. */
  recipient?: Person;
  /** In a group: the chat id of the author. */
  author?: string;
  quotedWhatsappId?: string;
  whatsappType?: string;
}

/** A person's reaction to a message. A removed reaction stays with an empty emoji, because an older reaction may arrive late. */
export interface Reaction extends Person {
  from: string;
  emoji: string;
  at: string;
}

/** A row of the ledger: an incoming or outgoing message. */
@Entity('messages')
export class Message {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'workspace_id' })
  workspaceId!: string;

  @Column('uuid', { name: 'account_id' })
  accountId!: string;

  @Column('text')
  direction!: 'outgoing' | 'incoming';

  /** An index into {@link priorities}. */
  @Column('smallint')
  priority!: number;

  @Column('text')
  type!: string;

  /** The WhatsApp chat that the message belongs to. */
  @Column('text', { name: 'chat_id' })
  chatId!: string;

  @Column('text')
  recipient!: string;

  /** Of an outgoing message: the number of the account when the message was accepted, then when it was last claimed. */
  @Column('text', { nullable: true })
  sender!: string | null;

  @Column('text', { nullable: true })
  text!: string | null;

  @Column('jsonb', { nullable: true })
  media!: MessageMedia | null;

  @Column('jsonb', { nullable: true })
  content!: MessageContent | null;

  @Column('text')
  status!: MessageStatus;

  @Column('text', { name: 'error_code', nullable: true })
  errorCode!: string | null;

  @Column('text', { name: 'error_message', nullable: true })
  errorMessage!: string | null;

  @Column('integer')
  attempts!: number;

  /** For a message of a paced account: its recipient has never written to that account. Null if it is not known or not needed. */
  @Column('boolean', { name: 'is_cold', nullable: true })
  isCold!: boolean | null;

  /** The account's owner wrote it on the phone or another linked device. */
  @Column('boolean', { name: 'is_from_device' })
  isFromDevice!: boolean;

  /** A queued message is not tried before this time. A message that is being sent may be claimed again after it. */
  @Column('timestamptz', { name: 'next_attempt_at' })
  nextAttemptAt!: Date;

  /** How often the message was sent again after it was `failed` or its outcome was unknown. */
  @Column('integer')
  resends!: number;

  @Column('text', { name: 'whatsapp_id' })
  whatsappId!: string;

  @Column('uuid', { name: 'campaign_id', nullable: true })
  campaignId!: string | null;

  @Column('text', { name: 'reply_to', nullable: true })
  replyTo!: string | null;

  @Column('jsonb')
  metadata!: Record<string, unknown>;

  @Column('timestamptz', { name: 'created_at' })
  createdAt!: Date;

  @Column('timestamptz', { name: 'scheduled_for', nullable: true })
  scheduledFor!: Date | null;

  @Column('timestamptz', { name: 'expires_at', nullable: true })
  expiresAt!: Date | null;

  /** Of an incoming message and of one from the phone: WhatsApp's own time. */
  @Column('timestamptz', { name: 'sent_at', nullable: true })
  sentAt!: Date | null;

  @Column('timestamptz', { name: 'delivered_at', nullable: true })
  deliveredAt!: Date | null;

  @Column('timestamptz', { name: 'read_at', nullable: true })
  readAt!: Date | null;

  @Column('timestamptz', { name: 'failed_at', nullable: true })
  failedAt!: Date | null;

  @Column('timestamptz', { name: 'edited_at', nullable: true })
  editedAt!: Date | null;

  @Column('timestamptz', { name: 'revoked_at', nullable: true })
  revokedAt!: Date | null;

  /** When the session was restored that does not know this sent message. Null if it is delivered, or was never in question. */
  @Column('timestamptz', { name: 'in_question_since', nullable: true })
  inQuestionSince!: Date | null;

  @Column('jsonb')
  reactions!: Reaction[];

  /** The votes in a poll. A removed vote stays, with no options. */
  @Column('jsonb')
  votes!: MessageVote[];

  /** When to download the media of an incoming message next. Null if it is stored, or has failed for good. */
  @Column('timestamptz', { name: 'media_due_at', nullable: true })
  mediaDueAt!: Date | null;
}
