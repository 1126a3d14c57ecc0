import { Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn } from 'typeorm';
import type { PacingDto } from './pacing.dto.js';

export const unknownPolicies = ['hold', 'resend'] as const;
export type UnknownPolicy = (typeof unknownPolicies)[number];

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

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @UpdateDateColumn({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}
