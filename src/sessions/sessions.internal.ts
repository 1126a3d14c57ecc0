import { Controller, Get, HttpCode, Param, ParseUUIDPipe, Post, Res, UseGuards } from '@nestjs/common';
import type { Response } from 'express';
import { InternalGuard } from '../platform/http/internal.guard.js';
import { Problem } from '../platform/errors/problem.js';
import { AccountSessions } from './account-sessions.js';

/** Requests of the API to the instance that drives an account. */
@UseGuards(InternalGuard)
@Controller('internal/accounts/:id')
export class InternalSessionsController {
  constructor(private readonly sessions: AccountSessions) {}

  @Post('restart')
  @HttpCode(204)
  restart(@Param('id', ParseUUIDPipe) id: string): void {
    this.sessions.driver(id).restart();
  }

  /** Loads a page that lacks what sending needs again. */
  @Post('recheck')
  @HttpCode(204)
  recheck(@Param('id', ParseUUIDPipe) id: string): void {
    this.sessions.driver(id).current.recheck();
  }

  @Post('logout')
  @HttpCode(204)
  async logout(@Param('id', ParseUUIDPipe) id: string): Promise<void> {
    const confirmed = await this.sessions.readyDriver(id).logout();
    if (!confirmed) {
      throw new Problem(
        504,
        'account.logout_not_confirmed',
        'WhatsApp did not confirm the logout, so the account is still linked. Try again.',
      );
    }
  }

  @Get('screenshot')
  async screenshot(@Param('id', ParseUUIDPipe) id: string, @Res() response: Response): Promise<void> {
    response.type('image/png').send(Buffer.from(await this.sessions.driver(id).current.screenshot()));
  }
}
