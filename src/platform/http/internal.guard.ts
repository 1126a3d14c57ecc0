import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import type { IncomingMessage } from 'node:http';
import { type CallVerifier, CallRefused, hashBody } from './signed-calls.js';

type SignedRequest = IncomingMessage & {
  /** Set once the signature was found right: the hash that its body must have. */
  signedBodyHash?: string;
  bodyHash?: string;
  /** Set once the body was found to be the one that was signed. */
  isSigned?: boolean;
};

/** What says whether a process lives is open to those that watch it; it tells counts, and nothing of any tenant. */
const openPaths = new Set(['/health', '/health/live', '/health/ready']);

/** Lets only the project's own programs in: {@link signedCalls} has found the call signed with `INTERNAL_API_KEY`. */
@Injectable()
export class InternalGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    if (context.switchToHttp().getRequest<SignedRequest>().isSigned) return true;
    throw new CallRefused('unsigned', 'This is for the other programs of Flotilla only: it must be signed.');
  }
}

/**
 * Closes a whole server but for its health to everybody except the project's own programs, whatever its routes say.
 * @param audience the URL under which the other programs know this server
 * @param isExempt whom to let in without a signature
 */
export function signedCalls(
  verifier: CallVerifier,
  audience: string,
  isExempt: (request: Request) => boolean = () => false,
): SignedCalls {
  return {
    beforeBody: (request: Request & SignedRequest, response: Response, next: NextFunction) => {
      if (openPaths.has(request.path) || isExempt(request)) {
        next();
        return;
      }
      const { method, originalUrl: path } = request;
      try {
        request.signedBodyHash = verifier.verify(request.headers.authorization, { method, audience, path });
      } catch (error) {
        // What a stranger still sends is not waited for.
        response.set('Connection', 'close');
        next(error);
        return;
      }
      next();
    },
    seeBody: (request: SignedRequest, _response, body) => {
      request.bodyHash = hashBody(body);
    },
    afterBody: (request: Request & SignedRequest, _response: Response, next: NextFunction) => {
      if (request.signedBodyHash === undefined) {
        next();
        return;
      }
      request.isSigned = (request.bodyHash ?? hashBody('')) === request.signedBodyHash;
      if (request.isSigned) next();
      else next(new CallRefused('wrong_signature', 'The body is not the one that was signed.'));
    },
  };
}

/** What is to run before, at and after the reading of a JSON body. */
export interface SignedCalls {
  beforeBody: RequestHandler;
  seeBody: (request: IncomingMessage, response: unknown, body: Buffer) => void;
  afterBody: RequestHandler;
}
