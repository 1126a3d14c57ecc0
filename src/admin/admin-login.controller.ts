import { Body, Controller, Get, Header, Post, Req, Res, UseGuards } from '@nestjs/common';
import { ApiExcludeController } from '@nestjs/swagger';
import { ThrottlerGuard } from '@nestjs/throttler';
import { IsString, MaxLength } from 'class-validator';
import type { Request, Response } from 'express';
import { Allow } from '../workspaces/auth.guard.js';
import { AuthenticationService } from '../workspaces/authentication.service.js';
import { loginPage, loginPageHeaders } from './admin-login.page.js';
import { AdminSession } from './admin-session.js';
import { ForeignOrigin } from './admin.guard.js';

export class LoginDto {
  @IsString()
  @MaxLength(500)
  key!: string;
}

/** Where a browser goes after a login. */
const home = '/admin/queues';

/** The admin's way in with a browser. */
@ApiExcludeController()
@Allow('public')
@Controller('admin')
export class AdminLoginController {
  constructor(
    private readonly session: AdminSession,
    private readonly authentication: AuthenticationService,
  ) {}

  @Get('login')
  @Header('Content-Type', 'text/html; charset=utf-8')
  form(@Req() request: Request, @Res() response: Response): void {
    if (this.session.isLoggedIn(request)) response.redirect(303, home);
    else response.set(loginPageHeaders).send(loginPage());
  }

  @Post('login')
  @UseGuards(ThrottlerGuard)
  logIn(@Body() { key }: LoginDto, @Req() request: Request, @Res() response: Response): void {
    if (!this.authentication.isAdmin(key)) {
      response
        .status(401)
        .set(loginPageHeaders)
        .send(loginPage('This is not the admin key of this Flotilla.'));
      return;
    }
    response.set('Set-Cookie', this.session.begin(request)).redirect(303, home);
  }

  @Post('logout')
  logOut(@Req() request: Request, @Res() response: Response): void {
    if (!this.session.isSameOrigin(request)) throw new ForeignOrigin();
    response.set('Set-Cookie', this.session.end(request)).redirect(303, '/admin/login');
  }
}
