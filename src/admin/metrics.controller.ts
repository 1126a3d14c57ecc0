import { Controller, Get, Header, UseGuards } from '@nestjs/common';
import { ApiProduces } from '@nestjs/swagger';
import { Allow } from '../workspaces/auth.guard.js';
import { MetricsGuard } from './metrics.guard.js';
import { MetricsService } from './metrics.service.js';

/** What Prometheus reads. The guard of its own also lets a browser in that is logged in, and who shows `METRICS_TOKEN`. */
@Allow('public')
@UseGuards(MetricsGuard)
@Controller('metrics')
export class MetricsController {
  constructor(private readonly metrics: MetricsService) {}

  /** Figures in the text format of Prometheus; needs `METRICS_TOKEN` or the admin key. */
  @Get()
  @ApiProduces('text/plain')
  @Header('Content-Type', 'text/plain; version=0.0.4; charset=utf-8')
  @Header('Cache-Control', 'no-store')
  read(): Promise<string> {
    return this.metrics.read();
  }
}
