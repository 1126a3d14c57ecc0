import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

/** What a workspace's key may do; each role may do what the next one may. */
export const keyRoles = ['owner', 'sender', 'viewer'] as const;
export type KeyRole = (typeof keyRoles)[number];

/** A key of a workspace. Only its hash is kept: the key itself is shown once, when it is made. */
@Entity('api_keys')
export class ApiKey {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'workspace_id' })
  workspaceId!: string;

  @Column('text')
  name!: string;

  @Column('text')
  role!: KeyRole;

  /** The key's first characters, by which a person recognises it. */
  @Column('text')
  prefix!: string;

  @Column('bytea', { name: 'key_hash' })
  keyHash!: Buffer;

  @Column('timestamptz', { name: 'expires_at', nullable: true })
  expiresAt!: Date | null;

  /** Addresses or CIDR ranges that may use the key; null means any. */
  @Column('text', { name: 'allowed_ips', array: true, nullable: true })
  allowedIps!: string[] | null;

  @Column('timestamptz', { name: 'last_used_at', nullable: true })
  lastUsedAt!: Date | null;

  /** The key that took its place when it was rotated. */
  @Column('uuid', { name: 'replaced_by', nullable: true })
  replacedBy!: string | null;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}
