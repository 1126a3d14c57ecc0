import { json, type NextFunction, type Request, type RequestHandler, type Response } from 'express';
import { Problem } from '../errors/problem.js';
import type { SignedCalls } from './internal.guard.js';
import { checkJson, defaultCaps, type JsonCaps } from './json-caps.js';

/** More than most requests need: a text of 65,536 characters, each of them escaped, has 400 kB. */
export const maxBodyBytes = 2 ** 20;
/** Enough for the forms and buttons of the admin's pages. */
export const maxFormBytes = 4_096;
/** Reading the rest of a smaller body costs less than a new connection. */
const smallBytes = 65_536;

class BodyTooLarge extends Problem {
  constructor(bytes: number) {
    super(
      413,
      'request.too_large',
      `The body has more than ${bytes} bytes, the limit of this route. Send less in one request. Upload files with POST /media.`,
    );
  }
}

class CharsetUnsupported extends Problem {
  constructor() {
    super(
      415,
      'request.unsupported_media_type',
      'The body must be UTF-8 (RFC 8259). Remove the charset, or send charset=utf-8.',
    );
  }
}

interface JsonBody {
  /** The largest body, in bytes, also after it is decompressed. */
  bytes: number;
  caps?: JsonCaps;
  mustBeObject?: boolean;
  seeBody?: SignedCalls['seeBody'];
}

/** Middleware that reads a JSON body, checks its shape, and parses it. */
export function readJson({
  bytes,
  caps = defaultCaps,
  mustBeObject = false,
  seeBody,
}: JsonBody): RequestHandler {
  const read = json({
    limit: bytes,
    verify: (request, response, body, charset) => {
      if (charset !== 'utf-8') throw new CharsetUnsupported();
      seeBody?.(request, response, body);
      checkJson(body, caps, mustBeObject);
    },
  });
  return (request, response, next) => {
    // Otherwise body-parser reads the whole body before it refuses it.
    if (announcedBytes(request) > bytes && request.headers['transfer-encoding'] === undefined)
      next(new BodyTooLarge(bytes));
    else read(request, response, next);
  };
}

/** Middleware that closes the connection after an answer that came before a large body was read. Otherwise Node would read all of it. */
export function closeUnread(request: Request, response: Response, next: NextFunction): void {
  if (announcedBytes(request) > smallBytes) {
    const writeHead = response.writeHead.bind(response) as (...head: unknown[]) => Response;
    response.writeHead = (...head: unknown[]) => {
      if (!request.complete) response.setHeader('Connection', 'close');
      return writeHead(...head);
    };
  }
  next();
}

/** The size of the body according to the headers. Infinity if they do not tell. */
export function announcedBytes({ headers }: Request): number {
  if (headers['transfer-encoding'] !== undefined) return Infinity;
  return Number(headers['content-length'] ?? 0);
}
