import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { createHash, randomBytes } from 'node:crypto';
import { type EntityManager, LessThan, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import type { PageQuery } from '../platform/http/pagination.js';
import { isWithin } from '../platform/http/public-address.js';
import { ApiKey, keyRoles } from './api-key.entity.js';
import type { CreateApiKeyDto, RotateApiKeyDto } from './api-keys.dto.js';
import { WorkspacesService } from './workspaces.service.js';

export class ApiKeyNotFound extends Problem {
  constructor(id: string) {
    super(404, 'api_key.not_found', `This workspace has no API key ${id}.`);
  }
}

export class ApiKeyExpired extends Problem {
  constructor({ prefix }: ApiKey) {
    super(409, 'api_key.expired', `The key ${prefix}… has expired. Create a new key instead.`);
  }
}

export class ApiKeyRotated extends Problem {
  constructor({ prefix, replacedBy }: ApiKey) {
    super(
      409,
      'api_key.rotated',
      `The key ${prefix}… has already been rotated. If you lost the new key, rotate the new key: ${replacedBy}.`,
    );
  }
}

export class ApiKeyInUse extends Problem {
  constructor() {
    super(
      409,
      'api_key.in_use',
      'A key cannot delete itself, because you could lose your last key. Rotate it, or delete it with another owner key.',
    );
  }
}

export class ApiKeyLimitReached extends Problem {
  constructor(limit: number) {
    super(
      409,
      'api_key.limit_reached',
      `The workspace has reached its limit of ${limit} API keys. Delete keys that you do not use, rotate with graceSeconds 0, or let the operator raise API_KEYS_PER_WORKSPACE.`,
    );
  }
}

/** A key would make a key that may do more than itself. */
export class ApiKeyTooWide extends Problem {
  constructor(why: string) {
    super(
      403,
      'api_key.too_wide',
      `A key cannot make a key that may do more than itself: ${why}. Narrow the new key, or ask the admin to make it.`,
    );
  }
}

/** What a key may do. A key that it makes may do the same at most. */
export type KeyBounds = Pick<ApiKey, 'role' | 'expiresAt' | 'allowedIps'>;

/** A new key. `key` cannot be read again. */
export interface NewApiKey {
  row: ApiKey;
  key: string;
}

/** Keys have 256 random bits, so one SHA-256 protects them as well as a slow hash would. */
export function hashKey(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** The API keys of workspaces. Every API process hears of a new, deleted, rotated or changed key at once. */
@Injectable()
export class ApiKeysService {
  private readonly limit: number;
  private readonly listeners: ((key: ApiKey) => void)[] = [];

  constructor(
    @InjectRepository(ApiKey) private readonly keys: Repository<ApiKey>,
    private readonly workspaces: WorkspacesService,
    @Inject(CONFIG) config: Config,
  ) {
    this.limit = config.workspaces.maxApiKeys;
  }

  /** Calls the listener with each key that this process has made, before the caller gets it. */
  onMade(listener: (key: ApiKey) => void): void {
    this.listeners.push(listener);
  }

  /**
   * Creates a key for a workspace. Without its own expiry time and addresses it has those of the key that makes it.
   * @param makerId the id of the key that makes it; undefined for the admin
   * @throws WorkspaceNotFound, ApiKeyNotFound, ApiKeyLimitReached, ApiKeyTooWide
   */
  async create(workspaceId: string, wanted: CreateApiKeyDto, makerId?: string): Promise<NewApiKey> {
    await this.workspaces.get(workspaceId);
    return this.making(async (manager) => {
      await this.lock(manager, workspaceId);
      const maker = await findMaker(manager, workspaceId, makerId);
      const bounds = {
        role: wanted.role,
        expiresAt: wanted.expiresAt ? new Date(wanted.expiresAt) : (maker?.expiresAt ?? null),
        allowedIps: wanted.allowedIps ?? maker?.allowedIps ?? null,
      };
      if (maker) assertWithin(bounds, maker);
      await this.assertRoom(manager, workspaceId);
      const made = this.make({ workspaceId, name: wanted.name, ...bounds });
      await manager.save(made.row);
      return made;
    });
  }

  /** Up to `limit + 1` keys of a workspace, newest first, with the expired keys. @throws WorkspaceNotFound */
  async list(workspaceId: string, { limit, cursor }: PageQuery): Promise<ApiKey[]> {
    await this.workspaces.get(workspaceId);
    return this.keys.find({
      where: { workspaceId, ...(cursor ? { id: LessThan(cursor) } : {}) },
      order: { id: 'DESC' },
      take: limit + 1,
    });
  }

  /**
   * Creates the replacement of a key, with the same name, role and addresses. It expires at `expiresAt`, or by default when the
   * old key would have expired. The old key works for another `graceSeconds`.
   * @param makerId the id of the key that asks for it; undefined for the admin
   * @throws ApiKeyNotFound, ApiKeyExpired, ApiKeyRotated, ApiKeyLimitReached, ApiKeyTooWide
   */
  async rotate(
    workspaceId: string,
    keyId: string,
    wanted: RotateApiKeyDto,
    makerId?: string,
  ): Promise<NewApiKey> {
    return this.making(async (manager) => {
      await this.lock(manager, workspaceId);
      const old = await manager.findOne(ApiKey, {
        where: { id: keyId, workspaceId },
        lock: { mode: 'pessimistic_write' },
      });
      if (!old) throw new ApiKeyNotFound(keyId);
      if (old.replacedBy) throw new ApiKeyRotated(old);
      const now = Date.now();
      if (old.expiresAt && old.expiresAt.getTime() <= now) throw new ApiKeyExpired(old);
      const { name, role, allowedIps } = old;
      const expiresAt = wanted.expiresAt === undefined ? old.expiresAt : toDate(wanted.expiresAt);
      const maker = await findMaker(manager, workspaceId, makerId);
      if (maker) assertWithin({ role, expiresAt, allowedIps }, maker);
      // Without a grace the new key takes the place of the old one.
      if (wanted.graceSeconds > 0) await this.assertRoom(manager, workspaceId);
      const made = this.make({ workspaceId, name, role, allowedIps, expiresAt });
      await manager.save(made.row);
      const graceUntil = now + wanted.graceSeconds * 1_000;
      await manager.update(
        ApiKey,
        { id: keyId },
        {
          replacedBy: made.row.id,
          expiresAt: new Date(Math.min(graceUntil, old.expiresAt?.getTime() ?? graceUntil)),
        },
      );
      await this.forgetExpired(manager, workspaceId);
      return made;
    });
  }

  /**
   * @param callerKeyId the id of the caller's key; undefined for the admin
   * @throws ApiKeyNotFound, ApiKeyInUse
   */
  async delete(workspaceId: string, keyId: string, callerKeyId?: string): Promise<void> {
    if (keyId === callerKeyId) throw new ApiKeyInUse();
    const { affected } = await this.keys.delete({ id: keyId, workspaceId });
    if (!affected) throw new ApiKeyNotFound(keyId);
  }

  /** Two calls at the same time could exceed the limit. (A tenant's role may not lock the row of the workspace.) */
  private async lock(manager: EntityManager, workspaceId: string): Promise<void> {
    await manager.query(`select pg_advisory_xact_lock(hashtextextended('API keys of ' || $1, 0))`, [
      workspaceId,
    ]);
  }

  /** @throws ApiKeyLimitReached */
  private async assertRoom(manager: EntityManager, workspaceId: string): Promise<void> {
    await this.forgetExpired(manager, workspaceId);
    const live = await manager
      .createQueryBuilder(ApiKey, 'key')
      .where('key.workspaceId = :workspaceId and (key.expiresAt is null or key.expiresAt > now())', {
        workspaceId,
      })
      .getCount();
    if (live >= this.limit) throw new ApiKeyLimitReached(this.limit);
  }

  /** Expired keys do not count, so only the newest of them are kept: as many as there may be keys. */
  private async forgetExpired(manager: EntityManager, workspaceId: string): Promise<void> {
    await manager.query(
      `delete from api_keys where id in (select id from api_keys where workspace_id = $1 and expires_at <= now()
         order by id desc offset $2)`,
      [workspaceId, this.limit],
    );
  }

  /** Makes a key in a transaction. */
  private async making(make: (manager: EntityManager) => Promise<NewApiKey>): Promise<NewApiKey> {
    const made = await this.keys.manager.transaction(make);
    for (const listener of this.listeners) listener(made.row);
    return made;
  }

  private make(
    wanted: Pick<ApiKey, 'workspaceId' | 'name' | 'role' | 'expiresAt' | 'allowedIps'>,
  ): NewApiKey {
    const key = `flk_${randomBytes(32).toString('base64url')}`;
    const row = this.keys.create({
      ...wanted,
      id: uuidv7(),
      prefix: key.slice(0, 10),
      keyHash: hashKey(key),
      lastUsedAt: null,
      replacedBy: null,
    });
    return { row, key };
  }
}

/** The key that makes another; null for the admin. @throws ApiKeyNotFound if it was deleted a moment ago */
async function findMaker(
  manager: EntityManager,
  workspaceId: string,
  id: string | undefined,
): Promise<ApiKey | null> {
  if (id === undefined) return null;
  const maker = await manager.findOneBy(ApiKey, { id, workspaceId });
  if (!maker) throw new ApiKeyNotFound(id);
  return maker;
}

/** @throws ApiKeyTooWide */
function assertWithin(wanted: KeyBounds, maker: KeyBounds): void {
  if (keyRoles.indexOf(wanted.role) < keyRoles.indexOf(maker.role))
    throw new ApiKeyTooWide(`its role is ${maker.role}, and the role of the new key would be ${wanted.role}`);
  const end = maker.expiresAt;
  if (end && (wanted.expiresAt === null || wanted.expiresAt > end)) {
    const wantedEnd = wanted.expiresAt === null ? 'never' : `at ${wanted.expiresAt.toISOString()}`;
    throw new ApiKeyTooWide(`it expires at ${end.toISOString()}, and the new key would expire ${wantedEnd}`);
  }
  const ranges = maker.allowedIps;
  if (!ranges) return;
  if (!wanted.allowedIps)
    throw new ApiKeyTooWide(
      `it may be used from ${ranges.join(', ')}, and the new key could be used from every address`,
    );
  const outside = wanted.allowedIps.filter((inner) => !ranges.some((outer) => isWithin(inner, outer)));
  if (outside.length > 0)
    throw new ApiKeyTooWide(
      `it may be used from ${ranges.join(', ')}, and ${outside.join(', ')} would not be within one of these`,
    );
}

function toDate(text: string | null): Date | null {
  return text === null ? null : new Date(text);
}
