import { Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn } from 'typeorm';

/** Why an endpoint is disabled: its owner did it, it answered 410, or nothing has arrived there for days. */
export type DisabledReason = 'owner' | 'gone' | 'failing';

/** An endpoint of a workspace, which gets events. */
@Entity('webhooks')
export class Webhook {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'workspace_id' })
  workspaceId!: string;

  @Column('text')
  url!: string;

  /** Event types, or beginnings of event types followed by `*`. */
  @Column('text', { array: true })
  events!: string[];

  /** Only events of these accounts. Null: events of every account, and events without an account. */
  @Column('uuid', { name: 'account_ids', array: true, nullable: true })
  accountIds!: string[] | null;

  /** Only events of accounts with one of these labels. Null: of all. */
  @Column('text', { array: true, nullable: true })
  labels!: string[] | null;

  /** Headers of every delivery, encrypted: a JSON object of names and values. */
  @Column('bytea', { nullable: true })
  headers!: Buffer | null;

  @Column('text', { name: 'header_names', array: true, default: '{}' })
  headerNames!: string[];

  /** The user and the password that the URL had, encrypted: a JSON object. */
  @Column('bytea', { nullable: true })
  login!: Buffer | null;

  /** PEM. If it is there, no other authority counts. */
  @Column('text', { name: 'ca_certificate', nullable: true })
  caCertificate!: string | null;

  @Column('text', { nullable: true })
  description!: string | null;

  /** Encrypted, like the previous secret: see webhook-secrets.ts. */
  @Column('bytea')
  secret!: Buffer;

  /** Also signs until it expires. */
  @Column('bytea', { name: 'previous_secret', nullable: true })
  previousSecret!: Buffer | null;

  @Column('timestamptz', { name: 'previous_secret_expires_at', nullable: true })
  previousSecretExpiresAt!: Date | null;

  @Column('boolean', { name: 'is_enabled', default: true })
  isEnabled!: boolean;

  @Column('text', { name: 'disabled_reason', nullable: true })
  disabledReason!: DisabledReason | null;

  @Column('timestamptz', { name: 'disabled_at', nullable: true })
  disabledAt!: Date | null;

  /** Since when every attempt has failed; null after a success. */
  @Column('timestamptz', { name: 'failing_since', nullable: true })
  failingSince!: Date | null;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @UpdateDateColumn({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}
