import type { PlacementFilters } from '../instances/simple-load-balancer.js';
import type { PacingDto } from '../workspaces/pacing-settings.dto.js';
import { Column, CreateDateColumn, Entity, PrimaryColumn, UpdateDateColumn } from 'typeorm';

export const environments = ['live', 'sandbox'] as const;
export type Environment = (typeof environments)[number];

export const accountStatuses = [
  'created',
  'waiting',
  'starting',
  'qr',
  'pairing',
  'syncing',
  'ready',
  'reconnecting',
  'disconnected',
  'conflict',
  'logged_out',
  'failed',
] as const;
/** The observed state of an account. `desiredState` is what its owner wants. */
export type AccountStatus = (typeof accountStatuses)[number];

/** The statuses of an account whose browser runs or is starting. */
export const drivenStatuses: AccountStatus[] = ['starting', 'qr', 'pairing', 'syncing', 'ready'];

export type DesiredState = 'connected' | 'disconnected';
export type LinkMethod = 'qr' | 'code';
export const webContracts = ['ok', 'broken'] as const;
export type WebContract = (typeof webContracts)[number];

/** Which messages outside of chats an account stores. */
export interface Receive {
  stories: boolean;
  channels: boolean;
}

/** One WhatsApp number, linked as a companion device, and its assignment to an instance. */
@Entity('accounts')
export class Account {
  @PrimaryColumn('uuid')
  id!: string;

  @Column('uuid', { name: 'workspace_id' })
  workspaceId!: string;

  @Column('text')
  name!: string;

  @Column('text')
  environment!: Environment;

  /** Digits with country code, without a plus. */
  @Column('text', { name: 'phone_number', nullable: true })
  phoneNumber!: string | null;

  @Column('text', { nullable: true })
  lid!: string | null;

  @Column('text', { name: 'desired_state', default: 'disconnected' })
  desiredState!: DesiredState;

  @Column('text', { default: 'created' })
  status!: AccountStatus;

  @Column('text', { name: 'status_reason', nullable: true })
  statusReason!: string | null;

  /** The instance that owns the account. Only this instance may drive it, at this epoch. */
  @Column('text', { name: 'instance_id', nullable: true })
  instanceId!: string | null;

  @Column('integer', { default: 0 })
  epoch!: number;

  @Column('text', { name: 'pinned_instance_id', nullable: true })
  pinnedInstanceId!: string | null;

  /** The instance that may have a browser open for the account. It stays after the assignment has changed, until that browser is gone. */
  @Column('text', { name: 'held_by', nullable: true })
  heldBy!: string | null;

  /** The instance that a rebalancing chose for the account. Null once the move has begun. */
  @Column('text', { name: 'move_to', nullable: true })
  moveTo!: string | null;

  @Column('timestamptz', { name: 'moving_since', nullable: true })
  movingSince!: Date | null;

  /** The servers that the account may be placed on. */
  @Column('jsonb', { nullable: true })
  placement!: PlacementFilters | null;

  @Column('text', { name: 'link_method', default: 'qr' })
  linkMethod!: LinkMethod;

  @Column('text', { name: 'link_phone_number', nullable: true })
  linkPhoneNumber!: string | null;

  /** Whether the next phone that links the account may have another number. It ends when the account is ready. */
  @Column('boolean', { name: 'allow_number_change' })
  allowNumberChange!: boolean;

  /** The number of a phone that was refused since the last connect. Null if none was. */
  @Column('text', { name: 'refused_number', nullable: true })
  refusedNumber!: string | null;

  @Column('text', { nullable: true })
  qr!: string | null;

  @Column('timestamptz', { name: 'qr_expires_at', nullable: true })
  qrExpiresAt!: Date | null;

  @Column('text', { name: 'pairing_code', nullable: true })
  pairingCode!: string | null;

  @Column('timestamptz', { name: 'pairing_code_expires_at', nullable: true })
  pairingCodeExpiresAt!: Date | null;

  @Column('text', { array: true, default: '{}' })
  labels!: string[];

  /** The account's own pacing settings. They override those of its workspace. */
  @Column('jsonb', { nullable: true })
  pacing!: PacingDto | null;

  @Column('jsonb')
  receive!: Receive;

  /** Whether the writers of incoming messages see at once that they were read. */
  @Column('boolean', { name: 'auto_read' })
  autoRead!: boolean;

  @Column('boolean', { name: 'reject_calls' })
  rejectCalls!: boolean;

  /** What a person gets whose call was rejected. Null: nothing. */
  @Column('text', { name: 'call_answer', nullable: true })
  callAnswer!: string | null;

  /** Without user and password, except in a row that an older version of Flotilla wrote. */
  @Column('text', { name: 'proxy_url', nullable: true })
  proxyUrl!: string | null;

  /** The user and password of the proxy. Encrypted with APP_KEY; see AccountProxies. */
  @Column('bytea', { name: 'proxy_credentials', nullable: true })
  proxyCredentials!: Buffer | null;

  /** When the present session was linked. Null as long as a person must link the account. */
  @Column('timestamptz', { name: 'linked_at', nullable: true })
  linkedAt!: Date | null;

  @Column('timestamptz', { name: 'last_connected_at', nullable: true })
  lastConnectedAt!: Date | null;

  /** What `Debug.VERSION` of the account's page said when it was last checked. */
  @Column('text', { name: 'web_version', nullable: true })
  webVersion!: string | null;

  /** `broken`: the page lacks something that sending needs, so the lane holds. Null before the first check. */
  @Column('text', { name: 'web_contract', nullable: true })
  webContract!: WebContract | null;

  /** The names of what the page lacks. */
  @Column('jsonb', { name: 'web_missing', nullable: true })
  webMissing!: string[] | null;

  @Column('timestamptz', { name: 'web_checked_at', nullable: true })
  webCheckedAt!: Date | null;

  @CreateDateColumn({ name: 'created_at', type: 'timestamptz' })
  createdAt!: Date;

  @UpdateDateColumn({ name: 'updated_at', type: 'timestamptz' })
  updatedAt!: Date;
}
