import { Injectable } from '@nestjs/common';
import { InjectDataSource } from '@nestjs/typeorm';
import { DataSource } from 'typeorm';

/** Who did what, and what came of it. No bodies and no secrets. */
export interface AuditEntry {
  actor: 'admin' | 'key' | 'unknown';
  keyId?: string | null;
  keyPrefix?: string | null;
  workspaceId?: string | null;
  /** Where it came from: an address, or `cli`. */
  ip: string;
  /** Of HTTP, or `CLI`. */
  method: string;
  /** The pattern of a route, or the name of a command. */
  route: string;
  targetId?: string | null;
  /** Of HTTP, 0 when nobody was there to hear it; what a command has done is 200. */
  status: number;
  requestId?: string;
}

/** The log of who changed what: requests are written by `admin/audit.service.ts`, commands by themselves. */
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
