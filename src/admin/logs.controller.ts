import { Controller, Get, Query } from '@nestjs/common';
import {
  AuditLogResponse,
  ListLogsQuery,
  ListStatsQuery,
  LogResponse,
  StatsResponse,
} from '../instances/logs.dto.js';
import { LogsService } from '../instances/logs.service.js';
import { StatsService, toStatsResponse } from '../instances/stats.service.js';
import { Paged } from '../platform/http/documentation.js';
import { type Page, toPage } from '../platform/http/pagination.js';
import { Allow } from '../workspaces/auth.guard.js';
import { AuditService } from './audit.service.js';

/** What happened in the fleet, and how it did. */
@Allow('admin')
@Controller('admin')
export class LogsController {
  constructor(
    private readonly audit: AuditService,
    private readonly logs: LogsService,
    private readonly stats: StatsService,
  ) {}

  /** The log of servers, instances and assignments; with `type=audit` of who changed what through the API. Newest first. */
  @Paged(LogResponse, AuditLogResponse)
  @Get('logs')
  async listLogs(@Query() query: ListLogsQuery): Promise<Page<LogResponse | AuditLogResponse>> {
    if (query.type === 'audit') return toPage(await this.audit.list(query), query.limit, (entry) => entry);
    return toPage(await this.logs.list(query), query.limit, (entry) => entry);
  }

  /** The samples of the instances, one each minute, newest first. */
  @Paged(StatsResponse)
  @Get('stats')
  async listStats(@Query() query: ListStatsQuery): Promise<Page<StatsResponse>> {
    return toPage(await this.stats.list(query), query.limit, toStatsResponse);
  }
}
