import { Controller, Get, Redirect } from '@nestjs/common';
import { ApiExcludeEndpoint } from '@nestjs/swagger';
import { Fails } from '../platform/http/documentation.js';
import { Allow } from '../workspaces/auth.guard.js';
import { DetailedHealthResponse, HealthResponse, LiveResponse, ReadyResponse } from './health.dto.js';
import { HealthService, NotReady } from './health.service.js';

/** Whether the API lives and can work; open to everybody, so it tells nothing of any tenant. */
@Allow('public')
@Controller()
export class HealthController {
  constructor(private readonly health: HealthService) {}

  /** Where somebody who has just started looks first. */
  @ApiExcludeEndpoint()
  @Get()
  @Redirect('/docs')
  root(): void {
    // The redirect is all.
  }

  /** The seeds' health check. */
  @Get('health')
  async summary(): Promise<HealthResponse> {
    const { connected } = await this.health.accounts();
    return {
      status: 'ok',
      activeConnections: connected,
      timestamp: new Date().toISOString(),
      uptime: process.uptime(),
    };
  }

  /** The process runs. */
  @Get('health/live')
  live(): LiveResponse {
    return { status: 'ok' };
  }

  /** The process can work: 503 with the reason when not. Redis is not needed to accept messages. */
  @Fails(NotReady)
  @Get('health/ready')
  async ready(): Promise<ReadyResponse> {
    await this.health.assertReady();
    return { status: 'ok', redis: this.health.redisStatus() };
  }

  /** The seeds' health check of a server, with its accounts, its memory and how fast it answers. */
  @Get('api/health')
  async detailed(): Promise<DetailedHealthResponse> {
    const { heapUsed, heapTotal, rss } = process.memoryUsage();
    return {
      status: 'healthy',
      timestamp: new Date().toISOString(),
      uptime: process.uptime(),
      version: this.health.version,
      accounts: await this.health.accounts(),
      memory: { heapUsed, heapTotal, rss },
      performance: this.health.responseTimes(),
    };
  }
}
