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
import type { Request, Response } from 'express';
import { isolate, isolatedTo } from '../platform/database/isolation.js';
import { Problem, ValidationFailed } from '../platform/errors/problem.js';
import { setDefaultCountry } from '../platform/http/phone-number.js';
import { PacedRefusals } from '../platform/http/paced-refusals.js';
import { UnreadResponses } from '../platform/http/unread-responses.js';
import { keyRoles, type KeyRole } from './api-key.entity.js';
import { hashKey } from './api-keys.service.js';
import {
  AuthenticationService,
  InvalidKey,
  type KnownKey,
  ownerOf,
  type Principal,
} from './authentication.service.js';
import { RateLimits } from './rate-limits.js';
import { WorkspacesService } from './workspaces.service.js';

export type Access = 'public' | 'admin' | KeyRole;

/** A request, with the results of the guard. */
export type AuthenticatedRequest = Request & {
  /** Who may call the route. */
  access?: Access;
  principal?: Principal;
  /** The hash of the key that it carries. */
  keyHash?: Buffer;
  /** An existing key that was refused. */
  refusedKey?: KnownKey;
  workspaceId?: string;
};

const ACCESS = 'flotilla:access';

/** Declares who may call a route. A route without this decorator is for the admin only. */
export const Allow = (access: Access) => SetMetadata(ACCESS, access);

/** The declared access of a route; undefined without a declaration. */
export function accessOf(handler: object, controller: object): Access | undefined {
  return (Reflect.getMetadata(ACCESS, handler) ?? Reflect.getMetadata(ACCESS, controller)) as
    Access | undefined;
}

/** The workspace that the request acts in: the workspace of the key, or the workspace that an admin names with `?workspaceId=`. */
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

/** As {@link WorkspaceId}, but undefined if an admin names no workspace. Then the request is about all workspaces. */
export const WorkspaceIdOrAll = createParamDecorator(
  (_data: unknown, context: ExecutionContext): string | undefined => {
    const { workspaceId } = context.switchToHttp().getRequest<AuthenticatedRequest>();
    assertIsolated(workspaceId);
    return workspaceId;
  },
);

/** Code that lost the context of the request would read the rows of all workspaces. An error is better than that answer. */
function assertIsolated(workspaceId: string | undefined): void {
  if (isolatedTo() !== (workspaceId ?? null))
    throw new Error('The request has lost its isolation to a workspace.');
}

/** The principal of the request. */
export const Caller = createParamDecorator((_data: unknown, context: ExecutionContext): Principal => {
  const { principal } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  if (!principal) throw new Error('A public route has no caller.');
  return principal;
});

/** Whether the caller may link accounts, and may see the codes for linking. */
export const MayLink = createParamDecorator((_data: unknown, context: ExecutionContext): boolean => {
  const { principal } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  return principal?.kind === 'admin' || principal?.role === 'owner';
});

export class RoleInsufficient extends Problem {
  constructor(needed: Access) {
    super(
      403,
      'auth.insufficient_role',
      `This key may not call this route. Use ${needed === 'admin' ? 'the admin key' : `a key with the role ${needed}`}.`,
    );
  }
}

/** The key of a workspace named another workspace, so its caller expects to act there. */
export class OtherWorkspace extends Problem {
  constructor(workspaceId: string) {
    super(
      403,
      'auth.other_workspace',
      `This key belongs to another workspace than ${workspaceId}. Leave out workspaceId, or use a key of that workspace or the admin key.`,
    );
  }
}

/** Closes every route that is not public: the caller needs a key with a sufficient role. */
@Injectable()
export class AuthGuard implements CanActivate, OnApplicationBootstrap {
  private readonly refusals = new PacedRefusals();

  constructor(
    private readonly reflector: Reflector,
    private readonly authentication: AuthenticationService,
    private readonly workspaces: WorkspacesService,
    private readonly limits: RateLimits,
    private readonly unread: UnreadResponses,
  ) {}

  onApplicationBootstrap(): void {
    // Before the first event stream starts: when listening starts or breaks, every key may have changed, and streams end.
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
    await this.count(principal, context.switchToHttp().getResponse<Response>());
    request.principal = principal;
    this.unread.enter(ownerOf(principal), context.switchToHttp().getResponse<Response>());
    const named = workspaceIdOf(request);
    if (principal.kind === 'admin') {
      request.workspaceId = named;
      if (request.workspaceId !== undefined)
        setDefaultCountry((await this.workspaces.get(request.workspaceId)).defaultCountry);
    } else {
      if (needed === 'admin' || keyRoles.indexOf(principal.role) > keyRoles.indexOf(needed))
        throw new RoleInsufficient(needed);
      if (named !== undefined && named.toLowerCase() !== principal.workspaceId)
        throw new OtherWorkspace(named);
      request.workspaceId = principal.workspaceId;
      setDefaultCountry(principal.defaultCountry);
    }
    // Routes for the admin are about all workspaces. There `workspaceId` is only a filter.
    if (needed !== 'admin' && request.workspaceId !== undefined) isolate(request.workspaceId);
    return true;
  }

  /** Counts the request. A refusal is told a little later, so that refusing costs less than what is refused. @throws RateLimitExceeded */
  private async count(principal: Principal, response: Response): Promise<void> {
    try {
      this.limits.count(principal, response);
    } catch (error) {
      await this.refusals.next(ownerOf(principal));
      throw error;
    }
  }

  /** @throws AuthenticationRequired, InvalidKey, RateLimitExceeded */
  private async identify(request: AuthenticatedRequest): Promise<Principal> {
    const hash = keyHashOf(request);
    const ip = request.ip ?? '';
    try {
      return await this.limits.limitGuesses(ip, hash, () => this.authentication.authenticate(hash, ip));
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

/** The hash of the API key that a request carries. It is computed once per request. */
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
