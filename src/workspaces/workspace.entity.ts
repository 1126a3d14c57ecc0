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

/** PostgreSQL hands a bigint over as text; these are far below where a number is exact no more. */
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

  /** How carefully its accounts send, where they do not say otherwise. */
  @Column('jsonb', { nullable: true })
  pacing!: PacingDto | null;

  /** What becomes of a message of unknown outcome: a person decides, or it is sent again under its one WhatsApp id. */
  @Column('text', { name: 'unknown_policy', default: 'hold' })
  unknownPolicy!: UnknownPolicy;

  /** How many accounts it may have; null: any number. */
  @Column('integer', { name: 'max_accounts', nullable: true })
  maxAccounts!: number | null;

  /** How many messages it may post in a minute of the clock; null: any number. */
  @Column('integer', { name: 'messages_per_minute', nullable: true })
  messagesPerMinute!: number | null;

  /** How many bytes of media it may keep; null: any number. */
  @Column('bigint', { name: 'max_storage_bytes', nullable: true, transformer: asNumber })
  maxStorageBytes!: number | null;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @UpdateDateColumn({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}
