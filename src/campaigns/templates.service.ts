import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';
import { v7 as uuidv7 } from 'uuid';
import type { PageQuery, LogPageQuery } from '../platform/http/pagination.js';
import type { CampaignMessage } from './campaign.entity.js';
import { TemplateNotFound } from './campaign-errors.js';

/** A message that a workspace keeps for its campaigns. */
export interface StoredTemplate {
  id: string;
  name: string;
  version: number;
  message: CampaignMessage;
  createdAt: Date;
  updatedAt: Date;
}

/** One version of a stored template. `id` is the version as text, for pages. */
export interface TemplateVersion {
  id: string;
  version: number;
  message: CampaignMessage;
  createdAt: Date;
}

const columns = `t.id, t.name, t.version, v.message, t.created_at as "createdAt", v.created_at as "updatedAt"`;

/** The stored templates of workspaces. A new text is a new version, so that a campaign can always show what it has sent. */
@Injectable()
export class TemplatesService {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  async create(workspaceId: string, name: string, message: CampaignMessage): Promise<StoredTemplate> {
    const id = uuidv7();
    await this.database.query(
      `with made as (insert into message_templates (id, workspace_id, name) values ($1, $2, $3))
       insert into message_template_versions (template_id, workspace_id, version, message) values ($1, $2, 1, $4)`,
      [id, workspaceId, name, message],
    );
    return this.get(workspaceId, id);
  }

  /** @throws TemplateNotFound, also for a template of another workspace */
  async get(workspaceId: string, id: string): Promise<StoredTemplate> {
    const [found] = await this.database.query<StoredTemplate[]>(
      `select ${columns} from message_templates t join message_template_versions v on v.template_id = t.id and v.version = t.version where t.id = $1 and t.workspace_id = $2`,
      [id, workspaceId],
    );
    if (!found) throw new TemplateNotFound(id);
    return found;
  }

  /** Templates, newest first: one more than `limit` if there are more. */
  async list(workspaceId: string, { limit, cursor }: PageQuery): Promise<StoredTemplate[]> {
    return this.database.query(
      `select ${columns} from message_templates t join message_template_versions v on v.template_id = t.id and v.version = t.version where t.workspace_id = $1 and ($2::uuid is null or t.id < $2)
       order by t.id desc limit $3`,
      [workspaceId, cursor ?? null, limit + 1],
    );
  }

  /** A message makes a new version. @throws TemplateNotFound */
  async update(
    workspaceId: string,
    id: string,
    { name, message }: { name?: string | undefined; message?: CampaignMessage | undefined },
  ): Promise<StoredTemplate> {
    await this.database.query(
      `with changed as (
         update message_templates set name = coalesce($3, name), version = version + case when $4::jsonb is null then 0 else 1 end
         where id = $1 and workspace_id = $2 returning id, workspace_id, version)
       insert into message_template_versions (template_id, workspace_id, version, message)
       select id, workspace_id, version, $4::jsonb from changed where $4::jsonb is not null`,
      [id, workspaceId, name ?? null, message ?? null],
    );
    return this.get(workspaceId, id);
  }

  /** Campaigns keep the text that they have. @throws TemplateNotFound */
  async delete(workspaceId: string, id: string): Promise<void> {
    const [, deleted] = await this.database.query<[unknown[], number]>(
      'delete from message_templates where id = $1 and workspace_id = $2',
      [id, workspaceId],
    );
    if (deleted === 0) throw new TemplateNotFound(id);
  }

  /** Versions, newest first: one more than `limit` if there are more. @throws TemplateNotFound */
  async versions(
    workspaceId: string,
    id: string,
    { limit, cursor }: LogPageQuery,
  ): Promise<TemplateVersion[]> {
    await this.get(workspaceId, id);
    return this.database.query(
      `select version::text as id, version, message, created_at as "createdAt" from message_template_versions
       where template_id = $1 and ($2::bigint is null or version < $2) order by version desc limit $3`,
      [id, cursor ?? null, limit + 1],
    );
  }

  /** The newest version, or this one. @throws TemplateNotFound */
  async version(
    workspaceId: string,
    id: string,
    version?: number,
  ): Promise<Pick<TemplateVersion, 'version' | 'message'>> {
    if (version === undefined) return this.get(workspaceId, id);
    const [found] = await this.database.query<TemplateVersion[]>(
      'select version, message from message_template_versions where template_id = $1 and workspace_id = $2 and version = $3',
      [id, workspaceId, version],
    );
    if (!found) throw new TemplateNotFound(id, version);
    return found;
  }
}
