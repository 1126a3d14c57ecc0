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

/** The logs and the statistics of the fleet. */
@Allow('admin')
@Controller('admin')
export class LogsController {
  constructor(
    private readonly audit: AuditService,
    private readonly logs: LogsService,
    private readonly stats: StatsService,
  ) {}

  /** Lists the log of servers, instances and assignments, newest first. With `type=audit`, lists who changed what through the API. */
  @Paged(LogResponse, AuditLogResponse)
  @Get('logs')
  async listLogs(@Query() query: ListLogsQuery): Promise<Page<LogResponse | AuditLogResponse>> {
    if (query.type === 'audit') return toPage(await this.audit.list(query), query.limit, (entry) => entry);
    return toPage(await this.logs.list(query), query.limit, (entry) => entry);
  }

  /** Lists the samples of the instances, newest first. Each instance writes one sample per minute. */
  @Paged(StatsResponse)
  @Get('stats')
  async listStats(@Query() query: ListStatsQuery): Promise<Page<StatsResponse>> {
    return toPage(await this.stats.list(query), query.limit, toStatsResponse);
  }
}
