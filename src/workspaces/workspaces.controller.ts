import {
  Body,
  Controller,
  Delete,
  Get,
  HttpCode,
  Param,
  ParseUUIDPipe,
  Patch,
  Post,
  Query,
} from '@nestjs/common';
import { Fails, Paged } from '../platform/http/documentation.js';
import { type Page, PageQuery, toPage } from '../platform/http/pagination.js';
import { Allow, WorkspaceId } from './auth.guard.js';
import {
  ApiKeyResponse,
  CreateApiKeyDto,
  CreatedApiKeyResponse,
  CreateWorkspaceDto,
  toApiKeyResponse,
  toWorkspaceResponse,
  UpdateWorkspaceDto,
  WorkspaceResponse,
  WorkspaceUsageResponse,
} from './workspaces.dto.js';
import { ApiKeyNotFound, WorkspaceNotFound, WorkspacesService } from './workspaces.service.js';

@Allow('admin')
@Controller('workspaces')
export class WorkspacesController {
  constructor(private readonly workspaces: WorkspacesService) {}

  /** Creates a workspace. */
  @Post()
  async create(@Body() body: CreateWorkspaceDto): Promise<WorkspaceResponse> {
    return toWorkspaceResponse(await this.workspaces.create(body.name));
  }

  /** Lists the workspaces, newest first. */
  @Paged(WorkspaceResponse)
  @Get()
  async list(@Query() query: PageQuery): Promise<Page<WorkspaceResponse>> {
    return toPage(await this.workspaces.list(query), query.limit, toWorkspaceResponse);
  }

  /** One workspace with its settings. */
  @Fails(WorkspaceNotFound)
  @Get(':id')
  async get(@Param('id', ParseUUIDPipe) id: string): Promise<WorkspaceResponse> {
    return toWorkspaceResponse(await this.workspaces.get(id));
  }

  /** Changes what is named: its name, how carefully its accounts send. */
  @Fails(WorkspaceNotFound)
  @Patch(':id')
  async update(
    @Param('id', ParseUUIDPipe) id: string,
    @Body() body: UpdateWorkspaceDto,
  ): Promise<WorkspaceResponse> {
    return toWorkspaceResponse(await this.workspaces.update(id, body));
  }

  /** Deletes a workspace with everything in it. */
  @Fails(WorkspaceNotFound)
  @Delete(':id')
  @HttpCode(204)
  async delete(@Param('id', ParseUUIDPipe) id: string): Promise<void> {
    await this.workspaces.delete(id);
  }

  /** Makes an API key; `key` is shown in this answer only. */
  @Fails(WorkspaceNotFound)
  @Post(':id/api-keys')
  async createKey(
    @Param('id', ParseUUIDPipe) id: string,
    @Body() body: CreateApiKeyDto,
  ): Promise<CreatedApiKeyResponse> {
    const { row, key } = await this.workspaces.createKey(id, body);
    return { ...toApiKeyResponse(row), key };
  }

  /** Lists the keys of a workspace, newest first; what the keys are is not kept. */
  @Fails(WorkspaceNotFound)
  @Paged(ApiKeyResponse)
  @Get(':id/api-keys')
  async listKeys(@Param('id', ParseUUIDPipe) id: string): Promise<Page<ApiKeyResponse>> {
    return { items: (await this.workspaces.listKeys(id)).map(toApiKeyResponse), nextCursor: null };
  }

  /** Deletes a key. It works for two seconds more at most. */
  @Fails(ApiKeyNotFound)
  @Delete(':id/api-keys/:keyId')
  @HttpCode(204)
  async deleteKey(
    @Param('id', ParseUUIDPipe) id: string,
    @Param('keyId', ParseUUIDPipe) keyId: string,
  ): Promise<void> {
    await this.workspaces.deleteKey(id, keyId);
  }
}

@Controller('workspace')
export class OwnWorkspaceController {
  constructor(private readonly workspaces: WorkspacesService) {}

  /** The workspace of the key that asks, with what it uses. */
  @Allow('viewer')
  @Get()
  async get(@WorkspaceId() id: string): Promise<WorkspaceUsageResponse> {
    const workspace = await this.workspaces.get(id);
    return {
      ...toWorkspaceResponse(workspace),
      usage: await this.workspaces.usage(id),
      limits: { accounts: null },
    };
  }
}
