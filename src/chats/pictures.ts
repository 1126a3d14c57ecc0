import type { Response } from 'express';

/** A stranger made it: a browser is to show it as a picture or not at all. */
export function sendPicture(response: Response, type: string, bytes: Buffer): void {
  response
    .set({ 'Cache-Control': 'private, max-age=300', 'X-Content-Type-Options': 'nosniff' })
    .type(type)
    .send(bytes);
}
