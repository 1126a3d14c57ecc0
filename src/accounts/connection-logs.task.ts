import { Injectable } from '@nestjs/common';
import type { ScheduledTask } from '../platform/scheduling/scheduler.service.js';
import { ConnectionLogsService } from './connection-logs.service.js';

/** Deletes old entries of the connection log. */
@Injectable()
export class ConnectionLogsTask implements ScheduledTask {
  readonly name = 'connection-logs-pruning';
  readonly everyMs = 3_600_000;

  constructor(private readonly connections: ConnectionLogsService) {}

  run(): Promise<void> {
    return this.connections.prune();
  }
}
