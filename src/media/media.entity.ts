import { Column, CreateDateColumn, Entity, PrimaryColumn } from 'typeorm';

export const mediaSources = ['upload', 'url', 'data', 'incoming'] as const;
export type MediaOrigin = (typeof mediaSources)[number];

/** The driver returns bigint as text. The length of every file fits in a number. */
const bytes = { from: Number, to: (value: number) => value };
const hex = {
  from: (value: Buffer) => value.toString('hex'),
  to: (value: string) => Buffer.from(value, 'hex'),
};

/** A file of a workspace: uploaded, downloaded from a URL, or received in a message. */
@Entity('media')
export class Media {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'workspace_id' })
  workspaceId!: string;

  /** The blob in the storage; media with the same content share it. */
  @Column('uuid', { name: 'blob_id' })
  blobId!: string;

  /** The SHA-256 of the content, in hexadecimal. */
  @Column('bytea', { transformer: hex })
  sha256!: string;

  @Column('bigint', { transformer: bytes })
  size!: number;

  /** By the bytes of the file, not by its sender. */
  @Column('text')
  mimetype!: string;

  @Column('text', { nullable: true })
  filename!: string | null;

  @Column('text')
  source!: MediaOrigin;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  /** When a message last used it. */
  @Column('timestamptz', { name: 'last_used_at' })
  lastUsedAt!: Date;
}
