import { Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn } from 'typeorm';

/** A machine that runs instances, named by its `SERVER_ID`. The view `backend_servers` shows it as the seeds do. */
@Entity('servers')
export class Server {
  @PrimaryColumn('text')
  id!: string;

  @Column('text')
  name!: string;

  /** Where `/health` answers for the whole machine; null: its instances are asked. */
  @Column('text', { nullable: true })
  url!: string | null;

  @Column('text')
  type!: string;

  @Column('text', { nullable: true })
  region!: string | null;

  @Column('text')
  environment!: string;

  @Column('text', { nullable: true })
  location!: string | null;

  @Column('text', { array: true })
  tags!: string[];

  /** How many accounts all of its instances together are to drive at most. */
  @Column('integer', { name: 'max_capacity' })
  maxCapacity!: number;

  /** Higher comes first. */
  @Column('integer')
  priority!: number;

  @Column('integer')
  weight!: number;

  /** Whether an operator wants accounts placed here. */
  @Column('boolean', { name: 'is_enabled' })
  isEnabled!: boolean;

  /** False when no instance of it lives, when a health check failed, or when an operator said so. */
  @Column('boolean', { name: 'is_healthy' })
  isHealthy!: boolean;

  /** Health checks that failed since the last that did not. */
  @Column('integer', { name: 'health_check_failures' })
  healthCheckFailures!: number;

  /** Of the last health check that was answered. */
  @Column('integer', { name: 'response_time_ms', nullable: true })
  responseTimeMs!: number | null;

  @Column('timestamptz', { name: 'last_health_check_at', nullable: true })
  lastHealthCheckAt!: Date | null;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @UpdateDateColumn({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}
