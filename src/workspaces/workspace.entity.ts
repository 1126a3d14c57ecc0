import {
  Column,
  CreateDateColumn,
  Entity,
  PrimaryColumn,
  UpdateDateColumn,
  type ValueTransformer,
} from 'typeorm';
import type { PacingDto } from './pacing-settings.dto.js';

export const unknownPolicies = ['hold', 'resend'] as const;
export type UnknownPolicy = (typeof unknownPolicies)[number];

/** PostgreSQL sends a bigint as text. These values are small enough for an exact number. */
const asNumber: ValueTransformer = {
  from: (stored: string | null) => (stored === null ? null : Number(stored)),
  to: (value: number | null) => value,
};

/** A tenant: everything else belongs to one. */
@Entity('workspaces')
export class Workspace {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  name!: string;

  /** The pacing settings for all accounts that do not have their own. */
  @Column('jsonb', { nullable: true })
  pacing!: PacingDto | null;

  /** `hold`: an unknown message waits for a person. `resend`: it is sent again under its WhatsApp id. */
  @Column('text', { name: 'unknown_policy', default: 'hold' })
  unknownPolicy!: UnknownPolicy;

  /** The ISO 3166 code of the country of its numbers without a country code. Null: such numbers are refused. */
  @Column('text', { name: 'default_country', nullable: true })
  defaultCountry!: string | null;

  /** Words that count as an opt-out beside the built-in ones. */
  @Column('text', { name: 'opt_out_words', array: true, nullable: true })
  optOutWords!: string[] | null;

  /** The maximum number of accounts. Null means no limit. */
  @Column('integer', { name: 'max_accounts', nullable: true })
  maxAccounts!: number | null;

  /** The maximum number of messages per minute of the clock. Null means no limit. */
  @Column('integer', { name: 'messages_per_minute', nullable: true })
  messagesPerMinute!: number | null;

  /** The maximum size of its stored media, in bytes. Null means no limit. */
  @Column('bigint', { name: 'max_storage_bytes', nullable: true, transformer: asNumber })
  maxStorageBytes!: number | null;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @UpdateDateColumn({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}
