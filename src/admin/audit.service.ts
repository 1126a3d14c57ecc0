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
import { asPlatform } from '../platform/database/isolation.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { type AuditEntry, AuditLog } from '../workspaces/audit-log.js';
import type { AuthenticatedRequest } from '../workspaces/auth.guard.js';

type AuditedRequest = AuthenticatedRequest & {
  id?: string;
  /** The id of what the request has made. */
  createdId?: string;
};

const reading = new Set(['GET', 'HEAD', 'OPTIONS']);
/** A request that is refused again and again is written once in this time. */
const refusalEveryMs = 60_000;
const refusalsKept = 1_000;
/** How long a connection that was closed may take to say so. */
const closingMs = 1_000;
/** Logins by another page of this server; all else that is public changes nothing that is audited. */
const loginPath = /^\/admin\/log(in|out)$/;

/**
 * Who changed what, and who was refused: every request that changes something and that owners or the admin may make, logins,
 * and calls with a key that exists but may not do this, or not now, or not from there. Sending messages is neither, and costs
 * nothing here. No bodies and no secrets: the route's pattern, ids, and what came of it.
 */
@Injectable()
export class AuditService implements NestInterceptor, OnApplicationShutdown {
  /** One after the other, so that the log has the order in which things were done. */
  private writing: Promise<void> = Promise.resolve();
  /** How many requests are not answered yet. */
  private open = 0;
  private onDrained: () => void = () => undefined;
  /** Refusals that have been written a short while ago. */
  private readonly refusals = new LRUCache<string, true>({ max: refusalsKept, ttl: refusalEveryMs });

  constructor(
    @InjectDataSource() private readonly database: DataSource,
    private readonly log: AuditLog,
    @Inject(LOGGER) private readonly logger: Logger,
  ) {}

  /** Express middleware in front of everything, so that no route can be forgotten. */
  readonly watch = (request: AuditedRequest, response: Response, next: NextFunction): void => {
    this.open += 1;
    response.once('close', () => {
      if (this.isAudited(request, response)) {
        const entry = entryOf(request, response);
        this.writing = asPlatform(() => this.writing.then(() => this.write(entry)));
      }
      this.open -= 1;
      if (this.open === 0) this.onDrained();
    });
    next();
  };

  /** Sees the id of what a request makes: only its answer has it. */
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const request = context.switchToHttp().getRequest<AuditedRequest>();
    // A key that takes the place of another is not what the entry is about.
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

  /** Not before: the server answers what it has begun until then, and cuts off the rest, which hears of it a moment later. */
  async onApplicationShutdown(): Promise<void> {
    const drained = new Promise<void>((resolve) => (this.onDrained = resolve));
    if (this.open > 0) await Promise.race([drained, delay(closingMs, undefined, { ref: false })]);
    await this.writing;
  }

  private isAudited(request: AuditedRequest, { statusCode }: Response): boolean {
    const { principal, refusedKey } = request;
    const isRefused = refusedKey !== undefined || (statusCode === 403 && principal !== undefined);
    if (isRefused) return this.isNewRefusal(request, statusCode);
    if (reading.has(request.method)) return false;
    if (loginPath.test(routeOf(request))) return true;
    return principal !== undefined && isForOwners(request);
  }

  /** A client that does not give up would fill the log. */
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
      // The log of the process is what is left then.
      this.logger.error({ err: error, entry }, 'an entry of the audit log could not be written');
    }
  }
}

/** What is written of a request. */
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

/** Whether what a request does is for owners, or the admin, to do. */
function isForOwners({ access, principal }: AuditedRequest): boolean {
  // Pages of the admin are public to the guard and have one of their own, which says that it is the admin.
  return access === 'owner' || access === 'admin' || (access !== 'sender' && principal?.kind === 'admin');
}

/** The pattern of the route that was called: never what somebody has typed. */
function routeOf({ route, baseUrl, originalUrl }: AuditedRequest): string {
  const pattern = (route as { path?: unknown } | undefined)?.path;
  if (typeof pattern === 'string') return `${baseUrl}${pattern}`.slice(0, 300);
  // What is mounted as a whole, as the queue dashboard is.
  return `/${originalUrl.split(/[/?]/).slice(1, 3).join('/')}/*`.slice(0, 300);
}

/** What the request is about: the last id of its path. */
function targetOf({ params }: AuditedRequest): string | null {
  const last = Object.values(params ?? {})
    .filter((value) => typeof value === 'string')
    .at(-1);
  return last === undefined ? null : last.slice(0, 200);
}

/** The workspace that it is about: the one it acts in, or the one that an admin's path names. */
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
