import { Column, Entity, PrimaryColumn } from 'typeorm';

export type InstanceStatus = 'starting' | 'active' | 'draining' | 'down';

/** One whatsapp-web.js process on a server. It owns accounts for as long as it renews its lease. */
@Entity('instances')
export class Instance {
  @PrimaryColumn('text')
  id!: string;

  @Column('text', { name: 'server_id' })
  serverId!: string;

  /** Where its internal HTTP listens. */
  @Column('text')
  url!: string;

  @Column('integer', { nullable: true })
  pid!: number | null;

  @Column('text', { nullable: true })
  version!: string | null;

  /** What the process itself last said, or `down` when it was given up. */
  @Column('text')
  status!: InstanceStatus;

  @Column('timestamptz', { name: 'lease_expires_at' })
  leaseExpiresAt!: Date;

  @Column('integer', { name: 'max_accounts' })
  maxAccounts!: number;

  @Column('bigint', { name: 'memory_bytes' })
  memoryBytes!: string;

  /** Percent of its machine's processors. */
  @Column('double precision')
  cpu!: number;

  /** An operator wants its accounts elsewhere. */
  @Column('boolean', { name: 'is_draining' })
  isDraining!: boolean;

  @Column('timestamptz', { name: 'started_at' })
  startedAt!: Date;

  /** When it was stopped in good order; null while it runs, and when it died. */
  @Column('timestamptz', { name: 'stopped_at', nullable: true })
  stoppedAt!: Date | null;
}
