import { Column, Entity, PrimaryColumn } from 'typeorm';

export type InstanceStatus = 'starting' | 'active' | 'draining' | 'down';

/** One whatsapp-web.js process on a server. It owns accounts while it renews its lease. */
@Entity('instances')
export class Instance {
  @PrimaryColumn('text')
  id!: string;

  @Column('text', { name: 'server_id' })
  serverId!: string;

  /** The address of its internal HTTP. */
  @Column('text')
  url!: string;

  @Column('integer', { nullable: true })
  pid!: number | null;

  @Column('text', { nullable: true })
  version!: string | null;

  /** The last status that the process wrote, or `down` after the scheduler gave it up. */
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

  /** Whether an operator wants its accounts on other instances. */
  @Column('boolean', { name: 'is_draining' })
  isDraining!: boolean;

  @Column('timestamptz', { name: 'started_at' })
  startedAt!: Date;

  /** When it shut down; null while it runs, and after a crash. */
  @Column('timestamptz', { name: 'stopped_at', nullable: true })
  stoppedAt!: Date | null;
}
