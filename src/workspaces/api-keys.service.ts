import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { createHash, randomBytes } from 'node:crypto';
import { LessThan, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { Problem } from '../platform/errors/problem.js';
import type { PageQuery } from '../platform/http/pagination.js';
import { ApiKey } from './api-key.entity.js';
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

/** A new key. `key` cannot be read again. */
export interface NewApiKey {
  row: ApiKey;
  key: string;
}

/** Keys have 256 random bits, so one SHA-256 protects them as well as a slow hash would. */
export function hashKey(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** The API keys of workspaces. Every API process hears of a deleted, rotated or changed key at once. */
@Injectable()
export class ApiKeysService {
  constructor(
    @InjectRepository(ApiKey) private readonly keys: Repository<ApiKey>,
    private readonly workspaces: WorkspacesService,
  ) {}

  /** Creates a key for a workspace. @throws WorkspaceNotFound */
  async create(workspaceId: string, wanted: CreateApiKeyDto): Promise<NewApiKey> {
    await this.workspaces.get(workspaceId);
    const made = this.make({
      workspaceId,
      name: wanted.name,
      role: wanted.role,
      expiresAt: wanted.expiresAt ? new Date(wanted.expiresAt) : null,
      allowedIps: wanted.allowedIps ?? null,
    });
    await this.keys.save(made.row);
    return made;
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
   * @throws ApiKeyNotFound, ApiKeyExpired, ApiKeyRotated
   */
  async rotate(workspaceId: string, keyId: string, wanted: RotateApiKeyDto): Promise<NewApiKey> {
    return this.keys.manager.transaction(async (manager) => {
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

function toDate(text: string | null): Date | null {
  return text === null ? null : new Date(text);
}
