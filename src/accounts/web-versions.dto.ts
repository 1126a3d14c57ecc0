import {
  ArrayMaxSize,
  ArrayUnique,
  IsArray,
  IsIn,
  IsInt,
  IsUUID,
  Matches,
  Max,
  Min,
  ValidateIf,
} from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import type { Environment, WebContract } from './account.entity.js';

export const webVersionModes = ['latest', 'pinned', 'canary'] as const;
export type WebVersionMode = (typeof webVersionModes)[number];

export const webVersionStatuses = ['new', 'good', 'refused'] as const;
export type WebVersionStatus = (typeof webVersionStatuses)[number];

export class WebVersionPolicyDto {
  /**
   * `latest`: accounts get the page that WhatsApp serves. `pinned`: all accounts get the page of `version`. `canary`: a new version
   * goes to some accounts first, and to all accounts once it has proven itself.
   */
  @IsIn(webVersionModes)
  mode!: WebVersionMode;

  /**
   * A version with a kept page. Required for `pinned`. For `canary`: the version that the other accounts get until a newer version
   * has proven itself; left out: the version that works for most accounts.
   * @example 2.3000.1047775310
   */
  @ValidateIf(({ mode, version }: WebVersionPolicyDto) => mode === 'pinned' || version !== undefined)
  @Matches(/^[\w.-]{1,100}$/, { message: 'must be a version such as 2.3000.1047775310' })
  version?: string;

  /** For `canary`: the ids of the accounts that get a new version first. Left out or empty: the oldest linked account. */
  @Optional()
  @IsArray()
  @ArrayMaxSize(100)
  @ArrayUnique()
  @IsUUID(undefined, { each: true })
  canaries?: string[];

  /** For `canary`: how many sends in a row must be acknowledged before a new version goes to all accounts. Default: 20. */
  @Optional()
  @IsInt()
  @Min(0)
  @Max(100_000)
  sends?: number;
}

/** The version that accounts get, unless they are canaries. Null: the page that WhatsApp serves. */
export class VersionForAll implements Record<Environment, string | null> {
  live!: string | null;
  sandbox!: string | null;
}

export class WebVersionPolicyResponse {
  mode!: WebVersionMode;
  /** Only for `pinned`. */
  version!: string | null;
  /** The marked canaries. */
  canaries!: string[];
  /** The canaries in force: in an environment without a marked account, its oldest linked account. */
  canariesNow!: string[];
  sends!: number;
  versionForAll!: VersionForAll;
  updatedAt!: string;
}

/** A version of WhatsApp Web that accounts have loaded. The live WhatsApp and the sandbox have versions of their own. */
export class WebVersionResponse {
  environment!: Environment;
  /** @example 2.3000.1047775310 */
  version!: string;
  /** `new`: nobody has decided. `good`: it passed its trial, or the operator chose it. `refused`: its page is broken. */
  status!: WebVersionStatus;
  /** Why it was refused. */
  reason!: string | null;
  /** What the last check of a page found. */
  contract!: WebContract | null;
  /** Whether its page is kept, so that accounts can get it. */
  isKept!: boolean;
  /** How many accounts have it now. */
  accounts!: number;
  /** How many of them find its page broken. */
  brokenAccounts!: number;
  /** Acknowledged messages. */
  sends!: number;
  /** Tries at which WhatsApp Web failed. */
  failures!: number;
  /** Acknowledged messages since the last failure. */
  sendsInARow!: number;
  /** Whether a canary has sent a message to itself with it. */
  isSelfTested!: boolean;
  firstSeenAt!: string;
  lastSeenAt!: string;
}

export class WebVersionsResponse {
  /** The newest first. */
  items!: WebVersionResponse[];
  /** Always null: the list is short. */
  nextCursor!: string | null;
}
