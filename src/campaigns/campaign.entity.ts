import { Column, Entity, PrimaryColumn } from 'typeorm';
import type { MessageMedia } from '../messages/content.dto.js';
import type { MessageContent } from '../messages/message.entity.js';
import type { MessageType } from '../messages/message-types.js';
import type { CampaignPacingDto, CampaignSafetyDto, SendingTimesDto } from './campaign-pacing.dto.js';
import type { CampaignStatus } from './campaign-statuses.js';
import type { Variant } from './variants.js';

/** What each recipient gets: the content of a message whose texts are templates. */
export interface CampaignMessage {
  type: MessageType;
  /** Null for media, whose text is the caption. */
  text: string | null;
  media: (MessageMedia & { caption: string | null }) | null;
  content: MessageContent | null;
  metadata: Record<string, unknown>;
  /** Its texts have choices: `{Hello|Good day}`. */
  spin?: true;
}

/** One message to many recipients. */
@Entity('campaigns')
export class Campaign {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'workspace_id' })
  workspaceId!: string;

  @Column('text')
  name!: string;

  @Column('text', { default: 'draft' })
  status!: CampaignStatus;

  @Column('text', { name: 'pause_reason', nullable: true })
  pauseReason!: string | null;

  @Column('jsonb')
  message!: CampaignMessage;

  /** Null: all recipients get the message. */
  @Column('jsonb', { nullable: true })
  variants!: Variant[] | null;

  @Column('uuid', { name: 'template_id', nullable: true })
  templateId!: string | null;

  @Column('integer', { name: 'template_version', nullable: true })
  templateVersion!: number | null;

  @Column('jsonb', { nullable: true })
  pacing!: CampaignPacingDto | null;

  /** Null: any time. */
  @Column('jsonb', { nullable: true })
  times!: SendingTimesDto | null;

  @Column('jsonb', { nullable: true })
  safety!: CampaignSafetyDto | null;

  /** Who got a message of another campaign in so many days is left out. */
  @Column('integer', { name: 'not_within_days', nullable: true })
  notWithinDays!: number | null;

  /** An account has one recipient at a time, because the campaign has gaps. */
  @Column('boolean', { name: 'is_paced' })
  isPaced!: boolean;

  /** Failures from before do not pause it. */
  @Column('timestamptz', { name: 'watched_from', nullable: true })
  watchedFrom!: Date | null;

  /** The country (ISO 3166) of numbers without a country code. Null: such numbers are invalid. */
  @Column('text', { nullable: true })
  country!: string | null;

  @Column('timestamptz', { name: 'start_at', nullable: true })
  startAt!: Date | null;

  /** The headers of the list that was uploaded first. */
  @Column('jsonb')
  columns!: string[];

  @Column('bigint', { name: 'invalid_count' })
  invalidCount!: string;

  @Column('bigint', { name: 'duplicate_count' })
  duplicateCount!: string;

  @Column('timestamptz', { name: 'created_at' })
  createdAt!: Date;

  @Column('timestamptz', { name: 'started_at', nullable: true })
  startedAt!: Date | null;

  @Column('timestamptz', { name: 'finished_at', nullable: true })
  finishedAt!: Date | null;
}

/** A campaign with what other tables say about it. */
export interface CampaignDetails extends Campaign {
  accountIds: string[];
  /** How many recipients have each status. `waiting`: no account has them yet. */
  counts: Partial<Record<string, number>>;
}
