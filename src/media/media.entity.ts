import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

export const mediaSources = ['upload', 'url', 'data', 'incoming'] as const;
export type MediaOrigin = (typeof mediaSources)[number];

/** PostgreSQL's bigint comes as text; no file is longer than a number can say. */
const bytes = { from: Number, to: (value: number) => value };
const hex = {
  from: (value: Buffer) => value.toString('hex'),
  to: (value: string) => Buffer.from(value, 'hex'),
};

/** A file of a workspace: sent to it, downloaded for it, or received in a message. */
@Entity('media')
export class Media {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'workspace_id' })
  workspaceId!: string;

  /** Its bytes in the storage, which other media of the same content share. */
  @Column('uuid', { name: 'blob_id' })
  blobId!: string;

  /** Of its content, in hexadecimal. */
  @Column('bytea', { transformer: hex })
  sha256!: string;

  @Column('bigint', { transformer: bytes })
  size!: number;

  /** As its bytes say, not its sender. */
  @Column('text')
  mimetype!: string;

  @Column('text', { nullable: true })
  filename!: string | null;

  @Column('text')
  source!: MediaOrigin;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  /** When it was last taken for a message. */
  @Column('timestamptz', { name: 'last_used_at' })
  lastUsedAt!: Date;
}
