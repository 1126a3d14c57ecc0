import { Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { createHash, randomBytes } from 'node:crypto';
import { type EntityManager, LessThan, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import { given } from '../platform/database/given.js';
import type { PageQuery } from '../platform/http/pagination.js';
import { Problem } from '../platform/errors/problem.js';
import { ApiKey } from './api-key.entity.js';
import { Workspace } from './workspace.entity.js';
import type { CreateApiKeyDto, UpdateWorkspaceDto } from './workspaces.dto.js';

export class WorkspaceNotFound extends Problem {
  constructor(id: string) {
    super(404, 'workspace.not_found', `There is no workspace ${id}.`);
  }
}

export class ApiKeyNotFound extends Problem {
  constructor(id: string) {
    super(404, 'api_key.not_found', `This workspace has no API key ${id}.`);
  }
}

/** Keys have 256 random bits, so one SHA-256 protects them as well as a slow hash would. */
export function hashKey(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

/** Tenants and their API keys. */
@Injectable()
export class WorkspacesService {
  private readonly beforeDelete: ((workspaceId: string) => Promise<void>)[] = [];
  private readonly afterPacing: ((manager: EntityManager, workspaceId: string) => Promise<void>)[] = [];

  constructor(
    @InjectRepository(Workspace) private readonly workspaces: Repository<Workspace>,
    @InjectRepository(ApiKey) private readonly keys: Repository<ApiKey>,
  ) {}

  async create(name: string): Promise<Workspace> {
    return this.workspaces.save(this.workspaces.create({ id: uuidv7(), name }));
  }

  /** Up to `limit + 1` workspaces, newest first. */
  async list({ limit, cursor }: PageQuery): Promise<Workspace[]> {
    return this.workspaces.find({
      where: cursor ? { id: LessThan(cursor) } : {},
      order: { id: 'DESC' },
      take: limit + 1,
    });
  }

  /** @throws WorkspaceNotFound */
  async get(id: string): Promise<Workspace> {
    const workspace = await this.workspaces.findOneBy({ id });
    if (!workspace) throw new WorkspaceNotFound(id);
    return workspace;
  }

  /** @throws WorkspaceNotFound */
  async update(id: string, changes: UpdateWorkspaceDto): Promise<Workspace> {
    const workspace = await this.get(id);
    return this.workspaces.manager.transaction(async (manager) => {
      const changed = await manager.save(Object.assign(workspace, given(changes)));
      if (changes.pacing !== undefined) for (const follow of this.afterPacing) await follow(manager, id);
      return changed;
    });
  }

  /** What follows from new pacing settings, in the transaction of the change, for those who know: its accounts send by them. */
  onPacing(follow: (manager: EntityManager, workspaceId: string) => Promise<void>): void {
    this.afterPacing.push(follow);
  }

  /** What else has to end when a workspace is deleted, for those who know: its accounts are linked to phones. */
  onDelete(end: (workspaceId: string) => Promise<void>): void {
    this.beforeDelete.push(end);
  }

  /**
   * Deletes a workspace with its keys, accounts, messages and events.
   * @throws WorkspaceNotFound
   */
  async delete(id: string): Promise<void> {
    await this.get(id);
    for (const end of this.beforeDelete) await end(id);
    await this.workspaces.manager.transaction(async (manager) => {
      const { affected } = await manager.delete(Workspace, { id });
      if (!affected) throw new WorkspaceNotFound(id);
      await manager.query('delete from events where workspace_id = $1', [id]);
    });
  }

  /** How much of what it may use a workspace uses. */
  async usage(id: string): Promise<{ accounts: number; messagesLast24Hours: number }> {
    const [row] = await this.workspaces.query(
      `select (select count(*)::int from accounts where workspace_id = $1) as accounts,
              (select count(*)::int from messages where workspace_id = $1 and created_at > now() - interval '1 day') as messages`,
      [id],
    );
    return { accounts: row.accounts, messagesLast24Hours: row.messages };
  }

  /**
   * Makes a key for a workspace.
   * @returns the row, and the key itself, which cannot be read again.
   * @throws WorkspaceNotFound
   */
  async createKey(workspaceId: string, wanted: CreateApiKeyDto): Promise<{ row: ApiKey; key: string }> {
    await this.get(workspaceId);
    const key = `flk_${randomBytes(32).toString('base64url')}`;
    const row = await this.keys.save(
      this.keys.create({
        id: uuidv7(),
        workspaceId,
        name: wanted.name,
        role: wanted.role,
        prefix: key.slice(0, 10),
        keyHash: hashKey(key),
        expiresAt: wanted.expiresAt ? new Date(wanted.expiresAt) : null,
        allowedIps: wanted.allowedIps ?? null,
        lastUsedAt: null,
      }),
    );
    return { row, key };
  }

  /** @throws WorkspaceNotFound */
  async listKeys(workspaceId: string): Promise<ApiKey[]> {
    await this.get(workspaceId);
    return this.keys.find({ where: { workspaceId }, order: { id: 'DESC' } });
  }

  /** @throws ApiKeyNotFound */
  async deleteKey(workspaceId: string, keyId: string): Promise<void> {
    const { affected } = await this.keys.delete({ id: keyId, workspaceId });
    if (!affected) throw new ApiKeyNotFound(keyId);
  }
}
