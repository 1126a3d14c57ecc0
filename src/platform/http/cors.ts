import cors from 'cors';
import type { RequestHandler } from 'express';

/**
 * Allows the pages of these origins to call the API from a browser and to read the headers that a caller needs. Cookies are not
 * allowed: a page must send a key, so it cannot use the login of another user.
 */
export function allowOrigins(origins: string[]): RequestHandler {
  return cors({
    origin: origins,
    credentials: false,
    methods: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE'],
    allowedHeaders: [
      'Authorization',
      'X-Api-Key',
      'Content-Type',
      'Idempotency-Key',
      'Last-Event-ID',
      'X-Request-Id',
    ],
    exposedHeaders: [
      'Location',
      'Retry-After',
      'RateLimit',
      'RateLimit-Policy',
      'X-Request-Id',
      'ETag',
      'Content-Disposition',
    ],
    maxAge: 600,
  });
}
