import { Controller, Get } from '@nestjs/common';
import { AccountSessions } from '../sessions/account-sessions.js';

/** Whether an instance is alive, and how many accounts it drives. */
@Controller('health')
export class InternalHealthController {
  constructor(private readonly sessions: AccountSessions) {}

  @Get()
  summary(): { status: string; activeConnections: number; timestamp: string } {
    return {
      status: 'ok',
      activeConnections: this.sessions.counts.ready,
      timestamp: new Date().toISOString(),
    };
  }

  @Get('live')
  live(): { status: string } {
    return { status: 'ok' };
  }

  @Get('ready')
  ready(): { status: string; accounts: { ready: number; total: number } } {
    return { status: 'ok', accounts: this.sessions.counts };
  }
}
