import { Controller, Get, Redirect } from '@nestjs/common';
import { ApiExcludeEndpoint } from '@nestjs/swagger';
import { Allow } from '../workspaces/auth.guard.js';
import { HealthService } from './health.service.js';

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
  async summary(): Promise<{ status: string; activeConnections: number; timestamp: string; uptime: number }> {
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
  live(): { status: string } {
    return { status: 'ok' };
  }

  /** The process can work: 503 with the reason when not. Redis is not needed to accept messages. */
  @Get('health/ready')
  async ready(): Promise<{ status: string; redis: string }> {
    await this.health.assertReady();
    return { status: 'ok', redis: this.health.redisStatus() };
  }

  @Get('api/health')
  async detailed(): Promise<object> {
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
