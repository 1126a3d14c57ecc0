import { type CanActivate, type ExecutionContext, Injectable, SetMetadata } from '@nestjs/common';
import { ROUTE_ARGS_METADATA } from '@nestjs/common/constants.js';
import { RouteParamtypes } from '@nestjs/common/enums/route-paramtypes.enum.js';
import type { NextFunction, RequestHandler, Response } from 'express';
import { announcedBytes, type BodyRequest, maxBodyBytes, readJson } from './body.js';
import { defaultCaps, type JsonCaps } from './json-caps.js';
import { FairShare } from './fair-share.js';
import { UnreadResponses } from './unread-responses.js';

const RULE = 'flotilla:body';

/** The size and the shape of the largest body of a route. */
interface BodyRule {
  bytes: number;
  caps: JsonCaps;
}

/** Lets a route take another body than most routes. Caps that are left out are the default. */
export const TakesBody = (bytes: number, caps: Partial<JsonCaps>) =>
  SetMetadata(RULE, { bytes, caps: { ...defaultCaps, ...caps } } satisfies BodyRule);

/**
 * Reads the JSON body of a route that declares `@Body`, and no other body. It is the last guard: the route, the key, the
 * role, and the limits of the address and of the key are checked before a byte of the body is read. When the body is there, the
 * request waits for its turn: what follows is the work for it.
 */
@Injectable()
export class BodyGuard implements CanActivate {
  private readonly readers = new WeakMap<object, RequestHandler | null>();

  constructor(
    private readonly unread: UnreadResponses,
    private readonly share: FairShare,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const handler = context.getHandler();
    let reader = this.readers.get(handler);
    if (reader === undefined) {
      reader = readerOf(handler, context.getClass(), (response) => this.takeTurn(response));
      this.readers.set(handler, reader);
    }
    const http = context.switchToHttp();
    const response = http.getResponse<Response>();
    if (reader === null) await this.takeTurn(response);
    else await this.read(reader, http.getRequest<BodyRequest>(), response);
    return true;
  }

  /** @throws ClientGone, TooMuchUnread */
  private async takeTurn(response: Response): Promise<void> {
    const owner = this.unread.ownerOf(response);
    // A public route does no work for anybody.
    if (owner === undefined) return;
    await this.share.enter(owner, response);
    this.unread.assertRoom(owner);
  }

  /** @throws TooMuchUnread if the open requests of the caller have too many bytes; and the errors of the middleware */
  private read(middleware: RequestHandler, request: BodyRequest, response: Response): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      const next: NextFunction = (error?: unknown) =>
        error === undefined ? resolve() : reject(error as Error);
      void middleware(request, response, next);
      // Its headers do not tell its size, so its bytes count as they come.
      if (announcedBytes(request) === Infinity)
        request.on('data', (chunk: Buffer) => {
          try {
            this.unread.addBytes(response, chunk.length);
          } catch (error) {
            reject(error as Error);
          }
        });
    });
  }
}

/** Reads the body for a handler. Null: the handler has no parameter for a body. */
function readerOf(
  handler: object & { name: string },
  controller: object,
  beforeParse: (response: Response) => Promise<void>,
): RequestHandler | null {
  const parameters = (Reflect.getMetadata(ROUTE_ARGS_METADATA, controller, handler.name) ?? {}) as object;
  if (!Object.keys(parameters).some((key) => key.startsWith(`${RouteParamtypes.BODY}:`))) return null;
  const rule = Reflect.getMetadata(RULE, handler) as BodyRule | undefined;
  const { bytes, caps } = rule ?? { bytes: maxBodyBytes, caps: defaultCaps };
  return readJson({ bytes, caps, beforeParse });
}
