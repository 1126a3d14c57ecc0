import { type CanActivate, type ExecutionContext, Injectable } from '@nestjs/common';
import type { NextFunction, Request, RequestHandler, Response } from 'express';
import type { IncomingMessage } from 'node:http';
import { type CallVerifier, CallRefused, CallUnsigned, hashBody } from './signed-calls.js';

type SignedRequest = IncomingMessage & {
  /** The hash that the body must have. Set once the signature is verified. */
  signedBodyHash?: string;
  bodyHash?: string;
  /** Whether the body has the signed hash. Set once the body is read. */
  isSigned?: boolean;
};

/** Health routes need no signature, so that monitors can call them. They return counts, and nothing about a tenant. */
const openPaths = new Set(['/health', '/health/live', '/health/ready']);

/** Allows only calls that {@link signedCalls} has verified: the programs of Flotilla sign them with `INTERNAL_API_KEY`. */
@Injectable()
export class InternalGuard implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    if (context.switchToHttp().getRequest<SignedRequest>().isSigned) return true;
    throw new CallUnsigned();
  }
}

/**
 * Middleware that closes a whole server, except its health routes, to all callers but the programs of Flotilla.
 * @param audience the URL under which the other programs know this server
 * @param isExempt whether a request needs no signature
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
        // The server does not read the rest of a stranger's request.
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
      else next(new CallRefused('wrong_signature', 'The body differs from the signed body.'));
    },
  };
}

/** Middleware before, during and after the reading of a JSON body. */
export interface SignedCalls {
  beforeBody: RequestHandler;
  seeBody: (request: IncomingMessage, response: unknown, body: Buffer) => void;
  afterBody: RequestHandler;
}
