import { type CanActivate, type ExecutionContext, Inject, Injectable } from '@nestjs/common';
import type { Request } from 'express';
import { timingSafeEqual } from 'node:crypto';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { keyOf } from '../workspaces/auth.guard.js';
import { hashKey } from '../workspaces/api-keys.service.js';
import { AdminGuard } from './admin.guard.js';

/** Lets in who watches, by `METRICS_TOKEN`, so that a monitoring system need not know the admin key; and the admin. */
@Injectable()
export class MetricsGuard implements CanActivate {
  private readonly token: Buffer | undefined;

  constructor(
    @Inject(CONFIG) { metricsToken }: Config,
    private readonly admin: AdminGuard,
  ) {
    if (metricsToken !== undefined) this.token = hashKey(metricsToken);
  }

  canActivate(context: ExecutionContext): boolean | Promise<boolean> {
    const key = keyOf(context.switchToHttp().getRequest<Request>());
    if (key !== undefined && this.token && timingSafeEqual(hashKey(key), this.token)) return true;
    return this.admin.canActivate(context);
  }
}
