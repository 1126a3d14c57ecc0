import { Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn } from 'typeorm';

/** A machine that runs instances, named by its `SERVER_ID`. The view `backend_servers` shows it in the form of the seeds. */
@Entity('servers')
export class Server {
  @PrimaryColumn('text')
  id!: string;

  @Column('text')
  name!: string;

  /** The URL whose `/health` answers for the whole machine. Null: a health check asks its instances. */
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

  /** How many accounts all instances of the server together may drive. */
  @Column('integer', { name: 'max_capacity' })
  maxCapacity!: number;

  /** A server with a higher priority comes first. */
  @Column('integer')
  priority!: number;

  @Column('integer')
  weight!: number;

  /** Whether an operator wants accounts placed here. */
  @Column('boolean', { name: 'is_enabled' })
  isEnabled!: boolean;

  /** False if no instance of the server is up, if a health check failed, or if an operator set it. */
  @Column('boolean', { name: 'is_healthy' })
  isHealthy!: boolean;

  /** How many health checks have failed since the last success. */
  @Column('integer', { name: 'health_check_failures' })
  healthCheckFailures!: number;

  /** The response time of the last health check that was answered. */
  @Column('integer', { name: 'response_time_ms', nullable: true })
  responseTimeMs!: number | null;

  @Column('timestamptz', { name: 'last_health_check_at', nullable: true })
  lastHealthCheckAt!: Date | null;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @UpdateDateColumn({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}
