import { Body, Controller, Delete, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { Fails, Paged } from '../platform/http/documentation.js';
import { type Page, PageQuery, toPage } from '../platform/http/pagination.js';
import { UuidPipe } from '../platform/http/uuid.pipe.js';
import {
  ApiKeyResponse,
  CreateApiKeyDto,
  CreatedApiKeyResponse,
  RotateApiKeyDto,
  toApiKeyResponse,
  toCreatedApiKeyResponse,
} from './api-keys.dto.js';
import {
  ApiKeyExpired,
  ApiKeyInUse,
  ApiKeyLimitReached,
  ApiKeyNotFound,
  ApiKeyRotated,
  ApiKeysService,
  ApiKeyTooWide,
} from './api-keys.service.js';
import { Allow, Caller, WorkspaceId } from './auth.guard.js';
import type { Principal } from './authentication.service.js';
import { WorkspaceNotFound } from './workspaces.service.js';

/** The keys of any workspace, for the admin. */
@Allow('admin')
@Controller('workspaces/:id/api-keys')
export class ApiKeysController {
  constructor(private readonly keys: ApiKeysService) {}

  /** Creates an API key. Only this answer shows `key`. */
  @Fails(WorkspaceNotFound, ApiKeyLimitReached)
  @Post()
  async create(
    @Param('id', UuidPipe) id: string,
    @Body() body: CreateApiKeyDto,
  ): Promise<CreatedApiKeyResponse> {
    return toCreatedApiKeyResponse(await this.keys.create(id, body));
  }

  /** Lists the keys of a workspace, newest first. */
  @Fails(WorkspaceNotFound)
  @Paged(ApiKeyResponse)
  @Get()
  async list(@Param('id', UuidPipe) id: string, @Query() query: PageQuery): Promise<Page<ApiKeyResponse>> {
    return toPage(await this.keys.list(id, query), query.limit, toApiKeyResponse);
  }

  /** Rotates a key: creates its replacement. The old key works until the grace period ends. */
  @Fails(ApiKeyNotFound, ApiKeyExpired, ApiKeyRotated, ApiKeyLimitReached)
  @Post(':keyId/rotate')
  async rotate(
    @Param('id', UuidPipe) id: string,
    @Param('keyId', UuidPipe) keyId: string,
    @Body() body: RotateApiKeyDto = new RotateApiKeyDto(),
  ): Promise<CreatedApiKeyResponse> {
    return toCreatedApiKeyResponse(await this.keys.rotate(id, keyId, body));
  }

  /** Deletes a key: it stops working at once. */
  @Fails(ApiKeyNotFound)
  @Delete(':keyId')
  @HttpCode(204)
  async delete(@Param('id', UuidPipe) id: string, @Param('keyId', UuidPipe) keyId: string): Promise<void> {
    await this.keys.delete(id, keyId);
  }
}

/** The keys of the caller's workspace, for its owners. */
@Allow('owner')
@Controller('workspace/api-keys')
export class OwnApiKeysController {
  constructor(private readonly keys: ApiKeysService) {}

  /**
   * Creates an API key for your workspace. Only this answer shows `key`. The new key may do at most what your key may do:
   * without `expiresAt` and `allowedIps` it has those of your key.
   */
  @Fails(WorkspaceNotFound, ApiKeyNotFound, ApiKeyLimitReached, ApiKeyTooWide)
  @Post()
  async create(
    @WorkspaceId() workspaceId: string,
    @Caller() caller: Principal,
    @Body() body: CreateApiKeyDto,
  ): Promise<CreatedApiKeyResponse> {
    return toCreatedApiKeyResponse(await this.keys.create(workspaceId, body, keyIdOf(caller)));
  }

  /** Lists the keys of your workspace, newest first. */
  @Fails(WorkspaceNotFound)
  @Paged(ApiKeyResponse)
  @Get()
  async list(@WorkspaceId() workspaceId: string, @Query() query: PageQuery): Promise<Page<ApiKeyResponse>> {
    return toPage(await this.keys.list(workspaceId, query), query.limit, toApiKeyResponse);
  }

  /**
   * Rotates a key: creates its replacement. The old key works until the grace period ends. A key may rotate itself, and other keys
   * that may not do more than itself.
   */
  @Fails(ApiKeyNotFound, ApiKeyExpired, ApiKeyRotated, ApiKeyLimitReached, ApiKeyTooWide)
  @Post(':keyId/rotate')
  async rotate(
    @WorkspaceId() workspaceId: string,
    @Caller() caller: Principal,
    @Param('keyId', UuidPipe) keyId: string,
    @Body() body: RotateApiKeyDto = new RotateApiKeyDto(),
  ): Promise<CreatedApiKeyResponse> {
    return toCreatedApiKeyResponse(await this.keys.rotate(workspaceId, keyId, body, keyIdOf(caller)));
  }

  /** Deletes another key of your workspace: it stops working at once. A key cannot delete itself. */
  @Fails(ApiKeyNotFound, ApiKeyInUse)
  @Delete(':keyId')
  @HttpCode(204)
  async delete(
    @WorkspaceId() workspaceId: string,
    @Caller() caller: Principal,
    @Param('keyId', UuidPipe) keyId: string,
  ): Promise<void> {
    await this.keys.delete(workspaceId, keyId, keyIdOf(caller));
  }
}

/** The id of the caller's key; undefined for the admin. */
function keyIdOf(caller: Principal): string | undefined {
  return caller.kind === 'workspace' ? caller.keyId : undefined;
}
