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
import { loginUrlFor } from './admin-login.page.js';
import { AdminSession } from './admin-session.js';

/** A page of another origin made a logged-in browser send this request. */
export class ForeignOrigin extends Problem {
  constructor() {
    super(
      403,
      'auth.foreign_origin',
      'Only pages of this origin may change something here. If there is a proxy, configure it to pass on the Host header.',
    );
  }
}

/** Lets the admin in by key, or by the login of a browser. A logged-in browser may change something only from our own pages. */
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

  /** Whether this guard accepts the key with this hash. */
  protected isAccepted(hash: Buffer): boolean {
    return this.authentication.isAdmin(hash);
  }

  protected async assertKeyOrLogin(request: AuthenticatedRequest): Promise<void> {
    const hash = keyHashOf(request);
    if (hash === undefined && this.session.isLoggedIn(request)) {
      if (['GET', 'HEAD'].includes(request.method) || this.session.isSameOrigin(request)) return;
      // The audit log names the admin, whose login the foreign page tried to use.
      request.principal = { kind: 'admin' };
      throw new ForeignOrigin();
    }
    await this.limits.limitGuesses(request.ip ?? '', hash, () => {
      if (hash === undefined)
        throw new AuthenticationRequired(
          'This route needs the admin key. Send the key, or log in at /admin/login.',
        );
      if (!this.isAccepted(hash))
        throw new InvalidKey('This is not the admin key. Send ADMIN_API_KEY of the .env file.');
    });
  }

  /** The guard as Express middleware, for routes outside of Nest. It redirects a browser without a login to the login page. */
  readonly middleware = (request: Request, response: Response, next: NextFunction): void => {
    this.assertAdmin(request).then(
      () => next(),
      (error: unknown) => {
        if (error instanceof AuthenticationRequired && request.accepts(['json', 'html']) === 'html') {
          response.redirect(302, loginUrlFor(request.originalUrl));
        } else if (error instanceof Problem) sendProblem(response, error, (request as { id?: string }).id);
        else next(error);
      },
    );
  };
}
