import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import type { NextFunction, Request, Response } from 'express';
import { Problem } from '../platform/errors/problem.js';
import { sendProblem } from '../platform/errors/problem.filter.js';
import { type AuthenticatedRequest, keyHashOf } from '../workspaces/auth.guard.js';
import {
  AuthenticationRequired,
  AuthenticationService,
  InvalidKey,
} from '../workspaces/authentication.service.js';
import { RateLimits } from '../workspaces/rate-limits.js';
import { loginFor } from './admin-login.page.js';
import { AdminSession } from './admin-session.js';

/** A page of somebody else has a browser that is logged in ask us. */
export class ForeignOrigin extends Problem {
  constructor() {
    super(
      403,
      'auth.foreign_origin',
      'A page of another origin may change nothing here. Behind a proxy, have it pass the Host header on.',
    );
  }
}

/** Lets the admin in: by key, or by the login of a browser, which may change something from our own pages only. */
@Injectable()
export class AdminGuard implements CanActivate {
  constructor(
    private readonly session: AdminSession,
    private readonly authentication: AuthenticationService,
    private readonly limits: RateLimits,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    await this.assertAdmin(context.switchToHttp().getRequest<Request>());
    return true;
  }

  /** @throws AuthenticationRequired, InvalidKey, ForeignOrigin, RateLimitExceeded */
  async assertAdmin(request: AuthenticatedRequest): Promise<void> {
    await this.assertKeyOrLogin(request);
    request.principal = { kind: 'admin' };
  }

  /** Whether a key, which is given by its hash, opens what is behind this guard. */
  protected isRight(hash: Buffer): boolean {
    return this.authentication.isAdmin(hash);
  }

  protected async assertKeyOrLogin(request: AuthenticatedRequest): Promise<void> {
    const hash = keyHashOf(request);
    if (hash === undefined && this.session.isLoggedIn(request)) {
      if (['GET', 'HEAD'].includes(request.method) || this.session.isSameOrigin(request)) return;
      // Whose login it was that somebody tried to use is for the audit log.
      request.principal = { kind: 'admin' };
      throw new ForeignOrigin();
    }
    await this.limits.guess(request.ip ?? '', hash, () => {
      if (hash === undefined)
        throw new AuthenticationRequired('This needs the admin key, or a login at /admin/login.');
      if (!this.isRight(hash)) throw new InvalidKey('This is not the admin key.');
    });
  }

  /** The same for what is not a route of Nest's; a browser that is not logged in is sent to the form. */
  readonly middleware = (request: Request, response: Response, next: NextFunction): void => {
    this.assertAdmin(request).then(
      () => next(),
      (error: unknown) => {
        if (error instanceof AuthenticationRequired && request.accepts(['json', 'html']) === 'html') {
          response.redirect(302, loginFor(request.originalUrl));
        } else if (error instanceof Problem) sendProblem(response, error, (request as { id?: string }).id);
        else next(error);
      },
    );
  };
}
