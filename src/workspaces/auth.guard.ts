import {
  CanActivate,
  createParamDecorator,
  ExecutionContext,
  Injectable,
  type OnApplicationBootstrap,
  SetMetadata,
} from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import { isUUID } from 'class-validator';
import type { NextFunction, Request, Response } from 'express';
import { isolate, isolatedTo } from '../platform/database/isolation.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { keyRoles, type KeyRole } from './api-key.entity.js';
import { hashKey } from './api-keys.service.js';
import {
  AuthenticationService,
  InvalidKey,
  type KnownKey,
  type Principal,
} from './authentication.service.js';
import { RateLimits } from './rate-limits.js';
import { WorkspacesService } from './workspaces.service.js';

export type Access = 'public' | 'admin' | KeyRole;

/** A request, and what the guard has found out about it. */
export type AuthenticatedRequest = Request & {
  /** Who may call the route. */
  access?: Access;
  principal?: Principal;
  /** Of the key that it carries. */
  keyHash?: Buffer;
  /** The key of a caller who was refused although it exists. */
  refusedKey?: KnownKey;
  workspaceId?: string;
};

const ACCESS = 'flotilla:access';
/** Bytes that anybody may have us read. */
const smallBody = 65_536;

/** Says who may call a route. A route that says nothing is the admin's alone. */
export const Allow = (access: Access) => SetMetadata(ACCESS, access);

/** What a route says of who may call it; undefined when it says nothing. */
export function accessOf(handler: object, controller: object): Access | undefined {
  return (Reflect.getMetadata(ACCESS, handler) ?? Reflect.getMetadata(ACCESS, controller)) as
    Access | undefined;
}

/** The workspace that the request acts in: the key's own, or the one an admin names with `?workspaceId=`. */
export const WorkspaceId = createParamDecorator((_data: unknown, context: ExecutionContext): string => {
  const { workspaceId } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  if (!workspaceId) {
    throw new ValidationFailed([
      { path: 'workspaceId', message: 'an admin key must name a workspace: ?workspaceId=' },
    ]);
  }
  assertIsolated(workspaceId);
  return workspaceId;
});

/** The same, but of an admin who names none undefined: all of them. */
export const WorkspaceIdOrAll = createParamDecorator(
  (_data: unknown, context: ExecutionContext): string | undefined => {
    const { workspaceId } = context.switchToHttp().getRequest<AuthenticatedRequest>();
    assertIsolated(workspaceId);
    return workspaceId;
  },
);

/** Whatever lost the request's context would read as Flotilla itself: rather no answer than one of all workspaces. */
function assertIsolated(workspaceId: string | undefined): void {
  if (isolatedTo() !== (workspaceId ?? null))
    throw new Error('The request has lost the workspace that it was isolated to.');
}

/** Who makes the request. */
export const Caller = createParamDecorator((_data: unknown, context: ExecutionContext): Principal => {
  const { principal } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  if (!principal) throw new Error('Only a route that is not public has a caller.');
  return principal;
});

/** Whether the caller may link accounts, and so see the codes by which that is done. */
export const MayLink = createParamDecorator((_data: unknown, context: ExecutionContext): boolean => {
  const { principal } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  return principal?.kind === 'admin' || principal?.role === 'owner';
});

export class RoleInsufficient extends Problem {
  constructor(needed: Access) {
    super(
      403,
      'auth.insufficient_role',
      `This needs ${needed === 'admin' ? 'the admin key' : `a key with role ${needed}`}.`,
    );
  }
}

/** Closes every route: public ones say so, the others need a key whose role suffices. */
@Injectable()
export class AuthGuard implements CanActivate, OnApplicationBootstrap {
  constructor(
    private readonly reflector: Reflector,
    private readonly authentication: AuthenticationService,
    private readonly workspaces: WorkspacesService,
    private readonly limits: RateLimits,
  ) {}

  onApplicationBootstrap(): void {
    // Before there is a stream: what may have gone unheard ends those that there are.
    this.authentication.listen();
  }

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const needed =
      this.reflector.getAllAndOverride<Access | undefined>(ACCESS, [
        context.getHandler(),
        context.getClass(),
      ]) ?? 'admin';
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    request.access = needed;
    if (needed === 'public') return true;
    const principal = await this.identify(request);
    await this.limits.count(principal, context.switchToHttp().getResponse<Response>());
    request.principal = principal;
    if (principal.kind === 'admin') {
      request.workspaceId = workspaceIdOf(request);
      if (request.workspaceId !== undefined) await this.workspaces.get(request.workspaceId);
    } else {
      if (needed === 'admin' || keyRoles.indexOf(principal.role) > keyRoles.indexOf(needed))
        throw new RoleInsufficient(needed);
      request.workspaceId = principal.workspaceId;
    }
    // The admin's own routes are about all workspaces; naming one there is a filter.
    if (needed !== 'admin' && request.workspaceId !== undefined) isolate(request.workspaceId);
    return true;
  }

  /** Refuses a stranger before a large body of his is read; small ones are not worth the question. */
  readonly beforeLargeBody = (request: Request, response: Response, next: NextFunction): void => {
    const isSmall = Number(request.headers['content-length'] ?? 0) <= smallBody;
    if (isSmall && request.headers['transfer-encoding'] === undefined) next();
    else {
      this.identify(request).then(
        () => next(),
        (error: unknown) => {
          // What a stranger still sends is not waited for.
          response.set('Connection', 'close');
          next(error);
        },
      );
    }
  };

  /** @throws AuthenticationRequired, InvalidKey, RateLimitExceeded */
  private async identify(request: AuthenticatedRequest): Promise<Principal> {
    const hash = keyHashOf(request);
    const ip = request.ip ?? '';
    try {
      return await this.limits.guess(ip, hash, () => this.authentication.authenticate(hash, ip));
    } catch (error) {
      if (error instanceof InvalidKey) request.refusedKey = error.key;
      throw error;
    }
  }
}

/** The API key that a request carries. */
export function keyOf(request: Request): string | undefined {
  const bearer = /^Bearer\s+(\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
  const header = request.headers['x-api-key'];
  return bearer ?? (typeof header === 'string' ? header : undefined);
}

/** The hash of the API key that a request carries, made once. */
export function keyHashOf(request: AuthenticatedRequest): Buffer | undefined {
  if (request.keyHash) return request.keyHash;
  const key = keyOf(request);
  if (key) request.keyHash = hashKey(key);
  return request.keyHash;
}

function workspaceIdOf(request: Request): string | undefined {
  const { workspaceId } = request.query;
  if (workspaceId === undefined) return undefined;
  if (typeof workspaceId === 'string' && isUUID(workspaceId)) return workspaceId;
  throw new ValidationFailed([{ path: 'workspaceId', message: 'must be a UUID' }]);
}
