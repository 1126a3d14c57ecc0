import {
  type CallHandler,
  type ExecutionContext,
  Inject,
  Injectable,
  type NestInterceptor,
  type OnApplicationShutdown,
} from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import type { NextFunction, Response } from 'express';
import { setTimeout as delay } from 'node:timers/promises';
import { LRUCache } from 'lru-cache';
import { type Observable, tap } from 'rxjs';
import { DataSource } from 'typeorm';
import type { AuditLogResponse, ListLogsQuery } from '../instances/logs.dto.js';
import { asPlatform } from '../platform/context.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { type AuditEntry, AuditLog } from '../workspaces/audit-log.js';
import type { AuthenticatedRequest } from '../workspaces/auth.guard.js';

type AuditedRequest = AuthenticatedRequest & {
  id?: string;
  /** The id of the object that the request has created. */
  createdId?: string;
};

const safeMethods = new Set(['GET', 'HEAD', 'OPTIONS']);
/** A request that is refused repeatedly is written once in this time. */
const refusalEveryMs = 60_000;
const refusalsKept = 1_000;
/** The maximum time between the cut of a connection and its close event. */
const closeTimeoutMs = 1_000;
/** The logins of browsers. No other public route changes something that is audited. */
const loginPath = /^\/admin\/log(in|out)$/;

/**
 * Records who changed what, and who was refused:
 * - every changing request to a route for owners or the admin;
 * - logins;
 * - calls with an existing key that may not do this, may not be used now, or may not be used from that address.
 *
 * Requests that send messages are not recorded and cost nothing here. An entry has the pattern of the route, ids and the
 * status. It has no bodies and no secrets.
 */
@Injectable()
export class AuditService implements NestInterceptor, OnApplicationShutdown {
  /** Entries are written one after the other, so that the log keeps the order of the requests. */
  private writing: Promise<void> = Promise.resolve();
  /** The number of requests without an answer. */
  private openRequests = 0;
  private onDrained: () => void = () => undefined;
  /** Refusals that have been written a short while ago. */
  private readonly refusals = new LRUCache<string, true>({ max: refusalsKept, ttl: refusalEveryMs });

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly log: AuditLog,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /** Express middleware in front of all routes, so that none can be forgotten. */
  readonly watch = (request: AuditedRequest, response: Response, next: NextFunction): void => {
    this.openRequests += 1;
    response.once('close', () => {
      if (this.isAudited(request, response)) {
        const entry = entryOf(request, response);
        this.writing = asPlatform(() => this.writing.then(() => this.write(entry)));
      }
      this.openRequests -= 1;
      if (this.openRequests === 0) this.onDrained();
    });
    next();
  };

  /** Reads the id of a created object from the answer, because only the answer has it. */
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = context.switchToHttp().getRequest<AuditedRequest>();
    // The entry of a rotation is about the old key, not about the new one.
    if (request.method !== 'POST' || !isForOwners(request) || routeOf(request).endsWith('/rotate'))
      return next.handle();
    return next.handle().pipe(
      tap((answer: unknown) => {
        const id = (answer as { id?: unknown } | null | undefined)?.id;
        if (typeof id === 'string') request.createdId = id;
      }),
    );
  }

  /** Up to `limit + 1` entries, newest first. */
  async list(query: ListLogsQuery): Promise<AuditLogResponse[]> {
    const rows: {
      id: string;
      workspaceId: string | null;
      method: string;
      route: string;
      details: Record<string, unknown>;
      createdAt: Date;
    }[] = await this.database.query(
      `select id::text, workspace_id as "workspaceId", method, route, created_at as "createdAt",
         jsonb_build_object('actor', actor, 'keyId', key_id, 'keyPrefix', key_prefix, 'ip', ip, 'method', method,
           'route', route, 'targetId', target_id, 'status', status, 'requestId', request_id) as details
       from audit_log
       where ($2::bigint is null or id < $2) and ($3::uuid is null or workspace_id = $3)
         and ($4::timestamptz is null or created_at >= $4) and ($5::text is null or target_id = $5)
       order by audit_log.id desc limit $1`,
      [
        query.limit + 1,
        query.cursor,
        query.workspaceId,
        query.since && new Date(query.since),
        query.accountId ?? query.instanceId ?? query.serverId,
      ],
    );
    return rows.map(({ id, workspaceId, method, route, details, createdAt }) => ({
      id,
      serverId: null,
      instanceId: null,
      workspaceId,
      accountId: null,
      type: 'audit',
      message: `${method} ${route}`,
      details,
      createdAt: createdAt.toISOString(),
    }));
  }

  /**
   * Waits for the last entries. An earlier hook would be too early: until now the server answers running requests, then it
   * cuts the other connections, and their close events follow a moment later.
   */
  async onApplicationShutdown(): Promise<void> {
    const drained = new Promise<void>((resolve) => (this.onDrained = resolve));
    if (this.openRequests > 0)
      await Promise.race([drained, delay(closeTimeoutMs, undefined, { ref: false })]);
    await this.writing;
  }

  private isAudited(request: AuditedRequest, { statusCode }: Response): boolean {
    const { principal, refusedKey } = request;
    const isRefused = refusedKey !== undefined || (statusCode === 403 && principal !== undefined);
    if (isRefused) return this.isNewRefusal(request, statusCode);
    if (safeMethods.has(request.method)) return false;
    if (loginPath.test(routeOf(request))) return true;
    return principal !== undefined && isForOwners(request);
  }

  /** Repeated refusals are recorded only now and then. Otherwise a client that does not give up would fill the log. */
  private isNewRefusal(request: AuditedRequest, statusCode: number): boolean {
    const { principal, refusedKey, ip, method } = request;
    const who = refusedKey?.id ?? (principal?.kind === 'workspace' ? principal.keyId : 'admin');
    const what = `${who} ${statusCode} ${ip} ${method} ${routeOf(request)}`;
    if (this.refusals.has(what)) return false;
    this.refusals.set(what, true);
    return true;
  }

  private async write(entry: AuditEntry): Promise<void> {
    try {
      await this.log.write(entry);
    } catch (error) {
      // The log of the process keeps the entry instead.
      this.logger.error({ err: error, entry }, 'could not write an audit entry');
    }
  }
}

/** The audit entry of a request. */
function entryOf(request: AuditedRequest, response: Response): AuditEntry {
  const { principal, refusedKey } = request;
  const key = principal?.kind === 'workspace' ? principal : undefined;
  const isAdmin =
    principal?.kind === 'admin' || (loginPath.test(routeOf(request)) && response.statusCode < 400);
  const actor = key || refusedKey ? 'key' : isAdmin ? 'admin' : 'unknown';
  return {
    actor,
    keyId: key?.keyId ?? refusedKey?.id,
    keyPrefix: key?.keyPrefix ?? refusedKey?.prefix,
    workspaceId: workspaceOf(request),
    ip: request.ip ?? '',
    method: request.method,
    route: routeOf(request),
    targetId: request.createdId ?? targetOf(request),
    status: response.headersSent ? response.statusCode : 0,
    requestId: request.id,
  };
}

/** Whether only owners or the admin may make a request. */
function isForOwners({ access, principal }: AuditedRequest): boolean {
  // The admin's pages are public for AuthGuard. AdminGuard protects them and sets the principal.
  return access === 'owner' || access === 'admin' || (access !== 'sender' && principal?.kind === 'admin');
}

/** The pattern of the called route. It never holds the path that the caller sent. */
function routeOf({ route, baseUrl, originalUrl }: AuditedRequest): string {
  const pattern = (route as { path?: unknown } | undefined)?.path;
  if (typeof pattern === 'string') return `${baseUrl}${pattern}`.slice(0, 300);
  // An application that is mounted as a whole, such as the queue dashboard, has no route patterns.
  return `/${originalUrl.split(/[/?]/).slice(1, 3).join('/')}/*`.slice(0, 300);
}

/** The object of the request: the last id of its path. */
function targetOf({ params }: AuditedRequest): string | null {
  const last = Object.values(params ?? {})
    .filter((value) => typeof value === 'string')
    .at(-1);
  return last === undefined ? null : last.slice(0, 200);
}

/** The workspace of the request: the workspace that it acts in, or the workspace in the path of an admin's request. */
function workspaceOf(request: AuditedRequest): string | null {
  const { workspaceId, refusedKey, principal, params, createdId } = request;
  if (workspaceId) return workspaceId;
  if (refusedKey) return refusedKey.workspaceId;
  if (principal?.kind === 'workspace') return principal.workspaceId;
  const isOfWorkspaces = /\/workspaces(\/|$)/.test(routeOf(request));
  const id = isOfWorkspaces ? (params?.id ?? createdId) : undefined;
  return typeof id === 'string' && uuid.test(id) ? id : null;
}

const uuid = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;
