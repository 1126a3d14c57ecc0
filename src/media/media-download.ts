import type { Request, Response } from 'express';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Problem } from '../platform/errors/problem.js';
import { longTurn } from '../platform/turns.js';
import type { ByteRange } from './media-storage.js';
import type { Media } from './media.entity.js';

export class RangeNotSatisfiable extends Problem {
  constructor(size: number) {
    super(
      416,
      'media.range_not_satisfiable',
      `The range begins after the end of the file, which has ${size} bytes. Ask for a range within the file, or for the whole file.`,
    );
  }
}

/**
 * Answers with a file, or with the requested part of it. A browser must save the file, and never show or run it, because its
 * sender may be malicious.
 * @param open opens the bytes; not called if the answer has no body
 * @throws RangeNotSatisfiable, and the errors of `open`
 */
export async function sendMedia(
  request: Request,
  response: Response,
  media: Media,
  open: (range?: ByteRange) => Promise<Readable>,
): Promise<void> {
  const etag = `"${media.sha256}"`;
  response.attachment(media.filename ?? media.id);
  // `attachment` derives a type from the name, and `set` changes a text type. The type must be that of the bytes.
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
  try {
    await pipeline(bytes, (chunks: AsyncIterable<Buffer>) => inTurns(media.workspaceId, chunks), response);
  } catch (error) {
    // A client that disconnected needs no answer. If the storage fails half-way, the client sees that the answer is truncated.
    if ((error as NodeJS.ErrnoException).code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error;
  }
}

/** Passes each part of a file on when it is the turn of its owner: a hundred downloads do not fill the event loop. */
async function* inTurns(owner: string, chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  for await (const chunk of chunks) {
    await longTurn(owner);
    yield chunk;
  }
}

/** The requested range. A request with several ranges gets the whole file, as HTTP allows. */
function rangeOf(request: Request, size: number, etag: string): ByteRange | 'unsatisfiable' | undefined {
  const condition = request.headers['if-range'];
  if (condition !== undefined && condition !== etag) return undefined;
  const ranges = request.range(size);
  if (ranges === -1) return 'unsatisfiable';
  if (ranges === undefined || ranges === -2 || ranges.type !== 'bytes' || ranges.length !== 1)
    return undefined;
  return ranges[0];
}
