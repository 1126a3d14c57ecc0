import { Controller, Get, Header, UseGuards } from '@nestjs/common';
import { ApiProduces } from '@nestjs/swagger';
import { Allow } from '../workspaces/auth.guard.js';
import { MetricsGuard } from './metrics.guard.js';
import { MetricsService } from './metrics.service.js';

/** The metrics for Prometheus. Its own guard accepts `METRICS_TOKEN`, the admin key and a logged-in browser. */
@Allow('public')
@UseGuards(MetricsGuard)
@Controller('metrics')
export class MetricsController {
  constructor(private readonly metrics: MetricsService) {}

  /** Metrics in the text format of Prometheus. They need `METRICS_TOKEN` or the admin key. */
  @Get()
  @ApiProduces('text/plain')
  @Header('Content-Type', 'text/plain; version=0.0.4; charset=utf-8')
  @Header('Cache-Control', 'no-store')
  read(): Promise<string> {
    return this.metrics.read();
  }
}
