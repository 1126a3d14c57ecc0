import { Body, Controller, Delete, Get, HttpCode, Param, Patch, Post, Query } from '@nestjs/common';
import {
  CreateServerDto,
  HealthCheckResponse,
  ListServersQuery,
  ServerResponse,
  toServerResponse,
  UpdateServerDto,
} from './servers.dto.js';
import {
  ServerExists,
  ServerHasAccounts,
  ServerHasLiveInstances,
  ServerNotFound,
  ServersService,
} from './servers.service.js';
import { Fails, Paged } from '../platform/http/documentation.js';
import { type Page, toPage } from '../platform/http/pagination.js';
import { Allow } from '../workspaces/auth.guard.js';

/** The machines of the fleet. */
@Allow('admin')
@Controller('admin/servers')
export class ServersController {
  constructor(private readonly servers: ServersService) {}

  /** Registers a server before its programs run. A server also registers itself when it starts. */
  @Fails(ServerExists)
  @Post()
  async create(@Body() body: CreateServerDto): Promise<ServerResponse> {
    return toServerResponse(await this.servers.create(body));
  }

  /** Lists the servers by id, with their load. */
  @Paged(ServerResponse)
  @Get()
  async list(@Query() query: ListServersQuery): Promise<Page<ServerResponse>> {
    return toPage(await this.servers.list(query), query.limit, toServerResponse);
  }

  /** One server with its load. */
  @Fails(ServerNotFound)
  @Get(':id')
  async get(@Param('id') id: string): Promise<ServerResponse> {
    return toServerResponse(await this.servers.get(id));
  }

  /** Changes the fields that the request names. When the server starts, the variables of its environment replace them again. */
  @Fails(ServerNotFound)
  @Patch(':id')
  async update(@Param('id') id: string, @Body() body: UpdateServerDto): Promise<ServerResponse> {
    return toServerResponse(await this.servers.update(id, body));
  }

  /** Deletes a server that has no accounts and no running instances. */
  @Fails(ServerNotFound, ServerHasAccounts, ServerHasLiveInstances)
  @Delete(':id')
  @HttpCode(204)
  async delete(@Param('id') id: string): Promise<void> {
    await this.servers.delete(id);
  }

  /** Checks the health of the server now, and records the result. */
  @Fails(ServerNotFound)
  @Post(':id/health-check')
  @HttpCode(200)
  async checkHealth(@Param('id') id: string): Promise<HealthCheckResponse> {
    return this.servers.checkHealth(id);
  }
}
