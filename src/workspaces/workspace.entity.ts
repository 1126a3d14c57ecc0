import { Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn } from 'typeorm';

export const unknownPolicies = ['hold', 'resend'] as const;
export type UnknownPolicy = (typeof unknownPolicies)[number];

/** A tenant: everything else belongs to one. */
@Entity('workspaces')
export class Workspace {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('text')
  name!: string;

  /** What becomes of a message of unknown outcome: a person decides, or it is sent again under its one WhatsApp id. */
  @Column('text', { name: 'unknown_policy', default: 'hold' })
  unknownPolicy!: UnknownPolicy;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @UpdateDateColumn({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}
