import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

/** The roles of keys. Each role may do everything that the roles after it may do. */
export const keyRoles = ['owner', 'sender', 'viewer'] as const;
export type KeyRole = (typeof keyRoles)[number];

/** A key of a workspace. Flotilla stores only its hash. The key itself is shown once, when it is created. */
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

  /** The first characters of the key, so that a person recognises it. */
  @Column('text')
  prefix!: string;

  @Column('bytea', { name: 'key_hash' })
  keyHash!: Buffer;

  @Column('timestamptz', { name: 'expires_at', nullable: true })
  expiresAt!: Date | null;

  /** Addresses or CIDR ranges that may use the key. Null means any address. */
  @Column('text', { name: 'allowed_ips', array: true, nullable: true })
  allowedIps!: string[] | null;

  @Column('timestamptz', { name: 'last_used_at', nullable: true })
  lastUsedAt!: Date | null;

  /** The id of the new key if this key was rotated. */
  @Column('uuid', { name: 'replaced_by', nullable: true })
  replacedBy!: string | null;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;
}
