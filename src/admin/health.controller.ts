import { Controller, Get, Redirect } from '@nestjs/common';
import { ApiExcludeEndpoint } from '@nestjs/swagger';
import { Fails } from '../platform/http/documentation.js';
import { Allow } from '../workspaces/auth.guard.js';
import { DetailedHealthResponse, HealthResponse, LiveResponse, ReadyResponse } from './health.dto.js';
import { HealthService, NotReady } from './health.service.js';

/** Whether the API is alive and ready. These routes are public, so they reveal nothing about a workspace. */
@Allow('public')
@Controller()
export class HealthController {
  constructor(private readonly health: HealthService) {}

  /** New users open this address first. */
  @ApiExcludeEndpoint()
  @Get()
  @Redirect('/docs')
  root(): void {
    // The decorator redirects.
  }

  /** A short health check: the number of connected accounts and the uptime. */
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

  /** The process is alive. */
  @Get('health/live')
  live(): LiveResponse {
    return { status: 'ok' };
  }

  /** The process can accept messages. If it cannot, the answer is 503 with the reason. Redis is not needed for that. */
  @Fails(NotReady)
  @Get('health/ready')
  async ready(): Promise<ReadyResponse> {
    const { webIncompatible } = await this.health.assertReady();
    return { status: 'ok', redis: this.health.redisStatus(), webIncompatible };
  }

  /** A detailed health check: accounts, memory and response times. */
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
