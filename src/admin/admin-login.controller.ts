import { Body, Controller, Get, Header, Post, Query, Req, Res } from '@nestjs/common';
import { ApiExcludeController } from '@nestjs/swagger';
import { IsOptional, IsString, MaxLength } from 'class-validator';
import type { Request, Response } from 'express';
import { hashKey } from '../workspaces/api-keys.service.js';
import { Allow } from '../workspaces/auth.guard.js';
import { AuthenticationService, InvalidKey } from '../workspaces/authentication.service.js';
import { RateLimits } from '../workspaces/rate-limits.js';
import { loginPage, loginPageHeaders, pageAfterLogin } from './admin-login.page.js';
import { AdminSession } from './admin-session.js';
import { ForeignOrigin } from './admin.guard.js';

export class LoginDto {
  @IsString()
  @MaxLength(500)
  key!: string;

  @IsOptional()
  @IsString()
  @MaxLength(100)
  next?: string;
}

/** Logs the admin in with a browser. */
@ApiExcludeController()
@Allow('public')
@Controller('admin')
export class AdminLoginController {
  constructor(
    private readonly session: AdminSession,
    private readonly authentication: AuthenticationService,
    private readonly limits: RateLimits,
  ) {}

  @Get('login')
  @Header('Content-Type', 'text/html; charset=utf-8')
  form(@Query('next') next: unknown, @Req() request: Request, @Res() response: Response): void {
    const page = pageAfterLogin(next);
    if (this.session.isLoggedIn(request)) response.redirect(303, page);
    else response.set(loginPageHeaders).send(loginPage(page));
  }

  @Post('login')
  async logIn(
    @Body() { key, next }: LoginDto,
    @Req() request: Request,
    @Res() response: Response,
  ): Promise<void> {
    if (this.session.isForeign(request)) throw new ForeignOrigin();
    const ip = request.ip ?? '';
    const page = pageAfterLogin(next);
    this.limits.countLogin(ip, response);
    const hash = hashKey(key);
    try {
      await this.limits.limitGuesses(ip, hash, () => {
        if (!this.authentication.isAdmin(hash)) throw new InvalidKey();
      });
    } catch (error) {
      if (!(error instanceof InvalidKey)) throw error;
      const message = 'This is not the admin key of this Flotilla.';
      response.status(401).set(loginPageHeaders).send(loginPage(page, message));
      return;
    }
    response.set('Set-Cookie', this.session.begin(request)).redirect(303, page);
  }

  @Post('logout')
  logOut(@Req() request: Request, @Res() response: Response): void {
    if (!this.session.isSameOrigin(request)) throw new ForeignOrigin();
    response.set('Set-Cookie', this.session.end(request)).redirect(303, '/admin/login');
  }
}
