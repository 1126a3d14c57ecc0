import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';

/** An entry says who did what, with which result. It has no bodies and no secrets. */
export interface AuditEntry {
  actor: 'admin' | 'key' | 'unknown';
  keyId?: string | null;
  keyPrefix?: string | null;
  workspaceId?: string | null;
  /** The address of the caller, or `cli`. */
  ip: string;
  /** The HTTP method, or `CLI`. */
  method: string;
  /** The pattern of a route, or the name of a command. */
  route: string;
  targetId?: string | null;
  /** The HTTP status, or 0 if the caller closed the connection before the answer. Always 200 for a command. */
  status: number;
  requestId?: string;
}

/** The log of who changed what. `admin/audit.service.ts` writes the requests, and commands write their own entries. */
@Injectable()
export class AuditLog {
  constructor(@InjectDataSource() private readonly database: DataSource) {}

  /** Adds an entry. */
  async write(entry: AuditEntry): Promise<void> {
    await this.database.query(
      `insert into audit_log (actor, key_id, key_prefix, workspace_id, ip, method, route, target_id, status, request_id)
       values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        entry.actor,
        entry.keyId ?? null,
        entry.keyPrefix ?? null,
        entry.workspaceId ?? null,
        entry.ip,
        entry.method,
        entry.route,
        entry.targetId ?? null,
        entry.status,
        entry.requestId ?? '',
      ],
    );
  }
}
