import { CanActivate, ExecutionContext, Inject, Injectable } from '@nestjs/common';
import { createHash, timingSafeEqual } from 'node:crypto';
import type { Request } from 'express';
import type { Config } from '../config/config.js';
import { CONFIG } from '../config/config.module.js';
import { Problem } from '../errors/problem.js';

/** Lets only the project's own programs in: they know `INTERNAL_API_KEY`. */
@Injectable()
export class InternalGuard implements CanActivate {
  private readonly expected: Buffer;

  constructor(@Inject(CONFIG) config: Config) {
    this.expected = digest(`Bearer ${config.internalApiKey}`);
  }

  canActivate(context: ExecutionContext): boolean {
    const { headers } = context.switchToHttp().getRequest<Request>();
    if (timingSafeEqual(digest(headers.authorization ?? ''), this.expected)) return true;
    throw new Problem(401, 'auth.required', 'This is for the other programs of Flotilla only.');
  }
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
