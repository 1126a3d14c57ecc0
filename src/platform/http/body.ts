import { isUtf8 } from 'node:buffer';
import { type NextFunction, raw, type Request, type RequestHandler, type Response } from 'express';
import { Problem } from '../errors/problem.js';
import { longTurn } from '../turns.js';
import type { SignedCalls } from './internal.guard.js';
import { checkJson, defaultCaps, type JsonCaps } from './json-caps.js';

/** More than most requests need: a text of 65,536 characters, each of them escaped, has 400 kB. */
export const maxBodyBytes = 2 ** 20;
/** Enough for the forms and buttons of the admin's pages. */
export const maxFormBytes = 4_096;
/** Reading the rest of a smaller body costs less than a new connection, and parsing it takes no more than a few milliseconds. */
const smallBytes = 65_536;

class BodyTooLarge extends Problem {
  constructor(bytes: number) {
    super(
      413,
      'request.too_large',
      `The body has more than ${bytes} bytes, the limit of this route. Send less in one request, and files with POST /media.`,
    );
  }
}

class BodyMalformed extends Problem {
  constructor(reason: string) {
    super(400, 'request.malformed', `The body is not JSON: ${reason}. Correct it.`);
  }
}

class BodyNotUtf8 extends Problem {
  constructor() {
    super(
      400,
      'request.malformed',
      'The body is not UTF-8, and JSON must be UTF-8 (RFC 8259). Encode it as UTF-8, then send it again.',
    );
  }
}

export class BodyTypeUnsupported extends Problem {
  constructor(type: string | undefined) {
    const found = type ? `The Content-Type is ${type.slice(0, 100)}` : 'The body has no Content-Type';
    super(
      415,
      'request.unsupported_media_type',
      `${found}. This route takes JSON: send it with "Content-Type: application/json".`,
    );
  }
}

class CharsetUnsupported extends Problem {
  constructor() {
    super(
      415,
      'request.unsupported_media_type',
      'JSON must be UTF-8 (RFC 8259). Send it with charset=utf-8.',
    );
  }
}

/** What is known about a request when its body is read. */
export type BodyRequest = Request & { workspaceId?: string };

interface JsonBody {
  /** The largest body, in bytes. A compressed body counts decompressed. */
  bytes: number;
  caps?: JsonCaps;
  seeBody?: SignedCalls['seeBody'];
  /** Runs when all bytes of the body are there, before they are parsed; also when there are none. */
  beforeParse?: (response: Response) => Promise<void>;
}

/**
 * Middleware that reads a JSON body, checks its shape before it is parsed, and parses it. A request without a body has the body
 * undefined. A body that other middleware has read stays as it is.
 */
export function readJson({ bytes, caps = defaultCaps, seeBody, beforeParse }: JsonBody): RequestHandler {
  const read = raw({ limit: bytes, type: 'application/json' });
  return (request, response, next) => {
    if (request.body !== undefined) {
      next();
      return;
    }
    const announced = announcedBytes(request);
    if (announced > 0 && !request.is('application/json'))
      throw new BodyTypeUnsupported(request.headers['content-type']);
    // Otherwise body-parser would read the whole body before it refuses it.
    if (announced > bytes && announced !== Infinity) throw new BodyTooLarge(bytes);
    if (announced > smallBytes) readInTurns(request);
    read(request, response, (error?: unknown) => {
      if (error !== undefined) {
        next(error);
        return;
      }
      const body: unknown = request.body;
      if (Buffer.isBuffer(body)) seeBody?.(request, response, body);
      const parse = async () => {
        await beforeParse?.(response);
        if (Buffer.isBuffer(body)) request.body = await parseJson(request, body, caps);
      };
      parse().then(
        () => next(),
        (failure: unknown) => next(failure),
      );
    });
  };
}

/** @throws CharsetUnsupported, BodyNotUtf8, ValidationFailed, BodyMalformed */
async function parseJson(request: BodyRequest, body: Buffer, caps: JsonCaps): Promise<unknown> {
  const charset =
    /;\s*charset\s*=\s*"?([^\s;"]+)/i.exec(request.headers['content-type'] ?? '')?.[1] ?? 'utf-8';
  if (charset.toLowerCase() !== 'utf-8') throw new CharsetUnsupported();
  if (body.length === 0) return undefined;
  if (!isUtf8(body)) throw new BodyNotUtf8();
  const caller = callerOf(request);
  if (body.length > smallBytes) await longTurn(caller);
  checkJson(body, caps);
  try {
    const text = body.toString();
    return JSON.parse(text.startsWith('\ufeff') ? text.slice(1) : text);
  } catch (error) {
    throw new BodyMalformed((error as SyntaxError).message);
  } finally {
    // The validation of a large body takes a turn of its own.
    if (body.length > smallBytes) await longTurn(caller);
  }
}

/** Reads a large body bit by bit, in turns with the work of other callers: gigabytes a second would leave no time for them. */
function readInTurns(request: BodyRequest): void {
  let bytes = 0;
  request.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes < smallBytes) return;
    bytes = 0;
    request.pause();
    void longTurn(callerOf(request)).then(() => request.resume());
  });
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

/** The workspace that a request acts in, otherwise the address that it comes from. */
export function callerOf({ workspaceId, ip = '' }: BodyRequest): string {
  return workspaceId ?? ip;
}
