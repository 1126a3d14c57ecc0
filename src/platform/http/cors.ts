import cors from 'cors';
import type { RequestHandler } from 'express';

/**
 * Lets the pages of these origins call the API from a browser, and read the headers that a caller needs. Without cookies: a
 * key is sent by who has it, so that no page can act with the login of somebody else.
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
