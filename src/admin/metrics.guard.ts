import { type ExecutionContext, Inject, Injectable } from '@nestjs/common';
import type { Request } from 'express';
import { timingSafeEqual } from 'node:crypto';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { hashKey } from '../workspaces/api-keys.service.js';
import { AuthenticationService } from '../workspaces/authentication.service.js';
import { RateLimits } from '../workspaces/rate-limits.js';
import { AdminGuard } from './admin.guard.js';
import { AdminSession } from './admin-session.js';

/** Lets in who watches, by `METRICS_TOKEN`, so that a monitoring system need not know the admin key; and the admin. */
@Injectable()
export class MetricsGuard extends AdminGuard {
  private readonly token: Buffer | undefined;

  constructor(
    session: AdminSession,
    authentication: AuthenticationService,
    limits: RateLimits,
    @Inject(CONFIG) { metricsToken }: Config,
  ) {
    super(session, authentication, limits);
    if (metricsToken !== undefined) this.token = hashKey(metricsToken);
  }

  /** Who has only the token is not the admin: nothing is said of who it is. */
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    await this.assertKeyOrLogin(context.switchToHttp().getRequest<Request>());
    return true;
  }

  protected override isRight(hash: Buffer): boolean {
    return (this.token !== undefined && timingSafeEqual(hash, this.token)) || super.isRight(hash);
  }
}
