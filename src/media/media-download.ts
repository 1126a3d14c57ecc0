import type { Request, Response } from 'express';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Problem } from '../platform/errors/problem.js';
import type { ByteRange } from './media-storage.js';
import type { Media } from './media.entity.js';

export class RangeNotSatisfiable extends Problem {
  constructor(size: number) {
    super(416, 'media.range_not_satisfiable', `The file has ${size} bytes, and the range lies beyond them.`);
  }
}

/** How long somebody may take in nothing of a file before the connection is closed: it holds a file or a transfer open. */
const stalledMs = 60_000;

/**
 * Answers with a file, or the part of it that is asked for. It is always something to save, never something that a browser shows
 * or runs: whoever sent it may mean harm.
 * @param open the bytes; not called when there are none to send
 * @throws RangeNotSatisfiable, and whatever `open` fails with
 */
export async function sendMedia(
  request: Request,
  response: Response,
  media: Media,
  open: (range?: ByteRange) => Promise<Readable>,
  longestStallMs = stalledMs,
): Promise<void> {
  const etag = `"${media.sha256}"`;
  response.attachment(media.filename ?? media.id);
  // What `attachment` makes of the name's ending, and `set` of a type of text, is not what the bytes say.
  response.setHeader('Content-Type', media.mimetype);
  response.set({
    ETag: etag,
    'Last-Modified': media.createdAt.toUTCString(),
    'Accept-Ranges': 'bytes',
    'Cache-Control': 'private, no-cache',
    'X-Content-Type-Options': 'nosniff',
    'Content-Security-Policy': `default-src 'none'; sandbox`,
  });
  if (request.fresh) {
    response.removeHeader('Content-Type');
    response.status(304).end();
    return;
  }
  const range = rangeOf(request, media.size, etag);
  if (range === 'unsatisfiable') {
    response.removeHeader('Content-Disposition');
    response.set('Content-Range', `bytes */${media.size}`);
    throw new RangeNotSatisfiable(media.size);
  }
  if (range) response.status(206).set('Content-Range', `bytes ${range.start}-${range.end}/${media.size}`);
  response.set('Content-Length', String(range ? range.end - range.start + 1 : media.size));
  if (request.method === 'HEAD') {
    response.end();
    return;
  }
  const bytes = await open(range).catch((error: unknown) => {
    for (const name of response.getHeaderNames()) if (name !== 'x-request-id') response.removeHeader(name);
    throw error;
  });
  response.setTimeout(longestStallMs, () => response.destroy());
  try {
    await pipeline(bytes, response);
  } catch (error) {
    // Who went away needs no answer. Of a storage that fails half-way the missing rest of the connection tells.
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
  }
}

/** The one range that is asked for; several at once are answered with the whole, as they may be. */
function rangeOf(request: Request, size: number, etag: string): ByteRange | 'unsatisfiable' | undefined {
  const condition = request.headers['if-range'];
  if (condition !== undefined && condition !== etag) return undefined;
  const ranges = request.range(size);
  if (ranges === -1) return 'unsatisfiable';
  if (ranges === undefined || ranges === -2 || ranges.type !== 'bytes' || ranges.length !== 1)
    return undefined;
  return ranges[0];
}
