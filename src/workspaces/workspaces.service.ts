import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { type EntityManager, LessThan, Repository } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { given } from '../platform/database/given.js';
import type { PageQuery } from '../platform/http/pagination.js';
import { Problem } from '../platform/errors/problem.js';
import { Workspace } from './workspace.entity.js';
import type { CreateWorkspaceDto, UpdateWorkspaceDto } from './workspaces.dto.js';

export class WorkspaceNotFound extends Problem {
  constructor(id: string) {
    super(404, 'workspace.not_found', `There is no workspace ${id}. GET …/workspaces lists them.`);
  }
}

/** Workspaces. `api-keys.service.ts` has their keys, `limits.service.ts` their limits. */
@Injectable()
export class WorkspacesService {
  private readonly beforeDelete: ((workspaceId: string) => Promise<void>)[] = [];
  private readonly beforeGone: ((workspaceId: string) => Promise<void>)[] = [];
  private readonly afterDelete: ((manager: EntityManager, workspaceId: string) => Promise<void>)[] = [];
  private readonly afterPacing: ((manager: EntityManager, workspaceId: string) => Promise<void>)[] = [];

  constructor(
    @InjectRepository(Workspace) private readonly workspaces: Repository<Workspace>,
    @Inject(CONFIG) private readonly config: Config,
  ) {}

  /** Creates a workspace. Limits that are left out have the operator's defaults. */
  async create({ name, limits = {} }: CreateWorkspaceDto): Promise<Workspace> {
    return this.workspaces.save(
      this.workspaces.create({ id: uuidv7(), name, ...this.config.workspaces.limits, ...given(limits) }),
    );
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
  async update(id: string, { limits, ...changes }: UpdateWorkspaceDto): Promise<Workspace> {
    return this.workspaces.manager.transaction(async (manager) => {
      // Writes only the given fields, so that it does not undo a change of other fields at the same time.
      const { affected } = await manager.update(
        Workspace,
        { id },
        { ...given(changes), ...given(limits ?? {}) },
      );
      if (!affected) throw new WorkspaceNotFound(id);
      if (changes.pacing !== undefined) for (const follow of this.afterPacing) await follow(manager, id);
      return manager.findOneByOrFail(Workspace, { id });
    });
  }

  /** Registers a listener for new pacing settings. It runs in the transaction of the change: the accounts must use the settings. */
  onPacing(follow: (manager: EntityManager, workspaceId: string) => Promise<void>): void {
    this.afterPacing.push(follow);
  }

  /** Registers a listener that runs before a workspace is deleted: its accounts are linked to phones and must log out. */
  onDelete(end: (workspaceId: string) => Promise<void>): void {
    this.beforeDelete.push(end);
  }

  /**
   * Registers what runs between the ends of its accounts and the deletion: subscribers hear what became of the messages. It must end
   * soon, whatever they do.
   */
  onFarewell(tell: (workspaceId: string) => Promise<void>): void {
    this.beforeGone.push(tell);
  }

  /** Registers what is deleted after the workspace, in the same transaction: rows that no foreign key deletes, such as its events. */
  onDeleted(follow: (manager: EntityManager, workspaceId: string) => Promise<void>): void {
    this.afterDelete.push(follow);
  }

  /**
   * Deletes a workspace with its keys, accounts, messages and events.
   * @throws WorkspaceNotFound
   */
  async delete(id: string): Promise<void> {
    await this.get(id);
    for (const end of this.beforeDelete) await end(id);
    await Promise.all(this.beforeGone.map((tell) => tell(id)));
    await this.workspaces.manager.transaction(async (manager) => {
      const { affected } = await manager.delete(Workspace, { id });
      if (!affected) throw new WorkspaceNotFound(id);
      for (const follow of this.afterDelete) await follow(manager, id);
    });
  }
}
