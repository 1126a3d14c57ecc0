import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
import { Fails, Paged } from '../platform/http/documentation.js';
import { type Page, PageQuery, toPage } from '../platform/http/pagination.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import { Allow, WorkspaceId } from './auth.guard.js';
import { LimitsService } from './limits.service.js';
import {
  CreateWorkspaceDto,
  toWorkspaceResponse,
  UpdateOwnWorkspaceDto,
  UpdateWorkspaceDto,
  WorkspaceResponse,
  WorkspaceUsageResponse,
} from './workspaces.dto.js';
import { WorkspaceNotFound, WorkspacesService } from './workspaces.service.js';

@Allow('admin')
@Controller('workspaces')
export class WorkspacesController {
  constructor(
    private readonly workspaces: WorkspacesService,
    private readonly limits: LimitsService,
  ) {}

  /** Creates a workspace. Limits that are left out have the defaults of the settings. A limit of null means no limit. */
  @Post()
  async create(@Body() body: CreateWorkspaceDto): Promise<WorkspaceResponse> {
    return toWorkspaceResponse(await this.workspaces.create(body));
  }

  /** Lists the workspaces, newest first. */
  @Paged(WorkspaceResponse)
  @Get()
  async list(@Query() query: PageQuery): Promise<Page<WorkspaceResponse>> {
    return toPage(await this.workspaces.list(query), query.limit, toWorkspaceResponse);
  }

  /** Reads a workspace with its limits and its usage. */
  @Fails(WorkspaceNotFound)
  @Get(':id')
  async get(@Param('id', UuidPipe) id: string): Promise<WorkspaceUsageResponse> {
    return { ...toWorkspaceResponse(await this.workspaces.get(id)), usage: await this.limits.usage(id) };
  }

  /** Changes a workspace and its limits. Fields that are left out stay as they are. A limit of null removes the limit. */
  @Fails(WorkspaceNotFound)
  @Patch(':id')
  async update(
    @Param('id', UuidPipe) id: string,
    @Body() body: UpdateWorkspaceDto,
  ): Promise<WorkspaceResponse> {
    return toWorkspaceResponse(await this.workspaces.update(id, body));
  }

  /** Deletes a workspace with everything that belongs to it. */
  @Fails(WorkspaceNotFound)
  @Delete(':id')
  @HttpCode(204)
  async delete(@Param('id', UuidPipe) id: string): Promise<void> {
    await this.workspaces.delete(id);
  }
}

@Controller('workspace')
export class OwnWorkspaceController {
  constructor(
    private readonly workspaces: WorkspacesService,
    private readonly limits: LimitsService,
  ) {}

  /** Reads your workspace with its limits and its usage. */
  @Allow('viewer')
  @Get()
  async get(@WorkspaceId() id: string): Promise<WorkspaceUsageResponse> {
    return { ...toWorkspaceResponse(await this.workspaces.get(id)), usage: await this.limits.usage(id) };
  }
  /** Changes the settings of your workspace. Fields that are left out stay as they are. */
  @Allow('owner')
  @Patch()
  async update(@WorkspaceId() id: string, @Body() body: UpdateOwnWorkspaceDto): Promise<WorkspaceResponse> {
    return toWorkspaceResponse(await this.workspaces.update(id, body));
  }
}
