import type { Response } from 'express';

/** Sends a picture. A stranger made it, so the headers make a browser show it as a picture or not at all. */
export function sendPicture(response: Response, type: string, bytes: Buffer): void {
  response
    .set({ 'Cache-Control': 'private, max-age=300', 'X-Content-Type-Options': 'nosniff' })
    .type(type)
    .send(bytes);
}
