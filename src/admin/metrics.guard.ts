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

/** Accepts `METRICS_TOKEN`, so that a monitoring system needs no admin key. It also accepts the admin. */
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

  /** Sets no principal, because a caller with the token is not the admin. */
  override async canActivate(context: ExecutionContext): Promise<boolean> {
    await this.assertKeyOrLogin(context.switchToHttp().getRequest<Request>());
    return true;
  }

  protected override isAccepted(hash: Buffer): boolean {
    return (this.token !== undefined && timingSafeEqual(hash, this.token)) || super.isAccepted(hash);
  }
}
